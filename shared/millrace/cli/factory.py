"""The whole factory under one supervisor: what `millrace up` runs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import click
import httpx

from millrace.client.find import running_gateway
from millrace.runtime.devices import worker_plan
from millrace.runtime.factory import factory_lock
from millrace.runtime.logging import configure_logging
from millrace.runtime.supervisor import ProcessSpec, Supervisor, service_process, worker_processes
from millrace.settings import Settings, load_settings

POLL_S = 0.2


def run_factory(*, attached: bool) -> int:
    """Supervise conductor, gateway, model server and workers until a stop signal; blocks.

    Args:
        attached: End also when standard input closes: the program that started this factory is gone.

    Raises:
        Conflict: A factory already runs in this home.
        Unavailable: A process keeps dying.
    """
    settings = load_settings(Settings)
    configure_logging(settings, service="factory")
    with factory_lock(settings.home, url=_configured_url(settings)):
        parent = sys.stdin.fileno() if attached else None
        supervisor = Supervisor(factory_processes(settings), home=settings.home, parent_fd=parent)
        watcher = threading.Thread(target=_say_when_ready, args=(settings, supervisor.stop.is_set), daemon=True)
        watcher.start()
        return supervisor.run()


def factory_processes(settings: Settings) -> list[ProcessSpec]:
    """One process a service, one worker for all stage services, and one more per GPU."""
    services = [service_process(name) for name in ("conductor", "gateway", "serve")]
    return [*services, *worker_processes(["all"], worker_plan(slots=settings.slots))]


def _configured_url(settings: Settings) -> str:
    return f"http://{settings.gateway_host}:{settings.gateway_port}" if settings.gateway_port else ""


def _say_when_ready(settings: Settings, has_stopped: Callable[[], bool]) -> None:
    while not has_stopped():
        url = running_gateway(settings.home)
        if url and _is_ready(url):
            click.echo(
                f"Factory ready at {url} (home {settings.home}, logs in {settings.home / 'logs'}). Ctrl-C stops it."
            )
            return
        time.sleep(POLL_S)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False
