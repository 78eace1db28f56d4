"""Devices are found without torch, and each GPU gets a worker of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from millrace import errors
from millrace.runtime.devices import Device, discover, parse_query, worker_plan

QUERY = """0, GPU-aaaa, NVIDIA H100 80GB HBM3, 81559
1, GPU-abbb, NVIDIA H100 80GB HBM3, 81559
driver says something else
"""


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver's query program that knows of two GPUs."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{QUERY}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def test_the_drivers_answer_is_read() -> None:
    assert parse_query(QUERY)[1] == Device(1, "GPU-abbb", "NVIDIA H100 80GB HBM3", 81559 * 2**20)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, [0, 1]), ("1,0", [1, 0]), ("GPU-ab", [1]), ("", []), ("-1", []), ("1,7,0", [1]), ("GPU-a", [])],
)
def test_cuda_visible_devices_is_obeyed_as_cuda_does(visible: str | None, expected: list[int]) -> None:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert [device.index for device in discover(environ)] == expected


def test_a_host_has_one_cpu_worker_and_one_worker_per_gpu() -> None:
    plan = worker_plan(slots=3, devices=parse_query(QUERY))
    assert [(p.resource_class, p.slots) for p in plan] == [("cpu", 3), ("gpu", 1), ("gpu", 1)]
    assert [p.env["CUDA_VISIBLE_DEVICES"] for p in plan] == ["", "GPU-aaaa", "GPU-abbb"]


def test_asking_for_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(errors.InvalidInput, match="No GPU was found"):
        worker_plan(slots=1, classes=["gpu"], devices=())


def test_an_unknown_class_is_an_error() -> None:
    with pytest.raises(errors.InvalidInput, match="tpu"):
        worker_plan(slots=1, classes=["tpu"], devices=())
