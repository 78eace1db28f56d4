"""What a simulated stage's code does: plans, works and merges through the store, and looks at what it is given."""

from __future__ import annotations

from typing import Any

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import StageOutputs
from millrace.store import Store
from millrace.store.artifacts import write_manifest
from millrace.store.pages import read_pages, read_row, write_pages
from millrace.testing.simulation.pipelines import SimulatedConfig


def answer(command: ExecuteAttempt, config: SimulatedConfig, store: Store) -> dict[str, Any]:
    """Fields of AttemptSucceeded.

    Raises:
        StageFailed: The results that it is to merge are not those of its tasks, each once and in order.
        Unavailable and others: From the store.
    """
    if command.phase == "work":
        assert command.plan is not None
        return {"result": {"number": read_row(store, command.plan, command.index)["number"]}}
    if command.phase == "merge":
        assert command.results is not None
        numbers = [row["number"] for row in read_pages(store, command.results)]
        if numbers != list(range(config.num_tasks)):
            raise errors.StageFailed(f"{config.num_tasks} results were expected in order, found {numbers}.")
        if command.round + 1 < config.num_rounds:
            return _plan(config, store, command.round + 1)
    elif config.num_tasks > 1:
        return _plan(config, store, 0)
    return {"outputs": _outputs(command, config, store)}


def checkpoint(command: ExecuteAttempt, part: int, store: Store) -> ArtifactRef:
    """Training state after so many parts."""
    return write_manifest(store, "checkpoint", {"state": _bytes(command, f"state {part}")}, meta={"part": part})


def _plan(config: SimulatedConfig, store: Store, round_: int) -> dict[str, Any]:
    rows = [{"number": n, "round": round_} for n in range(config.num_tasks)]
    return {"plan": write_pages(store, "plan", rows), "num_tasks": len(rows)}


def _outputs(command: ExecuteAttempt, config: SimulatedConfig, store: Store) -> StageOutputs:
    files = {"weights": _bytes(command, "weights"), "timings": f"timings of {command.attempt_id}".encode()}
    made = {port: write_manifest(store, type_, files, meta={}) for port, type_ in command.outputs.items()}
    return StageOutputs(artifacts=made, verdict="failed" if config.behaviour == "gate" else None)


def _bytes(command: ExecuteAttempt, what: str) -> bytes:
    return f"{what} of {command.run_id}/{command.stage}".encode()
