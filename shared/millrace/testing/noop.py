"""The `noop` stage kind: waits, fails or plans on request, and does nothing else. For tests and measurements of the lifecycle."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from millrace import errors
from millrace.contracts.events import StageOutputs
from millrace.contracts.stages import Port, StageConfig, StageKind
from millrace.runtime.stage import Context, Inputs, NextPlan, Results, outputs

SLICE_S = 0.05
HOG_S = 60


class NoopConfig(StageConfig):
    """What it should pretend."""

    sleep_s: float = Field(default=0.0, ge=0, description="How long each task takes.")
    num_tasks: int = Field(default=1, ge=1, description="How many tasks its plan has.")
    num_rounds: int = Field(default=1, ge=1, description="How many times it plans as many tasks, one after the other.")
    fail: str = Field(default="", description="Message of the error that it raises; empty: none.")
    hog: bool = Field(
        default=False, description="Whether it holds the interpreter's lock while it waits, as C code may."
    )
    metric: float = Field(default=0.0, description="Reported as the metric `value`.")


NOOP = StageKind(
    name="noop",
    caption="Does nothing, for tests and measurements.",
    service="functions",
    module="millrace.testing.noop",
    config=NoopConfig,
    cacheable=False,  # its time and its failures are what it is for
    inputs={"after": Port(type="any", optional=True, auto=False)},
    outputs={},
)


def plan(context: Context, config: NoopConfig, inputs: Inputs) -> Sequence[dict[str, Any]]:  # noqa: ARG001
    return _tasks(config, 0)


def work(context: Context, config: NoopConfig, inputs: Inputs, task: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    if config.fail:
        raise errors.InvalidData(config.fail, field="fail", remedy="Leave `fail` empty.")
    end = time.monotonic() + config.sleep_s
    while (left := end - time.monotonic()) > 0:
        context.progress(config.sleep_s - left, config.sleep_s, unit="s")
        if config.hog:
            ctypes.PyDLL(None).sleep(max(1, min(int(left), HOG_S)))  # PyDLL keeps the lock
        else:
            time.sleep(min(left, SLICE_S))
    return {"number": task["number"], "round": task["round"]}


def merge(context: Context, config: NoopConfig, inputs: Inputs, results: Results) -> StageOutputs | NextPlan:  # noqa: ARG001
    numbers, round_ = [], 0
    for result in results:
        numbers.append(result["number"])
        round_ = result["round"]
    if round_ + 1 < config.num_rounds:
        return NextPlan(_tasks(config, round_ + 1))
    return outputs(
        {}, summary={"tasks": len(numbers), "in_order": numbers == sorted(numbers)}, metrics={"value": config.metric}
    )


def _tasks(config: NoopConfig, round_: int) -> list[dict[str, Any]]:
    return [{"number": n, "round": round_} for n in range(config.num_tasks)]
