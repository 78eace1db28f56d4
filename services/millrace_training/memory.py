"""Whether a model fits, estimated before anything is allocated: an honest refusal instead of an out-of-memory kill."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from millrace import errors
from millrace.architectures.base import Architecture

BYTES_PER_PARAMETER = 28
"""Seven float32: weights, gradient, two moments, average, best state, and the copy that is exported."""
BYTES_PER_ACTIVATION = 4
SAFETY = 1.2


def check_fits(outline: Architecture, *, batch_size: int, device: torch.device) -> None:
    """Refuse a model that is larger than the memory that is free.

    Args:
        outline: The model on the `meta` device.

    Raises:
        ResourceExhausted: With both sizes, and what to make smaller.
    """
    needed = SAFETY * (
        BYTES_PER_PARAMETER * outline.num_parameters()
        + BYTES_PER_ACTIVATION * outline.activations_per_example() * batch_size
    )
    free = available_bytes(device)
    if needed > free:
        raise errors.ResourceExhausted(
            f"Training {outline.num_parameters():,} parameters with batches of {batch_size} needs about "
            f"{needed / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free on {device}.",
            remedy="Make the model (`arguments`) or `batch_size` smaller, or use a larger worker.",
            field="arguments",
        )


def available_bytes(device: torch.device) -> int:
    """Free memory: of the device, or of this host within the container's limit."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        return min(free, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):  # no such control group, or its limit is the word "max"
        return free
