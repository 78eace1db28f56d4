"""Binding a service's address, and saying on this host where it is; for the gateway and the model server."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from millrace import errors

BACKLOG = 2048


def bind(host: str, port: int, *, variable: str) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Args:
        host: An address of this host.
        port: 0 to 65535.
        variable: Where both come from, such as `MILLRACE_GATEWAY`, for messages.

    Raises:
        Conflict: The port is taken.
        Unauthorized: The port needs privileges.
        InvalidInput: The address is not this host's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refused(error, host, port, variable) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """How this host reaches a bound socket."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def announced(home: Path, name: str, url: str) -> Iterator[None]:
    """Keep `run/<name>.json` under the home while serving: how commands and scripts on this host find the service.

    Raises:
        InvalidInput: The home cannot be written to.
    """
    path = home / "run" / f"{name}.json"
    body = json.dumps({"url": url, "pid": os.getpid()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{name}.{os.getpid()}")
        scratch.write_text(body, encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        raise errors.InvalidInput(
            f"Cannot write {path}: {error.strerror}.", field="MILLRACE_HOME",
            remedy="Give a directory one may write to.",
        ) from None  # fmt: skip
    try:
        yield
    finally:
        with suppress(OSError):
            if path.read_text(encoding="utf-8") == body:  # another one of this home may have taken its place
                path.unlink()


def _refused(error: OSError, host: str, port: int, variable: str) -> errors.MillraceError:
    if error.errno == errno.EADDRINUSE:
        return errors.Conflict(
            f"Port {port} of {host} is taken.", field=f"{variable}_PORT",
            remedy="Stop what uses it, set another port, or 0 for a free one.",
        )  # fmt: skip
    if error.errno == errno.EACCES:
        return errors.Unauthorized(
            f"Port {port} needs privileges.", field=f"{variable}_PORT", remedy="Use one above 1023."
        )
    return errors.InvalidInput(
        f"Cannot bind {host!r}: {error.strerror or error}.", field=f"{variable}_HOST",
        remedy="Use an address of this host, such as 127.0.0.1 or 0.0.0.0.",
    )  # fmt: skip
