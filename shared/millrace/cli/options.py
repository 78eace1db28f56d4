"""What commands share: the --json option, a client, and how values are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click
from pydantic import BaseModel

from millrace import errors

if TYPE_CHECKING:  # the client imports httpx, which would cost --help 60 ms
    from millrace.client import Client

F = TypeVar("F", bound=Callable[..., Any])

_WIDE = 1000

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


@contextmanager
def open_client() -> Iterator[Client]:
    """A client of MILLRACE_URL, of the home's running factory, or of one started for this command."""
    from millrace.client import Client

    with Client() as client:
        yield client


def print_json(value: Any) -> None:
    """Print a model, or a list of them, as one JSON document."""
    click.echo(json.dumps(plain(value), ensure_ascii=False, indent=2))


def plain(value: Any) -> Any:
    """The JSON-compatible form of models at any depth."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def error_of(data: Mapping[str, Any]) -> str:
    """What an event says of what went wrong; empty if it says nothing."""
    error = data.get("error")
    return str(error.get("message", "")) if isinstance(error, Mapping) else ""


def parse_pairs(pairs: Sequence[str], *, option: str) -> dict[str, str]:
    """`name=value` texts as a mapping.

    Raises:
        InvalidInput: A text has no `=`.
    """
    parsed = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise errors.InvalidInput(f"Expected NAME=VALUE; found {pair!r}.", field=option)
        parsed[name] = value
    return parsed


def parse_value(text: str) -> Any:
    """A parameter's value as the pipeline file would read it: YAML 1.2."""
    from millrace.contracts.loading import parse_yaml

    return parse_yaml(text, source="--param")


def ago(moment: datetime | None) -> str:
    """How long ago, in the largest whole unit."""
    if moment is None:
        return "-"
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    return f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    """Seconds for people: `0.3 s`, `12 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(num_bytes: float) -> str:
    """Bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000 or unit == "GB":
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    raise AssertionError("the last unit returns")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Print rows under their columns, or `empty` where there are none; without a terminal nothing is cut."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        click.echo(empty)
        return
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)
