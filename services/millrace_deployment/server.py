"""The model server's process: follows the desired endpoints, serves their models over HTTP, reports."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Sequence

import structlog
import uvicorn

from millrace import errors
from millrace.bus import Bus
from millrace.bus.connect import connect
from millrace.contracts.events import EndpointDesired
from millrace.runtime.listening import announced, bind, url_of
from millrace.runtime.signals import on_stop_signal
from millrace.settings import Settings, load_settings
from millrace.store import Store
from millrace.store.connect import open_store
from millrace_deployment.app import App
from millrace_deployment.measures import Measures
from millrace_deployment.reconciling import Reconciler
from millrace_deployment.registry import Registry, Served
from millrace_deployment.reporting import Reporter

SIGNALS = ("endpoint.#",)
GRACE_S = 10
"""How long open requests may go on after a stop was asked for."""

log = structlog.get_logger()


class ModelServer:
    """One server of all endpoints of one tenant. Any number may run; each reports under its own name.

    Args:
        listener: Bound and listening; its address names the server, so that one that is started again replaces its
            predecessor's report instead of adding to it.
    """

    def __init__(self, settings: Settings, *, store: Store, bus: Bus, listener: socket.socket) -> None:
        self.url = settings.serve_url or url_of(listener)
        self.id = re.sub(r"[^a-z0-9-]+", "-", f"{socket.gethostname()}-{listener.getsockname()[1]}".lower()).strip("-")
        self.registry = Registry()
        self.measures = Measures()
        self._settings = settings
        self._store = store
        self._bus = bus
        self._listener = listener
        self._cache = settings.home / "cache" / "served"
        self._stop = threading.Event()
        self._reporter = Reporter(bus, server=self.id, url=self.url, tenant=settings.tenant)
        self._reconciler = Reconciler(store, self.registry, self._reporter, load=self._load, retire=self._retire)
        app = App(self.registry, self.measures, is_ready=self._reconciler.has_looked.is_set, url=self.url)
        self._http = uvicorn.Server(
            uvicorn.Config(
                app, log_config=None, access_log=False, server_header=False, ws="none", lifespan="off",
                timeout_graceful_shutdown=GRACE_S,
            )
        )  # fmt: skip
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        """Serve until `stop`, SIGTERM or SIGINT; then answer what is open, and say that the endpoints stopped."""
        threads = [
            threading.Thread(target=self._reconciler.run, args=(self._stop,), name="reconcile", daemon=True),
            threading.Thread(target=self._listen, name="signals", daemon=True),
            threading.Thread(target=self._reporter.run, args=(self._stop,), name="report", daemon=True),
        ]
        with announced(self._settings.home, "serve", self.url):
            for thread in threads:
                thread.start()
            log.info("server_started", server=self.id, url=self.url)
            try:
                with asyncio.Runner(loop_factory=self._http.config.get_loop_factory()) as runner:
                    runner.run(self._serve())
            finally:
                self._finish(threads)
        log.info("server_stopped", server=self.id)

    def stop(self) -> None:
        """Ask `run` to return; safe from any thread."""
        self._http.should_exit = True

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._http.serve(sockets=[self._listener])

    def _finish(self, threads: Sequence[threading.Thread]) -> None:
        self._loop = None
        for state in self.registry.states.values():
            if state.served is not None:
                self._reporter.report(state.desired, "stopped")
        self._stop.set()
        self._reconciler.wake()
        self._reporter.wake()
        for thread in threads:
            thread.join(timeout=5)

    def _listen(self) -> None:
        try:
            self._bus.listen(SIGNALS, lambda _key, _payload: self._reconciler.wake(), stop=self._stop)
        except errors.MillraceError as error:  # refused credentials: the refs are looked at all the same
            log.error("signals_unheard", reason=str(error))

    def _load(self, desired: EndpointDesired) -> Served:
        """Bring the model here, load it and warm it. Imports its runtime with the first: an idle server stays small."""
        from millrace_deployment.packages import fetch_package
        from millrace_deployment.served import ServedModel

        assert desired.model is not None
        directory = fetch_package(self._store, desired.model, cache=self._cache)
        return ServedModel(desired, directory=directory, measures=self.measures)

    def _retire(self, served: Served) -> None:
        """Let a replaced model answer what it was asked, on the loop that its requests wait on."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._close(served), self._loop)

    async def _close(self, served: Served) -> None:
        from millrace_deployment.packages import evict

        await served.close()
        wanted = {s.desired.model.digest for s in self.registry.states.values() if s.desired.model is not None}
        in_use = {s.served.digest for s in self.registry.states.values() if s.served is not None}
        await asyncio.to_thread(evict, self._cache, keep=wanted | in_use)


def main(argv: Sequence[str] = ()) -> int:
    """Serve models until SIGINT or SIGTERM. Takes no arguments: settings come from the environment.

    Raises:
        InvalidInput: A setting or an argument is wrong, or a directory cannot be used.
        Conflict: The port is taken.
        Unauthorized: The port needs privileges.
    """
    if argv:
        raise errors.InvalidInput(
            f"The model server takes no arguments; found {' '.join(argv)!r}.",
            remedy="Set MILLRACE_SERVE_HOST and MILLRACE_SERVE_PORT.",
        )
    settings = load_settings(Settings)
    with bind(settings.serve_host, settings.serve_port, variable="MILLRACE_SERVE") as listener:
        store, bus = open_store(settings, tenant=settings.tenant), connect(settings.broker)
        server = ModelServer(settings, store=store, bus=bus, listener=listener)
        try:
            # uvicorn has its own handlers while it serves, and raises the signal again after: it ends here.
            with on_stop_signal(then=server.stop):
                server.run()
        finally:
            bus.close()
    return 0
