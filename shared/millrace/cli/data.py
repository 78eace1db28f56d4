"""`millrace data`: what is in a data set, what became of its rows, and what changed between two."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from millrace import errors
from millrace.cli.options import json_option, open_client, print_json, print_table
from millrace.cli.reveal import key_id, reveal
from millrace.cli.steps import steps

if TYPE_CHECKING:  # these import pyarrow, which --help does without
    from millrace.contracts.artifacts import ArtifactRef
    from millrace.contracts.schema import Column, ColumnType
    from millrace.datasets.accounts import Account, Action
    from millrace.datasets.differences import Difference
    from millrace.datasets.reading import Dataset

_FACTS = ("schema.json", "profile.json")
_RUN_ID = re.compile(r"run_[0-9A-Za-z]+")
_DIGEST = re.compile(r"(sha256:)?[0-9a-fA-F]+")
_MOST_COLUMNS = 40

split_option = click.option("--split", type=click.Choice(["train", "validation", "test"]), help="Default: all.")


@click.group()
def data() -> None:
    """Show, compare, explain, sample and export data sets.

    DATASET is the id of a run that made one, its digest or the start of that, or a directory it was downloaded to.
    """


for command in (steps, reveal, key_id):
    data.add_command(command)


@data.command()
@click.argument("dataset")
@json_option
def show(dataset: str, as_json: bool) -> int:
    """Print a data set's columns, splits and what was removed."""
    with opened(dataset, only=_FACTS) as found:
        profile, columns = found.profile, found.schema.columns
        if as_json:
            print_json({"schema": found.schema.model_dump(mode="json"), "profile": profile})
            return 0
    splits = ", ".join(f"{name} {count:,}" for name, count in profile.get("splits", {}).items())
    click.echo(f"{profile.get('rows_in', 0):,} rows in, {profile.get('rows_out', 0):,} out: {splits}")
    for rule, count in sorted(profile.get("removed", {}).items(), key=lambda item: -item[1]):
        click.echo(f"  removed by {rule}: {count:,}")
    for warning in profile.get("warnings", []):
        click.echo(f"  warning: {warning}")
    nulls = {name: sum(about.get("nulls", {}).values()) for name, about in profile.get("columns", {}).items()}
    print_table(
        ("column", "type", "role", "nulls", "range"),
        [
            (c.name, f"{c.type} ({c.unit})" if c.unit else c.type, c.role, str(nulls.get(c.name, 0)), _range(c))
            for c in columns
        ],
        empty="No columns.",
    )
    return 0


@data.command()
@click.argument("dataset")
@click.option("--row", default="", help="One row: its row_id, or FILE:NUMBER as in the source, from 1.")
@click.option("--rule", default="", help="One rule or step, such as gopher_quality or check_table.ge.")
@click.option("--action", type=click.Choice(["removed", "changed", "flagged"]), help="Default: all.")
@click.option("--max", "max_entries", default=20, show_default=True, help="How many rows to print.")
@json_option
def explain(dataset: str, row: str, rule: str, action: Action | None, max_entries: int, as_json: bool) -> int:
    """Say what became of rows: which rule removed or changed one, and which value stood against which limit."""
    from millrace.datasets.accounts import read_account

    with opened(dataset, only=(*_FACTS, "account/*")) as found:
        account = read_account(found, row=row, rule=rule, action=action, max_entries=max_entries)
        profile = found.profile
    if rule and not account.num_entries:
        _check_rule(rule, profile)
    if as_json:
        print_json(account)
    else:
        _print_account(account, empty=_nothing(row, profile))
    return 0


@data.command()
@click.argument("old")
@click.argument("new")
@click.option("--by", multiple=True, help="Column that names a row; may be given again.")
@json_option
def diff(old: str, new: str, by: tuple[str, ...], as_json: bool) -> int:
    """Compare two versions of a data set: rows added, removed and changed, and how far each column drifted.

    Rows match by row_id where both were made of one source, else by columns of role id, else by what they hold. The exit
    code is 0 if nothing differs, else 1.
    """
    from millrace.datasets.differences import diff as compare

    with opened(old) as first, opened(new) as second:
        found = compare(first, second, by=by)
    if as_json:
        print_json(found)
    else:
        _print_difference(found)
    return 0 if found.is_equal else 1


@data.command()
@click.argument("dataset")
@click.option("-n", "--rows", default=10, show_default=True, type=click.IntRange(1, 1_000_000))
@split_option
@click.option("--seed", default=0, show_default=True, help="Another seed draws other rows.")
@click.option("--out", type=click.Path(path_type=Path), help="A .parquet, .csv or .jsonl file; default: lines of JSON.")
def sample(dataset: str, rows: int, split: Any, seed: int, out: Path | None) -> int:
    """Draw rows at random. Equal seeds draw equal rows, however the data set is cut."""
    from millrace.datasets.samples import sample as draw
    from millrace.datasets.tables import write_jsonl, write_table

    with opened(dataset) as found:
        taken = draw(found, num_rows=rows, split=split, seed=seed)
    if taken is None:
        raise errors.NotFound("The data set has no such rows.", field="--split")
    if out is None:
        write_jsonl(taken, sys.stdout)
    else:
        write_table(taken, out)
        click.echo(str(out))
    return 0


@data.command()
@click.argument("dataset")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--name", default="", help="Of the data set, for its card; default: the directory's name.")
@json_option
def export(dataset: str, directory: Path, name: str, as_json: bool) -> int:
    """Write a data set as Hugging Face lays it out; `datasets.load_dataset(DIRECTORY)` loads it."""
    from millrace.datasets.huggingface import export as write

    with opened(dataset) as found:
        files = write(found, directory, name=name or directory.resolve().name)
    click.echo(json.dumps([str(f) for f in files]) if as_json else f"{len(files)} files in {directory}")
    return 0


