"""A model server in this process, on the embedded adapters, and the conductor's side of its conversation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from millrace.bus import Bus
from millrace.bus.connect import connect
from millrace.contracts.artifacts import ArtifactRef, Ref
from millrace.contracts.events import EndpointDesired, EndpointReported, Event
from millrace.contracts.ids import new_id
from millrace.runtime.listening import bind
from millrace.settings import Settings
from millrace.store import Store
from millrace.store.connect import open_store
from millrace_deployment.server import ModelServer

Found = TypeVar("Found")


class Stage:
    """A running server with its store, its bus, and what it has reported."""

    def __init__(self, settings: Settings, server: ModelServer, store: Store, bus: Bus) -> None:
        self.settings = settings
        self.server = server
        self.store = store
        self.bus = bus
        self.reports: list[EndpointReported] = []
        self.client = httpx.Client(base_url=server.url, timeout=20)

    def desire(
        self, name: str, model: ArtifactRef | None, *, generation: int, signal: bool = True, release: int | None = None
    ) -> EndpointDesired:
        """Write the endpoint's ref and signal it, as the conductor's relay does."""
        desired = EndpointDesired(
            name=name,
            generation=generation,
            release=(generation if model else 0) if release is None else release,
            model=model,
            run_id="run_test",
        )
        current = self.store.read_ref(f"endpoints/{name}")
        ref = Ref(target=desired.model_dump(mode="json"), generation=generation, nonce=new_id("ref"))
        assert self.store.write_ref(f"endpoints/{name}", ref, expected=current)
        if signal:
            self.bus.signal(f"endpoint.{name}.desired", desired.model_dump(mode="json"))
        return desired

    def serve(self, name: str, model: ArtifactRef, *, generation: int = 1) -> None:
        """Desire, and wait until it is ready."""
        self.desire(name, model, generation=generation)
        self.reported(name, generation, "ready")

    def reported(self, name: str, generation: int, status: str) -> EndpointReported:
        """Wait for a report."""

        def found() -> EndpointReported | None:
            wanted = (name, generation, status)
            return next((r for r in self.reports if (r.name, r.generation, r.status) == wanted), None)

        return wait_for(found, what=f"report {status} of {name} generation {generation}, have {self.reports}")

    def predict(self, name: str, *rows: dict[str, Any]) -> httpx.Response:
        return self.client.post(f"/v1/endpoints/{name}/predict", json={"rows": rows})


def wait_for(found: Callable[[], Found | None], *, what: str, timeout_s: float = 20.0) -> Found:
    """Return what is found, once it is true. Raises AssertionError after timeout_s."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {timeout_s:g} s in vain for {what}")


@contextmanager
def running(home: Path, *, bus: Bus | None = None) -> Iterator[Stage]:
    """A server that runs in a thread until the block ends."""
    settings = Settings(home=home, serve_port=0)
    listener = bind("127.0.0.1", 0, variable="MILLRACE_SERVE")
    store, own_bus = open_store(settings), connect(settings.broker)
    server = ModelServer(settings, store=store, bus=bus or own_bus, listener=listener)
    stage = Stage(settings, server, store, own_bus)
    stop = threading.Event()

    def note(batch: Any) -> None:
        events: list[Event] = list(batch)
        stage.reports.extend(EndpointReported.model_validate(event.data) for event in events)

    own_bus.declare("conductor", ["endpoint.reported.#"])
    threads = [
        threading.Thread(target=server.run, name="server"),
        threading.Thread(
            target=lambda: own_bus.subscribe("conductor", ["endpoint.reported.#"], note, stop=stop), name="reports"
        ),
    ]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: _answers(stage.client), what="the server to answer")
        yield stage
    finally:
        server.stop()
        threads[0].join(timeout=20)
        stop.set()
        threads[1].join(timeout=20)
        stage.client.close()
        own_bus.close()
        listener.close()
    assert not any(thread.is_alive() for thread in threads), "the server did not stop"


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
