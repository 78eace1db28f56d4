"""What a run of any example does: data, the pipeline through the real command line, then the baselines on the same rows."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.comparing import MODEL, Comparison, Outcome
from millrace.cli.__main__ import main

HERE = Path(__file__).parent

STYLES: dict[Outcome, str] = {"ahead": "green", "level": "yellow", "behind": "red"}
WORDS: dict[Outcome, str] = {
    "ahead": "the model wins",
    "level": "a draw: the interval has 0 in it",
    "behind": "the baseline wins",
}


def run_example(name: str, arguments: Sequence[str]) -> int:
    """Run one example; return 0 only if its pipeline succeeded, its endpoint answered and its baselines were computed.

    Args:
        name: Its folder.
        arguments: Handed on to `millrace run`; `--save DIR` keeps what the stages made.
    """
    make_data(name)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--save", type=Path)
    known, rest = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory(prefix="millrace-example-") as scratch:
        saved: Path = known.save or Path(scratch)
        code = main(["run", str(HERE / name / "pipeline.yaml"), "--save", str(saved), *rest])
        if code or not predictions_in(saved).exists():  # --help and --detach end well and leave nothing to compare
            return code
        show(compare(name, saved), as_json="--json" in rest)
    return 0


def make_data(name: str) -> Path:
    """Make the example's data if it is missing; return its file."""
    found = sorted((HERE / name / "data").glob("*.parquet"))
    if found:
        return found[0]
    made: Path = import_module(f"examples.{name}.make_data").make_data()
    return made


def compare(name: str, saved: Path) -> Comparison:
    """Compare the served model with the example's baselines, on the run's own splits.

    Args:
        name: The example's folder.
        saved: Where `millrace run --save` put what the stages made.
    """
    # Imported only now: scikit-learn would hold memory and a second of time while the pipeline runs.
    compare: Callable[[Path, Path], Comparison] = import_module(f"examples.{name}.baseline").compare
    return compare(saved / "clean" / "dataset", predictions_in(saved))


def predictions_in(saved: Path, *, stage: str = "evaluate_optimized") -> Path:
    """What the model answered on the test split: by default the optimized one, which is the one that serves."""
    return saved / stage / "report" / "predictions.parquet"


def show(comparison: Comparison, *, as_json: bool) -> None:
    """Print the comparison, and who wins."""
    if as_json:
        print(json.dumps({"baselines": as_document(comparison)}))
        return
    console = Console() if sys.stdout.isatty() else Console(width=120)
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("method", comparison.metric, "the model's lead (paired 95% interval)", ""):
        table.add_column(column, no_wrap=True)
    table.add_row("the served model", f"{comparison.value(MODEL):.4f}")
    for method in comparison.baselines:
        lead = comparison.lead(method)
        table.add_row(
            method,
            f"{comparison.value(method):.4f}",
            f"{lead.value:+.4f} ({lead.low:+.4f} to {lead.high:+.4f})",
            Text(WORDS[lead.outcome], style=STYLES[lead.outcome]),
        )
    console.print(Text("\nbaselines", style="bold"))
    console.print(table)
    console.print(f"  on the same {len(comparison.row_ids)} rows of the test split")
    for method, choice in comparison.tuned.items():
        console.print(Text(f"  {method} was tuned on the validation split: {choice}", style="dim"))


def as_document(comparison: Comparison) -> dict[str, object]:
    """The comparison for scripts."""
    return {
        "metric": comparison.metric,
        "rows": len(comparison.row_ids),
        "model": comparison.value(MODEL),
        **{
            method: {comparison.metric: comparison.value(method), "model_leads_by": asdict(comparison.lead(method))}
            for method in comparison.baselines
        },
    }
