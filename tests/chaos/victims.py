"""Processes of a factory by what they are, and what may befall them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Mapping, Sequence

import psutil

from millrace.runtime.guard import descendants

WEIGHTS: Mapping[str, int] = {"child": 9, "zygote": 3, "worker": 4, "conductor": 3, "gateway": 2, "serve": 1}
"""How often each kind is hit. A zygote's forks, the guards, count as zygotes."""

AWAIT_S = 0.5
LOOK_EVERY_S = 0.1

SERVICES = ("conductor", "gateway", "worker", "serve")

_CODE = "millrace.runtime.service"
"""In the command line of a service that has not come far enough to give itself a title."""


def kind_of(pid: int) -> str:
    """What a process of a factory is; empty if it is none of those that are hit."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().replace(b"\0", b" ").decode(errors="replace").split()
    except OSError:
        return ""
    if _CODE in words[:-1]:
        return words[words.index(_CODE) + 1]
    if words[:1] == ["millrace:"]:
        return words[1] if words[1] in SERVICES else "child"
    return "zygote" if "millrace.runtime.zygote" in words else ""


def find(roots: Sequence[int]) -> dict[str, list[int]]:
    """Process ids below the supervisors, by kind."""
    found: dict[str, list[int]] = {}
    for pid in (pid for root in roots for pid in descendants(root)):
        if kind := kind_of(pid):
            found.setdefault(kind, []).append(pid)
    return found


def draw(roots: Sequence[int], rng: random.Random, *, among: Sequence[str] = tuple(WEIGHTS)) -> tuple[str, int] | None:
    """A process, drawn by kind, and what it is; None if there is none."""
    found = find(roots)
    kinds = [kind for kind in among if found.get(kind)]
    if not kinds:
        return None
    kind = rng.choices(kinds, [WEIGHTS[k] for k in kinds])[0]
    return kind, rng.choice(found[kind])


def await_one(roots: Sequence[int], rng: random.Random) -> tuple[str, int] | None:
    """As `draw`, but of a kind drawn from all: children are there for instants, and are waited for."""
    kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    deadline = time.monotonic() + AWAIT_S
    while (found := draw(roots, rng, among=[kind])) is None and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
    return found or draw(roots, rng)


def send(pid: int, number: signal.Signals) -> bool:
    """Whether there was still somebody to signal."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def kill_all(root: int) -> None:
    """SIGKILL a supervisor and everything below it, as near to one instant as it can be had."""
    for pid in (root, *descendants(root)):
        send(pid, signal.SIGKILL)


def of_home(home: str) -> list[psutil.Process]:
    """Processes, dead ones left out, that were started for a home: whatever of them outlives the factory is an orphan."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("MILLRACE_HOME") == home and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return [p for p in found if p.pid != os.getpid()]
