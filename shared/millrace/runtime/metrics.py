"""What a process tells Prometheus, and the endpoint where it does: on loopback, on a port that a file names."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from millrace import errors
from millrace.settings import Settings

ATTEMPTS = Counter("millrace_attempts", "Attempts that ended here.", ["kind", "outcome"])
ATTEMPT_SECONDS = Histogram(
    "millrace_attempt_seconds",
    "How long attempts took, from the child's start to its end.",
    ["kind"],
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000),
)
BUSY = Gauge("millrace_attempts_running", "Attempts that run here now.", ["kind"])


def count_attempt(kind: str, outcome: str, duration_s: float) -> None:
    ATTEMPTS.labels(kind, outcome).inc()
    ATTEMPT_SECONDS.labels(kind).observe(duration_s)


@contextmanager
def busy(kind: str) -> Iterator[None]:
    with BUSY.labels(kind).track_inprogress():
        yield


@contextmanager
def serving_metrics(settings: Settings, name: str) -> Iterator[int | None]:
    """Serve /metrics within the block and write `run/<name>-<pid>.json` under home; yield the port (None: switched off).

    Raises:
        Unavailable: The port is taken.
    """
    if settings.metrics_port < 0:
        yield None
        return
    try:
        server, thread = start_http_server(settings.metrics_port, addr=settings.metrics_host)
    except OSError as error:
        raise errors.Unavailable(
            f"Port {settings.metrics_port} of {settings.metrics_host} cannot be bound: {error.strerror}.",
            field="MILLRACE_METRICS_PORT",
            remedy="Set it to 0 for a free port, or to -1 for none.",
        ) from error
    port = int(server.server_port)
    path = settings.home / "run" / f"{name}-{os.getpid()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    _forget_the_dead(path.parent)
    facts = {
        "pid": os.getpid(),
        "metrics_url": f"http://{settings.metrics_host}:{port}/metrics",
        "started_at": time.time(),
    }
    path.write_text(json.dumps(facts))
    try:
        yield port
    finally:
        path.unlink(missing_ok=True)
        _shut_down(server, (settings.metrics_host, port))
        server.server_close()
        thread.join(timeout=2)


def _forget_the_dead(folder: Path) -> None:
    """Remove what killed processes of this host could not: nobody answers at those ports, or somebody else does."""
    for path in folder.glob("*-*.json"):
        pid = path.stem.rpartition("-")[2]
        if pid.isdigit() and not Path("/proc", pid).exists():
            path.unlink(missing_ok=True)


def _shut_down(server: WSGIServer, address: tuple[str, int]) -> None:
    """Stop the server, which looks whether it should each half second, or when somebody comes: so we come."""
    stopping = threading.Thread(target=server.shutdown)
    stopping.start()
    with contextlib.suppress(OSError):
        socket.create_connection(address, timeout=1).close()
    stopping.join()
