"""The gateway's process: bind, announce the address, serve until told to stop."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from millrace import errors
from millrace.settings import load_settings
from millrace_gateway.app import create_api
from millrace_gateway.backends import open_backends
from millrace_gateway.edge import Edge
from millrace_gateway.settings import GatewaySettings

BACKLOG = 2048
GRACE_S = 10
"""How long open requests may go on after a stop was asked for; streams end at once."""


def main(argv: Sequence[str] = ()) -> int:
    """Serve the API until told to stop. Takes no arguments: settings come from the environment."""
    if argv:
        raise errors.InvalidInput(f"The gateway takes no arguments; found {' '.join(argv)!r}.")
    serve(load_settings(GatewaySettings))
    return 0


def serve(settings: GatewaySettings) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        Conflict: The port is taken.
        InvalidInput, Unauthorized: The address is not this host's, or not allowed.
        Unavailable: A backend could not be opened.
    """
    api = create_api()
    config = uvicorn.Config(
        Edge(api, settings),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="off",  # backends are opened here, so that a failure is our error and not a logged traceback
        timeout_graceful_shutdown=GRACE_S,
    )
    with (
        bind(settings.gateway_host, settings.gateway_port) as listener,
        asyncio.Runner(loop_factory=config.get_loop_factory()) as runner,
    ):
        runner.run(_serve(settings, api, config, listener))


async def _serve(settings: GatewaySettings, api: FastAPI, config: uvicorn.Config, listener: socket.socket) -> None:
    async with open_backends(settings) as backends:
        api.state.backends = backends
        server = _Server(config, on_exit=backends.live.close_streams)
        listener.listen(BACKLOG)
        with announced(settings.home, url_of(listener)):
            await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    """Ends the streams when asked to stop: they would keep it waiting for as long as their runs take."""

    def __init__(self, config: uvicorn.Config, *, on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the signature is uvicorn's
        # Unlike uvicorn's own, it does not raise the signal again after the end: a clean stop ends with exit code 0.
        self._on_exit()
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _refused(error, host, port) from None
    return listener


def _refused(error: OSError, host: str, port: int) -> errors.MillraceError:
    if error.errno == errno.EADDRINUSE:
        return errors.Conflict(
            f"Port {port} of {host} is taken.",
            field="MILLRACE_GATEWAY_PORT",
            remedy="Stop what uses it, set another port, or 0 for a free one.",
        )
    if error.errno == errno.EACCES:
        return errors.Unauthorized(
            f"Port {port} needs privileges.", field="MILLRACE_GATEWAY_PORT", remedy="Use one above 1023."
        )
    return errors.InvalidInput(
        f"Cannot bind {host!r}: {error.strerror or error}.",
        field="MILLRACE_GATEWAY_HOST",
        remedy="Use an address of this host, such as 127.0.0.1 or 0.0.0.0.",
    )


def url_of(listener: socket.socket) -> str:
    """How this host reaches a bound socket."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def announced(home: Path, url: str) -> Iterator[None]:
    """Keep `run/gateway.json` under the home while serving: how commands and scripts on this host find the gateway."""
    path = home / "run" / "gateway.json"
    body = json.dumps({"url": url, "pid": os.getpid()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".gateway.{os.getpid()}")
        scratch.write_text(body, encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        raise errors.InvalidInput(
            f"Cannot write {path}: {error.strerror}.",
            field="MILLRACE_HOME",
            remedy="Give a directory one may write to.",
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):
            if path.read_text(encoding="utf-8") == body:  # another gateway of this home may have announced itself since
                path.unlink()
