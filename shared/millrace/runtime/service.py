"""How every service process starts: settings, logs, metrics, telemetry, and a clear message instead of a traceback.

python -m millrace.runtime.service NAME ARGUMENTS...
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points

import setproctitle
import structlog

from millrace import errors
from millrace.runtime import guard
from millrace.runtime.factory import make_home
from millrace.runtime.logging import configure_logging
from millrace.runtime.metrics import serving_metrics
from millrace.runtime.supervisor import SUPERVISED
from millrace.runtime.telemetry import configure_telemetry, flush
from millrace.settings import Settings, load_settings

log = structlog.get_logger()

WORKER = "worker"

Main = Callable[[Sequence[str]], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named service until it ends; return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    try:
        return _run(name, arguments[1:])
    except errors.MillraceError as error:
        print(f"millrace {name}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def find_service(name: str) -> Main:
    """The `main` of a service: of the entry points `millrace.services`, or the worker.

    Raises:
        InvalidInput: No such service is installed, or its dependencies are not.
    """
    if name == WORKER:
        from millrace.runtime.worker import main as worker

        return worker
    found = {point.name: point for point in entry_points(group="millrace.services")}
    if name not in found:
        raise errors.InvalidInput(f"No service {name!r} is installed; {errors.nearest(name, [WORKER, *found])}")
    try:
        service: Main = found[name].load()
    except ImportError as error:
        raise errors.InvalidInput(
            f"Service {name!r} cannot be loaded: {error}.",
            remedy=f"Install its dependencies: pip install 'millrace[{_EXTRAS.get(name, name)}]'.",
        ) from error
    return service


def _run(name: str, arguments: Sequence[str]) -> int:
    settings: Settings = load_settings()
    make_home(settings.home)
    configure_logging(settings, service=name)
    with _imports_kept():
        service = find_service(name)
    setproctitle.setproctitle(f"millrace: {name} {' '.join(arguments)}".rstrip())
    supervisor = os.environ.get(SUPERVISED, "")
    if supervisor.isdigit() and int(supervisor) == os.getppid():
        guard.die_with_parent(int(supervisor), signal.SIGTERM)
    configure_telemetry(settings, f"millrace-{name}")
    try:
        with serving_metrics(settings, name):
            return service(arguments)
    finally:
        flush()


@contextmanager
def _imports_kept() -> Iterator[None]:
    """What is imported stays for good: not to look for garbage in it saves a tenth of a start, and pauses later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


_EXTRAS = {"serve": "deployment"}

if __name__ == "__main__":
    sys.exit(main())