@data.command()
@click.argument("dataset")
@click.option("--out", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True)
def report(dataset: str, out: Path) -> int:
    """Save a data set's profile as a page with plots that opens without a network."""
    with opened(dataset, only=(*_FACTS, "report.html")) as found:
        page = found.root / "report.html"
        if not page.exists():
            raise errors.NotFound("The data set has no report.", remedy="Clean the data again.", field="DATASET")
        out.write_bytes(page.read_bytes())
    click.echo(str(out))
    return 0


@contextmanager
def opened(dataset: str, *, only: Sequence[str] = ()) -> Iterator[Dataset]:
    """A data set by what the user called it; what is downloaded is gone at the end."""
    try:
        from millrace.datasets.reading import open_dataset
    except ImportError as error:
        raise errors.InvalidInput(
            f"Reading data sets needs {error.name}.", remedy="pip install 'millrace[cleaning]'"
        ) from None
    if Path(dataset).is_dir():
        yield open_dataset(Path(dataset))
        return
    with tempfile.TemporaryDirectory(prefix="millrace-data-") as folder:
        with open_client() as client:
            ref = _find(client, dataset)
            root = client.download(ref, folder, only=only)
        yield open_dataset(root)


def _find(client: Any, asked: str) -> ArtifactRef:
    """Raises: NotFound: Nothing is known by that name."""
    from millrace.client.results import Outcome
    from millrace.contracts.artifacts import ArtifactRef

    if _RUN_ID.fullmatch(asked):
        return Outcome(client.run(asked).view).dataset
    if not _DIGEST.fullmatch(asked):
        raise errors.NotFound(
            f"There is no directory {asked!r}, and it is no run's id and no digest.",
            remedy="See `millrace runs`, or save a run's data by `millrace run --save DIRECTORY`.",
            field="DATASET",
        )
    roots = client.lineage(asked).roots
    return ArtifactRef(digest=roots[0].digest, type="dataset")


def _check_rule(rule: str, profile: Mapping[str, Any]) -> None:
    """Raises: NotFound: No step of the recipe, and no rule that touched a row, is called so."""
    steps = {s["step"] for s in profile.get("steps", [])} | {r["step"] for r in profile.get("rules", [])}
    if rule.partition(".")[0] not in steps:
        rules = (f"{r['step']}.{r['rule']}" for r in profile.get("rules", []))
        raise errors.NotFound(
            f"No step and no rule that touched a row is called {rule!r}; {errors.nearest(rule, {*steps, *rules})}",
            field="--rule",
        )


def _nothing(row: str, profile: Mapping[str, Any]) -> str:
    """What it may mean that an account says nothing."""
    unread = profile.get("unread", {}).get("rows", {})
    if not row or not unread:
        return "Nothing is in the account about that: such rows stayed as they came, or there are none."
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in unread.items())
    return (
        f"Nothing is in the account about that row: it stayed as it came, there is none, or it was not read ({reasons}). "
        "What was not read is in the stage's quarantine, if `on_bad_row` says so."
    )


def _print_account(account: Account, *, empty: str) -> None:
    print_table(
        ("step", "rule", "action", "rows"),
        [(c.step, c.rule, c.action, f"{c.rows:,}") for c in account.counts],
        empty=empty,
    )
    if account.entries:
        click.echo()
        print_table(
            ("row_id", "place", "rule", "action", "column", "value", "limit", "detail"),
            [
                (e.row_id, f"{e.file}:{e.row}", f"{e.step}.{e.rule}", e.action, e.column, _number(e.value),
                 _number(e.limit), e.detail or "")
                for e in account.entries
            ],
            empty="",
        )  # fmt: skip
    if account.num_entries > len(account.entries):
        click.echo(f"... and {account.num_entries - len(account.entries):,} more; --max shows them, --row one row's.")


def _print_difference(found: Difference) -> None:
    by = {"row_id": "row_id", "content": "all they hold"}.get(found.matched_by, ", ".join(found.columns))
    click.echo(f"{found.rows_old:,} rows, then {found.rows_new:,}; matched by {by}")
    click.echo(f"  added {found.added:,}, removed {found.removed:,}, changed {found.changed:,}, moved {found.moved:,}")
    notes: Sequence[tuple[str, Sequence[str]]] = (
        ("columns added", found.columns_added),
        ("columns removed", found.columns_removed),
        ("columns of another type", found.columns_retyped),
        ("changed in", [f"{name} ({rows:,})" for name, rows in found.changed_by_column.items()][:_MOST_COLUMNS]),
    )
    for caption, values in notes:
        if values:
            click.echo(f"  {caption}: {', '.join(values)}")
    click.echo()
    print_table(
        ("column", "drift", "measure", "nulls", "mean", "labels"),
        [
            (
                d.column, f"{d.value:.3f}{' !' if d.is_notable else ''}", d.measure,
                f"{d.nulls_old:.1%} > {d.nulls_new:.1%}", f"{_number(d.mean_old)} > {_number(d.mean_new)}".strip(" >"),
                ", ".join([*(f"+{label}" for label in d.appeared), *(f"-{label}" for label in d.vanished)]),
            )
            for d in found.drift[:_MOST_COLUMNS]
        ],
        empty="No column is in both.",
    )  # fmt: skip


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _range(column: Column) -> str:
    if column.minimum is None or column.maximum is None:
        return ""
    return f"{_end(column.minimum, column.type)} to {_end(column.maximum, column.type)}"


def _end(value: float, type_: ColumnType) -> str:
    if type_ == "timestamp":
        with suppress(OverflowError, ValueError, OSError):  # what lies outside of the years 1 to 9999 stays seconds
            return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{value:.4g}"
