"""What the probe does: behave, or misbehave in the ways that stage code does."""

# ruff: noqa: ARG005 - every action has one signature

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from probe_kinds import ProbeConfig

from millrace.contracts.events import StageOutputs
from millrace.runtime.stage import Context, Inputs, NextPlan, outputs

_STRAY = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(120)"


def plan(context: Context, config: ProbeConfig, inputs: Inputs) -> Sequence[dict[str, Any]]:
    return [{"number": number} for number in range(config.tasks)]


def work(context: Context, config: ProbeConfig, inputs: Inputs, task: dict[str, Any]) -> dict[str, Any]:
    _ACTIONS[config.do](context, config)
    return {"square": task["number"] ** 2, "round": task.get("round", 0)}


def merge(
    context: Context, config: ProbeConfig, inputs: Inputs, results: Iterable[dict[str, Any]]
) -> StageOutputs | NextPlan:
    rows = list(results)
    done = rows[0]["round"] + 1
    if done < config.rounds:
        return NextPlan([{"number": row["square"], "round": done} for row in rows])
    squares = [row["square"] for row in rows]
    ref = context.write_artifact("any", {"squares.json": str(squares).encode()})
    return outputs({"result": ref}, summary={"squares": squares}, metrics={"total": float(sum(squares))})


def _stray(context: Context, config: ProbeConfig) -> None:
    """Leave a process behind that has a session of its own and no parent here."""
    if os.fork() == 0:
        os.setsid()
        subprocess.Popen([sys.executable, "-c", _STRAY, config.path])
        os._exit(0)
    while not Path(config.path).exists() or not Path(config.path).read_text():
        time.sleep(0.01)
    time.sleep(config.seconds)


def _hold_gil(context: Context, config: ProbeConfig) -> None:
    ctypes.PyDLL(None).usleep(int(config.seconds * 1e6))


def _talk(context: Context, config: ProbeConfig) -> None:
    print("hello from the probe")
    context.log.info("shard_written", rows=3)
    for step in range(200):
        context.progress(step, 200, unit="rows", loss=1.0 / (step + 1))
        context.metric("loss", 1.0 / (step + 1), step=step)
    time.sleep(config.seconds)


def _raise(context: Context, config: ProbeConfig) -> None:
    raise ValueError("the label is odd")


def _exhaust(context: Context, config: ProbeConfig) -> None:
    raise MemoryError


def _run_code(context: Context, config: ProbeConfig) -> None:
    exec(config.code, {"context": context})


def _steps(context: Context, config: ProbeConfig) -> None:
    """Ten steps, each written down; hand back after the one in which this was asked for."""
    resumed = context.resumed()
    done = int(resumed.meta["done"]) if resumed is not None else 0
    while done < 10:
        if context.stop_requested:
            context.hand_back({"done": str(done).encode()}, meta={"done": done})
        time.sleep(config.seconds / 10)
        done += 1
        with open(config.path, "a") as file:
            file.write(f"{done}\n")


_ACTIONS = {
    "steps": _steps,
    "nothing": lambda context, config: None,
    "sleep": lambda context, config: time.sleep(config.seconds),
    "mark": lambda context, config: Path(config.path).write_text(os.environ.get("PROBE_WORD", "")),
    "segv": lambda context, config: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda context, config: os._exit(3),
    "stray": _stray,
    "hold_gil": _hold_gil,
    "talk": _talk,
    "raise": _raise,
    "exhaust": _exhaust,
    "code": _run_code,
}
