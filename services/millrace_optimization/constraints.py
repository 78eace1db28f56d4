"""Constraints on a variant: comparisons of what was measured of it, such as `accuracy_drop <= 0.005`.

Names: `<metric>_drop` is how much worse a metric is than the source's on the validation split, in the metric's unit, positive
for worse; `relative_drop` is that of the primary metric as a share of the source's value; `size_ratio` and `latency_ratio` are
against the source's program; `size_bytes`, `latency_p50_ms` and `parity_max_abs` are absolute. Point estimates decide here;
the interval decides when the chosen variant is judged again on the test split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from millrace.models.comparison import Comparison, Words, parse_comparison
from millrace.models.report import METRIC_NAMES

NAMES = (
    *(f"{metric}_drop" for metric in METRIC_NAMES),
    "relative_drop", "size_ratio", "latency_ratio", "size_bytes", "latency_p50_ms", "parity_max_abs",
)  # fmt: skip


def parse_constraint(text: str, *, field: str = "subject_to") -> Comparison:
    """Parse one constraint.

    Raises:
        InvalidSpec: With the position and what was expected there.
    """
    words = Words(text, field=field, example="accuracy_drop <= 0.005")
    comparison = parse_comparison(words, NAMES, what="what a variant is measured by")
    words.end()
    return comparison


def violated(constraints: Sequence[Comparison], measured: Mapping[str, float]) -> list[str]:
    """What a variant breaks, in words; empty if it keeps all. A name that the task does not have is broken by nobody."""
    return [
        f"{c.name} is {measured[c.name]:.4g}, not {c.op} {c.limit:g}"
        for c in constraints
        if c.name in measured and not c.holds(measured[c.name])
    ]
