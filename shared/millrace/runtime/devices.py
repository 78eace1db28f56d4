"""Which devices this host has, found without importing torch; and which worker processes they ask for."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from millrace import errors
from millrace.contracts.commands import ResourceClass

_QUERY = ("nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits")
QUERY_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU.

    Attributes:
        index: Its number on this host.
        uuid: Stable name, as CUDA_VISIBLE_DEVICES takes it; empty if unknown.
        name: Such as `NVIDIA H100 80GB HBM3`.
        memory_bytes: 0 if unknown.
    """

    index: int
    uuid: str = ""
    name: str = "GPU"
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """One worker process to start: its resource class, its slots and its environment."""

    resource_class: ResourceClass
    slots: int
    env: Mapping[str, str] = field(default_factory=dict)
    device: Device | None = None


def discover(environ: Mapping[str, str] | None = None) -> tuple[Device, ...]:
    """GPUs that CUDA would show this process, in its order: nvidia-smi's, else /dev/nvidia*, both cut by CUDA_VISIBLE_DEVICES."""
    visible = (os.environ if environ is None else environ).get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1", "NoDevFiles", "none"):
        return ()
    found = _from_driver() or _from_files()
    return found if visible is None else _visible(found, visible)


def worker_plan(
    *, slots: int, classes: Sequence[str] = (), devices: Sequence[Device] | None = None
) -> tuple[WorkerProcess, ...]:
    """Worker processes for this host: one with `slots` CPU slots, and one per GPU.

    Args:
        slots: CPU attempts at once.
        classes: Only these; empty: all that this host has.
        devices: GPUs; by default those discovered.

    Raises:
        InvalidInput: A class is unknown, or `gpu` is asked for and there is none.
    """
    unknown = [c for c in classes if c not in ("cpu", "gpu")]
    if unknown:
        raise errors.InvalidInput(f"No resource class {unknown[0]!r}; valid: cpu, gpu.", field="--classes")
    wanted = set(classes) or {"cpu", "gpu"}
    gpus = (discover() if devices is None else devices) if "gpu" in wanted else ()
    if "gpu" in classes and not gpus:
        raise errors.InvalidInput(
            "No GPU was found on this host.",
            field="--classes",
            remedy="Install NVIDIA's driver, correct CUDA_VISIBLE_DEVICES, or leave the class out.",
        )
    plan = [WorkerProcess("cpu", slots, {"CUDA_VISIBLE_DEVICES": ""})] if "cpu" in wanted else []
    plan += [WorkerProcess("gpu", 1, {"CUDA_VISIBLE_DEVICES": d.uuid or str(d.index)}, d) for d in gpus]
    return tuple(plan)


def parse_query(text: str) -> tuple[Device, ...]:
    """Read nvidia-smi's CSV: index, uuid, name, memory in MiB; a line that does not fit is left out."""
    devices = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 4 and parts[0].isdigit():
            memory = int(parts[3]) * 2**20 if parts[3].isdigit() else 0
            devices.append(Device(int(parts[0]), parts[1], parts[2], memory))
    return tuple(devices)


def _from_driver() -> tuple[Device, ...]:
    try:
        done = subprocess.run(_QUERY, capture_output=True, text=True, timeout=QUERY_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return parse_query(done.stdout) if done.returncode == 0 else ()


def _from_files() -> tuple[Device, ...]:
    numbers = sorted(int(m[1]) for p in Path("/dev").glob("nvidia*") if (m := re.fullmatch(r"nvidia(\d+)", p.name)))
    return tuple(Device(number) for number in numbers)


def _visible(found: Sequence[Device], visible: str) -> tuple[Device, ...]:
    """CUDA's rule: numbers or prefixes of UUIDs, in that order; the first one that names nothing ends the list."""
    chosen: list[Device] = []
    for name in (part.strip() for part in visible.split(",")):
        match = [d for d in found if name == str(d.index) or (d.uuid and name and d.uuid.startswith(name))]
        if len(match) != 1:
            break
        chosen.append(match[0])
    return tuple(chosen)
