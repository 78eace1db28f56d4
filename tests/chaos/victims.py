"""Processes of a factory by what they are, and killing one of them."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Mapping, Sequence

import psutil

WEIGHTS: Mapping[str, int] = {"child": 6, "worker": 4, "conductor": 3, "gateway": 2, "zygote": 2, "serve": 1}
"""How often each kind is hit. A zygote's forks, the guards, count as zygotes."""

_TITLES = {
    "millrace: conductor": "conductor",
    "millrace: gateway": "gateway",
    "millrace: worker": "worker",
    "millrace: serve": "serve",
}


def kind_of(process: psutil.Process) -> str:
    """What a process of a factory is; empty if it is none of those that are killed."""
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return ""
    for title, kind in _TITLES.items():
        if line.startswith(title):
            return kind
    if line.startswith("millrace: "):
        return "child"
    return "zygote" if "millrace.runtime.zygote" in line else ""


def find(roots: Sequence[int]) -> dict[str, list[int]]:
    """Process ids below the supervisors, by kind."""
    found: dict[str, list[int]] = {}
    for root in roots:
        try:
            family = psutil.Process(root).children(recursive=True)
        except psutil.Error:
            continue
        for process in family:
            if kind := kind_of(process):
                found.setdefault(kind, []).append(process.pid)
    return found


def kill_one(roots: Sequence[int], rng: random.Random) -> str:
    """SIGKILL one process, drawn by kind; return what it was, or nothing if there was none."""
    found = find(roots)
    kinds = [kind for kind in WEIGHTS if found.get(kind)]
    if not kinds:
        return ""
    kind = rng.choices(kinds, [WEIGHTS[k] for k in kinds])[0]
    try:
        os.kill(rng.choice(found[kind]), signal.SIGKILL)
    except ProcessLookupError:
        return ""
    return kind


def of_home(home: str) -> list[psutil.Process]:
    """Processes, dead ones left out, that were started for a home: whatever of them outlives the factory is an orphan."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MILLRACE_HOME") == home and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return [p for p in found if p.pid != os.getpid()]
