"""What is known of each variant, and the choice: the least of the goal among those that keep the constraints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from millrace.contracts.base import Contract
from millrace.contracts.ids import DigestText
from millrace.models.comparison import Comparison
from millrace.models.report import Measure
from millrace_optimization.constraints import violated
from millrace_optimization.settings import Goal

Status = Literal["chosen", "kept", "refused", "failed"]


class Variant(Contract):
    """One form of the model and what was measured of it."""

    name: str
    format: str
    precision: str
    size_bytes: int = 0
    size_ratio: float = Field(default=0, description="Program's size over the source program's.")
    latency_p50_ms: float = 0
    latency_p25_ms: float = 0
    latency_p75_ms: float = 0
    latency_ratio: float = Field(default=0, description="Median latency over the source program's.")
    metrics: dict[str, Measure] = Field(default_factory=dict, description="On the validation split.")
    drops: dict[str, Measure] = Field(default_factory=dict, description="How much worse than the source; paired.")
    relative_drop: float = Field(default=0, description="Drop of the primary metric over the source's value.")
    parity_max_abs: float = Field(default=0, description="Largest difference from the golden answers.")
    status: Status = "kept"
    reason: str = ""

    def measured(self) -> dict[str, float]:
        """Every number that a constraint may name."""
        numbers = {f"{name}_drop": drop.value for name, drop in self.drops.items()}
        for name in ("size_bytes", "size_ratio", "latency_p50_ms", "latency_ratio", "relative_drop", "parity_max_abs"):
            numbers[name] = float(getattr(self, name))
        return numbers


class VariantTable(Contract):
    """`variants.json`: all variants, and the conditions they were measured under."""

    format: Literal["millrace.variants/v1"] = "millrace.variants/v1"
    source: DigestText = Field(description="The model that they are forms of.")
    task: str
    primary_metric: str
    chosen: str
    minimize: Goal
    subject_to: tuple[str, ...]
    device: str
    num_threads: int
    num_cores: int
    num_repeats: int
    variants: tuple[Variant, ...]


def choose(
    variants: Sequence[Variant], *, constraints: Sequence[Comparison], minimize: Goal, eligible: Sequence[str]
) -> tuple[Variant, ...]:
    """Mark one variant as chosen, those that break a constraint as refused.

    If none keeps the constraints, the source's own program, which is the first variant, is chosen and says why: what is
    shipped then is what was judged.

    Args:
        variants: The source first; failed ones among them.
        eligible: Names that the user asked for.
    """
    broken = {v.name: violated(constraints, v.measured()) for v in variants if v.status != "failed"}
    fit = [v for v in variants if v.name in eligible and not broken.get(v.name, ["failed"])]
    winner = min(fit, key=lambda v: (getattr(v, minimize), v.size_bytes, v.name), default=None)
    chosen = winner or variants[0]
    marked = []
    for variant in variants:
        status: Status = variant.status
        reason = variant.reason
        if variant.name == chosen.name:
            status = "chosen"
            reason = f"least {minimize} of those that keep the constraints" if winner else (
                "no variant keeps the constraints, so the source's program stays: " + "; ".join(broken[chosen.name])
            )  # fmt: skip
        elif variant.status != "failed" and broken[variant.name]:
            status, reason = "refused", "; ".join(broken[variant.name])
        marked.append(variant.model_copy(update={"status": status, "reason": reason}))
    return tuple(marked)
