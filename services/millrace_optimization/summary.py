"""The table of variants that people see, within the 4 KiB of a stage's summary."""

from __future__ import annotations

from typing import Any

from millrace_optimization.choosing import Variant, VariantTable

MAX_REASON = 160


def summarize(table: VariantTable) -> dict[str, Any]:
    """What the command line and the dashboard show; everything measured is in variants.json."""
    return {
        "chosen": table.chosen,
        "minimize": table.minimize,
        "constraint": list(table.subject_to)[:8],
        "variants": [_row(variant, table.primary_metric) for variant in table.variants],
    }


def _row(variant: Variant, primary: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": variant.name, "format": variant.format, "precision": variant.precision, "status": variant.status,
        "reason": variant.reason[:MAX_REASON],
    }  # fmt: skip
    if variant.status == "failed":
        return row
    drop = variant.drops[primary]
    return row | {
        "size_bytes": variant.size_bytes,
        "latency_p50_ms": _short(variant.latency_p50_ms),
        "metric_name": primary,
        "metric": _short(variant.metrics[primary].value),
        "drop": {"value": _short(drop.value), "low": _short(drop.low), "high": _short(drop.high)},
        "parity_max_abs": _short(variant.parity_max_abs),
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")
