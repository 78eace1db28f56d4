"""A package with a portable program is judged, optimized and served where there is no torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace import Pipeline, errors
from millrace.testing.factory import running_factory

ROOT = Path(__file__).parents[2]
BLOCKER = ROOT / "tests" / "probes" / "without_torch"

TRAIN = {
    "api": "millrace/v1",
    "name": "made-with-torch",
    "params": {"data": "dataset"},
    "stages": {
        "clean": {"with": {"task": "tabular_classification", "target": "diagnosis"}},
        "train": {"with": {"epochs": 20}},
    },
}
SERVE = {
    "api": "millrace/v1",
    "name": "served-without",
    "params": {"model": "dataset", "dataset": "dataset"},
    "stages": {
        "evaluate": {
            "inputs": {"model": "$params.model", "dataset": "$params.dataset"},
            "with": {"gate": ["accuracy >= 0.8"]},
        },
        "optimize": {
            "inputs": {"model": "$params.model", "dataset": "$params.dataset"},
            "with": {"variants": ["onnx_fp32", "onnx_int8", "openvino_fp32", "openvino_int8_weights"]},
        },
        "deploy": {"with": {"endpoint": "served"}},
    },
}


@pytest.mark.timeout(240)
def test_evaluation_optimization_and_serving_run_without_torch(tmp_path: Path, tabular_data: Path) -> None:
    environment = {"MILLRACE_HOME": str(tmp_path / "home"), "MILLRACE_GATEWAY_PORT": "0", "MILLRACE_SERVE_PORT": "0"}
    with running_factory(environment) as factory:
        made = factory.client.submit(Pipeline.from_dict(TRAIN), data=tabular_data).result(timeout_s=120)
        ingredients = {"model": made.model, "dataset": made.dataset}
    with running_factory({**environment, "PYTHONPATH": str(BLOCKER)}) as factory:
        with pytest.raises(errors.RunFailed):
            factory.client.submit(Pipeline.from_dict(TRAIN), data=tabular_data, cache="off").wait(timeout_s=120)
        served = factory.client.submit(Pipeline.from_dict(SERVE), params=ingredients).result(timeout_s=120)
        rows = served.stages["deploy"].summary["sample_request"]["rows"]
        assert served.endpoint.predict(rows)[0]["label"] in ("benign", "malignant")
