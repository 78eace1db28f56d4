"""`millrace init`: write a commented pipeline for the user's data file."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from millrace import errors
from millrace.cli.options import json_option
from millrace.contracts.schema import TASK_KINDS

SAMPLE_ROWS = 500
LIKELY_TARGETS = ("label", "target", "class", "y", "category", "sentiment", "species", "outcome")
LONG_TEXT = 30
"""Characters on average from which a column of texts is prose and not a category."""

MAX_CLASSES = 50

GATES = {
    "tabular_classification": "accuracy >= 0.8",
    "image_classification": "accuracy >= 0.9",
    "text_classification": "accuracy >= 0.7",
    "tabular_regression": "r2 >= 0.5",
    "language_modelling": "bits_per_character <= 4.0",
}


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--target", default="", help="The column to predict; guessed by name, else the last one.")
@click.option("--task", default="", help=f"One of {', '.join(TASK_KINDS)}; guessed from the columns.")
@click.option("--out", default=Path("pipeline.yaml"), show_default=True, type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@json_option
def init(data: Path, target: str, task: str, out: Path, force: bool, as_json: bool) -> int:
    """Write a commented pipeline for DATA: a CSV, TSV, JSON Lines or Parquet file."""
    if out.exists() and not force:
        raise errors.Conflict(f"{out} is already there.", field="--out", remedy="Give another --out, or --force.")
    rows = sample(data)
    columns = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    goal = choose_target(columns, target, task)
    kind = choose_task(rows, goal, task)
    text = pipeline_text(data, out, goal, kind, columns)
    out.write_text(text, encoding="utf-8")
    if as_json:
        click.echo(json.dumps({"pipeline": str(out), "task": kind, "target": goal, "columns": columns}))
    else:
        click.echo(f"Wrote {out}: {kind}{f' of {goal!r}' if goal else ''}. Run it with: millrace run {out}")
    return 0


def sample(data: Path) -> list[Mapping[str, Any]]:
    """The first rows of a data file.

    Raises:
        NotFound, InvalidData: There is no such file, it is empty, or its kind is not known.
    """
    if not data.is_file():
        raise errors.NotFound(f"There is no data file {str(data)!r}.", field="DATA")
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
    reader = readers.get(data.suffix.lower())
    if reader is None:
        raise errors.InvalidData(
            f"{data.name} is none of {', '.join(readers)}.", field="DATA", remedy="Convert it to one of them."
        )
    try:
        rows = reader(data)
    except (OSError, ValueError, csv.Error) as error:
        raise errors.InvalidData(f"Cannot read {data}: {str(error).splitlines()[0]}", field="DATA") from None
    if not rows:
        raise errors.InvalidData(f"{data} has no rows.", field="DATA", remedy="Give a file with a header and rows.")
    return rows


def choose_target(columns: Sequence[str], wanted: str, task: str) -> str:
    """The column to predict: the one asked for, one with a usual name, else the last; none for language modelling."""
    if wanted:
        if wanted not in columns:
            raise errors.InvalidInput(
                f"There is no column {wanted!r}; {errors.nearest(wanted, columns)}", field="--target"
            )
        return wanted
    if task == "language_modelling" or len(columns) == 1:
        return ""
    return next((c for c in columns if c.lower() in LIKELY_TARGETS), columns[-1])


def choose_task(rows: Sequence[Mapping[str, Any]], target: str, wanted: str) -> str:
    """The task kind that fits the columns."""
    if wanted:
        if wanted not in TASK_KINDS:
            raise errors.InvalidInput(f"Unknown task {wanted!r}; {errors.nearest(wanted, TASK_KINDS)}", field="--task")
        return wanted
    if not target:
        return "language_modelling"
    features = [c for c in rows[0] if c != target]
    values = {c: [r[c] for r in rows if r.get(c) not in (None, "")] for c in rows[0]}
    if any(isinstance(v, (list, dict, bytes)) for c in features for v in values[c][:1]):
        return "image_classification"
    if any(_is_prose(values[c]) for c in features):
        return "text_classification"
    goal = values[target]
    many = len({str(v) for v in goal}) > MAX_CLASSES
    return "tabular_regression" if goal and many and all(_is_number(v) for v in goal) else "tabular_classification"


def pipeline_text(data: Path, out: Path, target: str, task: str, columns: Sequence[str]) -> str:
    """The commented pipeline file."""
    name = re.sub(r"[^a-z0-9_-]+", "-", data.stem.lower()).strip("-") or "pipeline"
    name = name if name[0].isalpha() else f"p-{name}"
    goal = f"target: {json.dumps(target)}, " if target else ""
    path = _relative(data, out)
    others = ", ".join(json.dumps(c) for c in columns if c != target)
    return f"""# Made by `millrace init`. Check it with `millrace plan {out.name}`, run it with `millrace run {out.name}`.
api: millrace/v1
name: {name}

params:
  # Another file: millrace run {out.name} --data PATH (a file, a directory, or s3://bucket/prefix)
  data: {{type: dataset, default: {json.dumps(path)}}}

stages:
  # Reads, types, repairs, deduplicates and splits. Columns: {others[:300] or "text"}
  # Leave columns out with `ignore: [name]`; keep all rows of a user in one split with `split: {{by: user}}`.
  clean:
    with: {{{goal}task: {task}}}

  # Every setting has a default for the task; try `epochs`, `learning_rate`, `max_seconds`.
  train:
    with: {{task: {task}}}

  # The gate decides whether anything ships. Also possible: accuracy non_inferior_to current by 0.005
  evaluate:
    with: {{gate: [{GATES[task]}]}}

  # Smaller, faster variants; the fastest one that keeps its quality is chosen, then judged again.
  optimize:
    with: {{minimize: latency_p50_ms}}

  # The endpoint answers at /v1/endpoints/{name}/{"generate" if task == "language_modelling" else "predict"}
  deploy:
    with: {{endpoint: {name}}}
"""


def _relative(data: Path, out: Path) -> str:
    base = out.absolute().parent
    full = data.absolute()
    return str(full.relative_to(base)) if full.is_relative_to(base) else str(full)


def _csv(path: Path) -> list[Mapping[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        head = file.read(65536)
        file.seek(0)
        delimiter = (
            "\t"
            if path.suffix.lower() == ".tsv"
            else csv.Sniffer().sniff(head, ",;\t|").delimiter
            if head.strip()
            else ","
        )
        return list(itertools.islice(csv.DictReader(file, delimiter=delimiter), SAMPLE_ROWS))


def _jsonl(path: Path) -> list[Mapping[str, Any]]:
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in itertools.islice(file, SAMPLE_ROWS) if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a line is not a JSON object")
    return rows


def _parquet(path: Path) -> list[Mapping[str, Any]]:
    import pyarrow.parquet as pq

    batch = next(pq.ParquetFile(path).iter_batches(SAMPLE_ROWS), None)
    return [] if batch is None else list(batch.to_pylist())


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_prose(values: Sequence[Any]) -> bool:
    texts = [v for v in values if isinstance(v, str) and not _is_number(v)]
    return bool(texts) and sum(map(len, texts)) / len(texts) > LONG_TEXT
