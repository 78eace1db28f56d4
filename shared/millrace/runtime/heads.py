"""A task's head: the one mutable word about it, which its attempts leave to each other. Refs, and nothing but a store.

It is the ref `tasks/<run>/<stage>/<phase><round>/<index>`. Its target is `{"checkpoint": ArtifactRef | None, "outcome":
{"data": fields of AttemptSucceeded without its holder} | None, "attempt_id", "nonce"}`, its fence the attempt's. An attempt
of fence 1 that was delivered once writes it only if it saves a checkpoint or outlives a lease. Any other *seals* it before it
works: from then on whoever held the task before is refused, and learns so at its next write.

The checkpoint and the outcome of an open task's head are roots of garbage collection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef, Ref
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import StageOutputs
from millrace.contracts.ids import new_id
from millrace.store import Store
from millrace.store.artifacts import read_manifest

PREFIX = "tasks/"
"""Where heads lie among a tenant's refs."""

_TRIES = 5
"""Of a write, each after reading anew: only one that seals can come between, and then this one is stale."""


@dataclass(frozen=True, slots=True)
class Left:
    """What earlier attempts of the task left: where they came to, and how one of them ended without having said so."""

    checkpoint: ArtifactRef | None = None
    outcome: Mapping[str, Any] | None = None


class TaskHead:
    """One holder's hold on its task's head. For one thread; the worker and its child may each have one."""

    def __init__(self, store: Store, name: str, *, attempt_id: str, fence: int, nonce: str) -> None:
        self._store = store
        self._name = name
        self._attempt_id = attempt_id
        self._fence = fence
        self._nonce = nonce

    def seal(self) -> Left:
        """Refuse every earlier holder from now on; return what they left. Raises Stale: a later one has sealed it."""
        left = Left()

        def keep(current: Ref | None) -> dict[str, Any]:
            nonlocal left
            left = _left(current)
            return {} if current is None else {k: current.target.get(k) for k in ("checkpoint", "outcome")}

        self._write(keep, is_sealing=True)
        return left

    def save_checkpoint(self, checkpoint: ArtifactRef) -> None:
        """Make a whole artifact the one to resume from. Raises Stale: another holder has the task."""
        self._write(lambda _: {"checkpoint": checkpoint.model_dump(mode="json")})

    def save_outcome(self, data: Mapping[str, Any]) -> None:
        """Note how the attempt ended, before it says so. Raises Stale: another holder has the task."""
        self._write(lambda current: {**(current.target if current else {}), "outcome": {"data": dict(data)}})

    def checkpoint(self) -> ArtifactRef | None:
        """What this holder saved, or found and took over; None if the head is another's."""
        current = self._store.read_ref(self._name)
        return _left(current).checkpoint if current is not None and self._is_ours(current) else None

    def _write(self, body: Any, *, is_sealing: bool = False) -> None:
        for _ in range(_TRIES):
            current = self._store.read_ref(self._name)
            if current is not None and not self._may_replace(current, is_sealing=is_sealing):
                raise errors.Stale(
                    f"Attempt {self._attempt_id} is over: another holder has its task.", field="head", ref=self._name
                )
            who = {"attempt_id": self._attempt_id, "nonce": self._nonce}
            target = {"checkpoint": None, "outcome": None, **body(current), **who}
            generation = current.generation + 1 if current else 0
            ref = Ref(target=target, generation=generation, fence=self._fence, nonce=new_id("ref"))
            if self._store.write_ref(self._name, ref, expected=current):
                return
        raise errors.Unavailable(f"Ref {self._name} could not be written: it changed under every try.")

    def _may_replace(self, current: Ref, *, is_sealing: bool) -> bool:
        """A holder of the same fence is replaced by one that was told to hold, and so seals; never the other way."""
        return self._is_ours(current) or current.fence < self._fence or (is_sealing and current.fence == self._fence)

    def _is_ours(self, current: Ref) -> bool:
        return current.fence == self._fence and current.target.get("nonce") == self._nonce


def head_name(command: ExecuteAttempt) -> str:
    """The ref's name of a command's task."""
    return f"{PREFIX}{command.run_id}/{command.stage}/{command.phase}{command.round}/{command.index}"


def is_whole(store: Store, outcome: Mapping[str, Any]) -> bool:
    """Whether an outcome that was left can still be announced: it passed its gate, and all that it names is there.

    A verdict that ended the run is judged anew, as whoever retries the run means it to be.
    """
    data = outcome["data"]
    try:
        if data.get("outputs") is not None:
            outputs = StageOutputs.received(data["outputs"])
            refs = [*outputs.artifacts.values(), *(ref for refs in outputs.lists.values() for ref in refs)]
            return outputs.verdict in (None, "passed") and all(_is_there(store, ref) for ref in refs)
        return data.get("plan") is None or _is_there(store, ArtifactRef.received(data["plan"]))
    except (ValidationError, errors.NotFound, errors.Corrupt, errors.InvalidData):
        return False


def _is_there(store: Store, ref: ArtifactRef) -> bool:
    return all(store.size(entry.digest) == entry.size_bytes for entry in read_manifest(store, ref.digest).files)


def _left(current: Ref | None) -> Left:
    if current is None:
        return Left()
    checkpoint = current.target.get("checkpoint")
    return Left(ArtifactRef.received(checkpoint) if checkpoint else None, current.target.get("outcome"))
