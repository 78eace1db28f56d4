"""The whole factory under one supervisor: what `millrace up` runs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import click
import httpx

from millrace.client.find import running_gateway
from millrace.contracts.views import ReadyView
from millrace.runtime.devices import worker_plan
from millrace.runtime.factory import factory_lock
from millrace.runtime.listening import bind
from millrace.runtime.logging import configure_logging
from millrace.runtime.supervisor import ProcessSpec, Supervisor, service_process, worker_processes
from millrace.settings import Settings, load_settings

POLL_S = 0.2
READY_TIMEOUT_S = 15.0

PATIENCE_S = 5.0
"""A factory without servers is ready within it, so whoever waits longer wants to know for what."""


def run_factory(*, attached: bool) -> int:
    """Supervise conductor, gateway, model server and workers until a stop signal; blocks.

    Args:
        attached: End also when standard input closes: the program that started this factory is gone.

    Raises:
        Conflict: A factory already runs in this home, or a port is taken.
        Unavailable: A process keeps dying.
    """
    settings = load_settings(Settings)
    configure_logging(settings, service="factory")
    with factory_lock(settings.home, url=_configured_url(settings)):
        bind(settings.gateway_host, settings.gateway_port, variable="MILLRACE_GATEWAY").close()
        bind(settings.serve_host, settings.serve_port, variable="MILLRACE_SERVE").close()
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
    """Say where the factory is once it is ready, and until then, now and again, what it waits for."""
    say_again_at = time.monotonic() + PATIENCE_S
    while not has_stopped():
        url = running_gateway(settings.home)
        faults = _faults(url) if url else ["the gateway does not answer yet"]
        if not faults:
            click.echo(
                f"Factory ready at {url} (home {settings.home}, logs in {settings.home / 'logs'}). Ctrl-C stops it."
            )
            return
        if time.monotonic() > say_again_at:
            say_again_at = time.monotonic() + PATIENCE_S
            click.echo(f"Not ready: {'; '.join(faults)}", err=True)
        time.sleep(POLL_S)


def _faults(url: str) -> list[str]:
    """What the gateway cannot reach, and what to do; empty once it is ready."""
    try:
        answer = httpx.get(f"{url}/readyz", timeout=READY_TIMEOUT_S, trust_env=False)
        view = ReadyView.model_validate_json(answer.content)
    except (httpx.HTTPError, ValueError):
        return ["the gateway does not answer yet"]
    return [f"{check.name}: {check.detail} {check.remedy}".rstrip() for check in view.checks if not check.ok]
