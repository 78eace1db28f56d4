"""The page itself: plots as inline SVG, no script, nothing fetched."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jinja2
import pyarrow as pa

from millrace.contracts.schema import DatasetSchema
from millrace.datasets.reading import SPLITS
from millrace_cleaning.report.figures import correlations, distributions, examples
from millrace_cleaning.report.sampling import SPLIT

MAX_CORRELATION_TINT = 0.85


def render(profile: Mapping[str, Any], schema: DatasetSchema, sample: pa.Table | None) -> bytes:
    """Return the page of a data set's profile.

    Args:
        profile: What `profile.json` holds.
        sample: Rows to draw and show, as `sampling.read_samples` gives them; None for a data set without rows.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("millrace_cleaning.report", "."), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals.update(count="{:,}".format, share="{:.1%}".format, tint=_tint)
    page = environment.get_template("page.html.j2")
    return page.render(
        profile=profile,
        schema=schema,
        split_column=SPLIT,
        splits=[s for s in SPLITS if profile.get("splits", {}).get(s)],
        nulls=_nulls(profile),
        distributions=[] if sample is None else distributions(schema, sample),
        correlations=None if sample is None else correlations(schema, sample),
        examples=[] if sample is None else examples(schema, sample),
        num_sampled=0 if sample is None else sample.num_rows,
    ).encode()


def _nulls(profile: Mapping[str, Any]) -> list[tuple[str, int]]:
    """(column, nulls) of columns that have any, the emptiest first."""
    counts = {name: sum(about.get("nulls", {}).values()) for name, about in profile.get("columns", {}).items()}
    return [(n, c) for n, c in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if c]


def _tint(r: float) -> str:
    """Background of a correlation: blue for positive, red for negative, stronger as it nears 1."""
    if math.isnan(r):
        return "transparent"
    hue = 215 if r >= 0 else 5
    return f"hsla({hue}, 70%, 50%, {MAX_CORRELATION_TINT * abs(r):.2f})"
