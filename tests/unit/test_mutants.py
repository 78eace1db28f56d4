"""The checker is checked: each promise is broken on purpose, in one place, and a few seeds of the simulation find it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from millrace.contracts.artifacts import ArtifactRef, ArtifactType, FileEntry, Manifest, Ref
from millrace.contracts.events import Holder
from millrace.ledger import queues
from millrace.ledger.state import TaskState
from millrace.store import Store, refs
from millrace.testing.faults import FaultPoint
from millrace.testing.simulation import store as simulated_store
from millrace.testing.simulation import work
from millrace.testing.simulation.run import simulate
from millrace_conductor import attempts, folding, leases, watch

MAX_SEEDS = 8
NUM_RUNS = 20

Break = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A promise that is not kept, and the fault that makes it matter."""

    name: str
    make: Break
    focus: FaultPoint
    finds: str


def fence_ignored(patch: pytest.MonkeyPatch) -> None:
    def is_current(task: TaskState, holder: Holder) -> bool:
        return task.status in ("dispatched", "running")

    patch.setattr(attempts, "_is_current", is_current)


def inbox_off(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(folding.Folding, "is_seen", lambda _self, _event_id: False)


def outbox_after_commit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(queues, "put_outbox", lambda _tx, _rows, **_: None)


def manifest_before_blobs(patch: pytest.MonkeyPatch) -> None:
    def write(
        store: Store, type: ArtifactType, files: Mapping[str, Path | bytes | FileEntry], *, meta: Mapping[str, Any]
    ) -> ArtifactRef:
        contents = {path: content for path, content in sorted(files.items()) if isinstance(content, bytes)}
        entries = tuple(
            FileEntry(path=p, digest=simulated_store.digest_of(c), size_bytes=len(c)) for p, c in contents.items()
        )
        digest = store.put_bytes(Manifest(type=type, files=entries, meta=dict(meta)).to_json().encode())
        for content in contents.values():
            store.put_bytes(content)
        return ArtifactRef(digest=digest, type=type, size_bytes=sum(e.size_bytes for e in entries), tenant=store.tenant)

    patch.setattr(work, "write_manifest", write)


def refs_without_compare_and_set(patch: pytest.MonkeyPatch) -> None:
    def settled(current: Ref | None, ref: Ref, *, expected: Ref | None) -> bool | None:
        return None

    patch.setattr(refs, "settled", settled)


def silence_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leases.Leases, "lost", lambda _self, _nonces, _now: [])


def lost_commands_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(watch.Watch, "_is_late", lambda _self, _task: False)


MUTANTS = (
    Mutant("fence_ignored", fence_ignored, FaultPoint.WORKER_SUSPENDED, "wrong"),
    Mutant("inbox_off", inbox_off, FaultPoint.BUS_DUPLICATED, "wrong"),
    Mutant("outbox_after_commit", outbox_after_commit, FaultPoint.DATABASE_CRASH_AFTER, "lost"),
    Mutant("manifest_before_blobs", manifest_before_blobs, FaultPoint.STORE_CRASH_BEFORE, "missing"),
    Mutant("refs_without_compare_and_set", refs_without_compare_and_set, FaultPoint.STORE_REF_LATE, "wrong"),
    Mutant("silence_ignored", silence_ignored, FaultPoint.WORKER_KILLED, "stuck"),
    Mutant("lost_commands_ignored", lost_commands_ignored, FaultPoint.COMMAND_LOST, "stuck"),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_a_broken_promise_is_found_where_a_kept_one_is_not(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(MAX_SEEDS):
        with monkeypatch.context() as patch:
            mutant.make(patch)
            found = simulate(seed, focus=mutant.focus, num_runs=NUM_RUNS)
        kept = simulate(seed, focus=mutant.focus, num_runs=NUM_RUNS)
        assert not kept.violations, str(kept)
        if any(v.kind == mutant.finds for v in found.violations):
            return
    pytest.fail(f"{MAX_SEEDS} seeds did not find {mutant.name}")
