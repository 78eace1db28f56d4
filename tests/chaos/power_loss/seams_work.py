"""What is recorded of the seams alone: processes that store artifacts and refs, publish events and consume them.

Quick, so that many instants can be looked at; and what it imports can be broken, to see that the judge finds it.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chaos.power_loss.recorder import mark
from millrace.bus.connect import connect
from millrace.contracts.artifacts import ArtifactRef, ArtifactType, FileEntry, Manifest, Ref
from millrace.contracts.events import Event, StagePlanned, make_event
from millrace.ledger.connect import open_database
from millrace.settings import Settings
from millrace.store import Store, artifacts
from millrace.store.connect import open_store

NUM_ARTIFACTS = 12
NUM_EVENTS = 40
NUM_NOTES = 20
NUM_COLLECTED = 8
QUEUE = "seams"


def keep(folder: Path, name: str) -> None:
    """Store artifacts, and have a ref follow them; some files are of several writers."""
    store, before = open_store(Settings(home=folder / "home"), tenant=f"tenant-{name[0]}"), None
    for number in range(NUM_ARTIFACTS):
        files = {"own": name.encode() * 9000 + bytes([number]), "shared": b"shared" * (number + 1), "empty": b""}
        artifact = artifacts.write_manifest(store, "report", files, meta={"number": number})
        mark(folder, "stored", store.tenant, artifact.digest)
        ref = Ref(target=artifact.model_dump(), generation=number, nonce=f"{name}-{number}")
        assert store.write_ref(f"heads/{name}/latest", ref, expected=before)
        mark(folder, "pointed", store.tenant, f"heads/{name}/latest", str(number))
        before = ref


def say(folder: Path, name: str) -> None:
    """Publish events and mark those that the bus has confirmed."""
    bus = connect(Settings(home=folder / "home").broker)
    for number in range(0, NUM_EVENTS, 2):
        ids = [f"{name}-{number + i}" for i in range(2)]
        bus.publish([
            make_event(StagePlanned(run_id="run", stage="s", num_tasks=1), source="seams", subject="run", id=id)
            for id in ids
        ])  # fmt: skip
        mark(folder, "confirmed", *ids)
    bus.close()


def hear(folder: Path, num_expected: int) -> None:
    """Consume events; each batch is marked before it is acknowledged."""
    bus, stop, heard = connect(Settings(home=folder / "home").broker), threading.Event(), set[str]()

    def on_batch(events: Sequence[Event]) -> None:
        mark(folder, "heard", *(event.id for event in events))
        heard.update(event.id for event in events)
        if len(heard) >= num_expected:
            stop.set()

    bus.subscribe(QUEUE, ["#"], on_batch, stop=stop, max_batch=5)
    bus.close()


def note(folder: Path) -> None:
    """Commit to the ledger, and mark what was committed."""
    database = open_database(Settings(home=folder / "home").database)
    for number in range(NUM_NOTES):
        database.transact(lambda tx, n=number: tx.run("INSERT INTO notes VALUES (?)", (n,)))  # type: ignore[misc]  # a default
        mark(folder, "noted", str(number))
    database.close()


def manifest_before_blobs(
    store: Store, type: ArtifactType, files: Mapping[str, bytes], *, meta: Mapping[str, Any]
) -> ArtifactRef:
    """Broken on purpose: whoever sees the manifest may find no blob."""
    scratch = open_store(Settings(home=Path(sys.argv[1]) / "scratch"), tenant=store.tenant)
    entries = [FileEntry(path=p, digest=scratch.put_bytes(c), size_bytes=len(c)) for p, c in sorted(files.items())]
    digest = store.put_bytes(Manifest(type=type, files=tuple(entries), meta=dict(meta)).to_json().encode())
    for content in files.values():
        store.put_bytes(content)
    return ArtifactRef(digest=digest, type=type, size_bytes=1, tenant=store.tenant)


def main(folder: Path, mutant: str = "") -> None:
    if mutant == manifest_before_blobs.__name__:
        artifacts.write_manifest = manifest_before_blobs  # type: ignore[assignment]
    bus = connect(Settings(home=folder / "home").broker)
    bus.declare(QUEUE, ["#"])
    bus.close()
    database = open_database(Settings(home=folder / "home").database)
    database.transact(lambda tx: tx.run("CREATE TABLE notes (number INTEGER PRIMARY KEY)"))
    database.close()
    work: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
        (keep, ("a1",)), (keep, ("a2",)), (keep, ("b1",)), (say, ("p",)), (say, ("q",)), (hear, (2 * NUM_EVENTS,)),
        (note, ()),
    ]  # fmt: skip
    processes = [multiprocessing.get_context("fork").Process(target=do, args=(folder, *args)) for do, args in work]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
