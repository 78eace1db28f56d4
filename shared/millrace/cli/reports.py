"""What stages report, as tables: the split of the data, metrics with intervals, variants, the endpoint's answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from millrace.cli.options import duration, size
from millrace.contracts.views import StageView

FEW_RULES = 4
"""As many rules stand in one line; more of them one below the other."""
VERDICT_STYLE = {"passed": "green", "failed": "red", "inconclusive": "yellow"}


def report_console() -> Console:
    """Standard output: as wide as the terminal, or wide enough for the tables where there is none."""
    return Console() if sys.stdout.isatty() else Console(width=120)


def stage_report(stage: StageView) -> RenderableType | None:
    """What one finished stage has to show, or None."""
    if stage.outputs is None or not stage.outputs.summary:
        return None
    build = {
        "clean": _clean, "audit": _audit, "tokenize": _tokenize, "train": _train, "evaluate": _evaluate,
        "optimize": _optimize, "predict": _predict,
    }  # fmt: skip
    maker = build.get(stage.kind)
    return maker(stage.outputs.summary) if maker else None


def print_report(console: Console, stage: StageView) -> None:
    report = stage_report(stage)
    if report is not None:
        console.print(Text(f"\n{stage.name}", style="bold"))
        console.print(report)


def _clean(summary: Mapping[str, Any]) -> RenderableType:
    splits = ", ".join(f"{name} {rows}" for name, rows in summary.get("splits", {}).items())
    removed = [(rule, rows) for rule, rows in summary.get("removed", {}).items() if rows]
    removed.sort(key=lambda pair: -int(pair[1]))
    others = summary.get("removed_by_others", 0)
    removed += [("other rules", others)] if others else []
    lines = [f"  {summary.get('rows_in')} rows in, {summary.get('rows_out')} out: {splits}"]
    if len(removed) > FEW_RULES:
        width = max(len(str(rows)) for _, rows in removed)
        lines += ["  removed:", *(f"    {rows:>{width}}  {rule}" for rule, rows in removed)]
    elif removed:
        lines += ["  removed: " + ", ".join(f"{rule} {rows}" for rule, rows in removed)]
    lines += [f"  warning: {warning}" for warning in summary.get("warnings", [])]
    return Text("\n".join(lines))


def _audit(summary: Mapping[str, Any]) -> RenderableType:
    counts = ", ".join(f"{severity} {count}" for severity, count in summary.get("findings", {}).items())
    lines = [f"  findings: {counts}; models looked at {summary.get('rows_judged', 0):,} rows"]
    lines += [f"  {found}" for found in summary.get("found", [])]
    lines += [f"  fail_on {rule['rule']}: {rule.get('detail', '')}" for rule in summary.get("gate", [])]
    return Text("\n".join(lines))


def _tokenize(summary: Mapping[str, Any]) -> RenderableType:
    tokens = ", ".join(f"{split} {count:,}" for split, count in summary.get("tokens", {}).items())
    return Text(
        f"  vocabulary of {summary.get('vocabulary_size', 0):,}, {_number(summary.get('bytes_per_token'))} bytes a token;"
        f" tokens: {tokens}"
    )


def _train(summary: Mapping[str, Any]) -> RenderableType:
    validation = ", ".join(f"{name} {_number(value)}" for name, value in summary.get("validation", {}).items())
    return Text(
        f"  {summary.get('architecture')}, {summary.get('num_parameters', 0):,} parameters,"
        f" {duration(float(summary.get('seconds', 0)))} on {summary.get('device', 'cpu')}; validation: {validation}"
    )


def _evaluate(summary: Mapping[str, Any]) -> RenderableType:
    table = _table("metric", "value", "95% interval")
    for name, metric in summary.get("metrics", {}).items():
        low, high = metric.get("low"), metric.get("high")
        interval = f"{_number(low)} to {_number(high)}" if low is not None else "-"
        table.add_row(Text(name), _number(metric["value"]), interval)
    parts: list[RenderableType] = [table, Text(f"  on {summary.get('num_rows')} rows of the test split")]
    for rule in summary.get("gate", []):
        line = Text("  gate ")
        line.append(rule["verdict"], style=VERDICT_STYLE.get(rule["verdict"], ""))
        line.append(f": {rule['rule']} ({rule.get('detail', '')})")
        parts.append(line)
    if summary.get("confusion"):
        parts.append(_confusion(summary["confusion"], summary.get("labels", [])))
    return Group(*parts)


def _confusion(counts: list[list[int]], labels: list[str]) -> RenderableType:
    table = _table("true \\ predicted", *labels)
    largest = max((n for row in counts for n in row), default=1) or 1
    for label, row in zip(labels, counts, strict=False):
        cells = [
            Text(str(n) if n else ".", style=_shade(n / largest, hit=label == other))
            for n, other in zip(row, labels, strict=False)
        ]
        table.add_row(Text(label), *cells)
    return table


def _shade(share: float, *, hit: bool) -> str:
    if share == 0:
        return "dim"
    return "green" if hit else "red"


def _optimize(summary: Mapping[str, Any]) -> RenderableType:
    variants = summary.get("variants", [])
    metric = next((str(v["metric_name"]) for v in variants if v.get("metric_name")), "metric")
    table = _table("variant", "size", "p50", metric, "drop (paired interval)", "")
    for v in variants:
        chosen = v.get("status") == "chosen"
        drop = v.get("drop") or {}
        interval = f"{_number(drop.get('value'))} ({_number(drop.get('low'))} to {_number(drop.get('high'))})"
        table.add_row(
            str(v.get("name")),
            size(v["size_bytes"]) if v.get("size_bytes") else "-",
            f"{v['latency_p50_ms']:.3f} ms" if v.get("latency_p50_ms") is not None else "-",
            _number(v.get("metric", v.get(metric))),
            interval if drop else "-",
            str(v.get("status", "")),
            style="bold green" if chosen else "",
        )
    reasons = [f"  {v.get('name')} {v.get('status')}: {v['reason']}" for v in variants if v.get("reason")]
    return Group(table, *(Text(reason, style="dim") for reason in reasons))


def _predict(summary: Mapping[str, Any]) -> RenderableType:
    return Text(
        f"  {summary.get('rows')} rows in {summary.get('shards')} shards, {_number(summary.get('rows_per_s'))} rows/s"
    )


def answer(request: Any, response: Any, *, limit: int = 300) -> RenderableType:
    """A sample request with its answer, each shortened to a readable length."""
    return Text(f"  request  {_short(request, limit)}\n  answer   {_short(response, limit)}")


def _short(value: Any, limit: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(Text(column), no_wrap=True)  # a class's name is no markup
    return table


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "-" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value + 0.0:.4g}"  # + 0.0 makes -0.0 a plain 0
