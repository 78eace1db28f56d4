"""What is recorded of a whole factory: runs that fan out, one with data, each submission marked when it was answered."""

from __future__ import annotations

import sys
from pathlib import Path

from bad_inputs import ROWS
from chaos.power_loss.recorder import mark
from millrace import Client, Pipeline, Run
from millrace.testing.factory import running_factory

NUM_RUNS = 4
SETTINGS = {
    "MILLRACE_GATEWAY_PORT": "0",
    "MILLRACE_SERVE_PORT": "0",
    "MILLRACE_LEASE_S": "3",  # all workers are lost, and their leases decide
    "MILLRACE_HEARTBEAT_S": "0.5",
    "OMP_NUM_THREADS": "1",
}


FANNED = Pipeline.from_dict({
    "api": "millrace/v1", "name": "fanned",
    "stages": {
        "a": {"kind": "noop", "with": {"num_tasks": 4, "sleep_s": 0.05}},
        "b": {"kind": "noop", "needs": ["a"], "with": {"sleep_s": 0.2}},
        "c": {"kind": "noop", "needs": ["a"], "with": {"num_tasks": 3}},
    },
})  # fmt: skip
CLEANED = Pipeline.from_dict({
    "api": "millrace/v1", "name": "cleaned", "params": {"data": {"type": "dataset"}},
    "stages": {"clean": {"with": {"target": "label", "task": "tabular_classification"}}},
})  # fmt: skip


def submit(client: Client, folder: Path, number: int) -> Run:
    """Submit a run, every third with data; its mark says that the answer has come."""
    rows = folder / "rows.csv"
    rows.write_text(ROWS)
    run = client.submit(CLEANED, data=rows) if number % 3 == 1 else client.submit(FANNED)
    mark(folder, "accepted", run.id)
    return run


def main(folder: Path) -> None:
    with running_factory({"MILLRACE_HOME": str(folder / "home"), **SETTINGS}) as factory:
        for run in [submit(factory.client, folder, number) for number in range(NUM_RUNS)]:
            assert run.wait_end(timeout_s=60).status == "succeeded"
            mark(folder, "ended", run.id)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
