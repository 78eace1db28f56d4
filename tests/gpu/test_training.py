"""On a CUDA device: a stage that asks for a GPU is routed to the GPU's worker and trains there."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace import Pipeline
from millrace.runtime.devices import discover
from millrace.testing.factory import running_factory

TABLE = Path(__file__).parents[2] / "examples" / "tabular" / "data" / "breast_cancer.parquet"

PIPELINE = {
    "api": "millrace/v1",
    "name": "on-gpu",
    "params": {"data": "dataset"},
    "stages": {
        "clean": {"with": {"task": "tabular_classification", "target": "diagnosis"}},
        "train": {"with": {"epochs": 20}, "resources": {"gpu": 1}},
        "evaluate": {"with": {"gate": ["accuracy >= 0.85"]}},
    },
}


@pytest.mark.gpu
@pytest.mark.skipif(not discover(), reason="there is no CUDA device")
def test_a_stage_that_asks_for_a_gpu_trains_on_it(tmp_path: Path) -> None:
    environment = {"MILLRACE_HOME": str(tmp_path / "home"), "MILLRACE_GATEWAY_PORT": "0", "MILLRACE_SERVE_PORT": "0"}
    with running_factory(environment) as factory:
        result = factory.client.submit(Pipeline.from_dict(PIPELINE), data=TABLE).result(timeout_s=200)
    assert result.stages["train"].summary["device"].startswith("cuda")
    assert result.verdict == "passed"
