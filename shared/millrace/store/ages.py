"""How old a blob may be before whoever stores it again touches it."""

from __future__ import annotations

GRACE_S = 24 * 3600.0
"""How long nothing is collected that was written or touched; MILLRACE_GC_GRACE_S says otherwise."""


def is_old(modified_at: float, *, now: float, grace_s: float) -> bool:
    """Whether a writer must touch it, so that the other half of the grace is left for announcing what names it."""
    return now - modified_at > grace_s / 2
