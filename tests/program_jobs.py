"""Stage functions of a user's program, for `test_programs`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

import millrace
from millrace import Context, Dataset, Model, Report, Table


@dataclass(frozen=True)
class Pair:
    low: float
    high: float


@millrace.stage
def add(a: float, b: float = 2.0) -> dict[str, float]:
    return {"sum": a + b}


@millrace.stage
def spread(pair: Pair) -> Pair:
    return Pair(pair.low - 1, pair.high + 1)


@millrace.stage
def talk() -> None:
    print("said on stdout")
    print("said on stderr", file=sys.stderr)


@millrace.stage
def unannotated(n: int):  # type: ignore[no-untyped-def]  # as people write it
    print(n)


@millrace.stage
def fail(number: int = 7) -> Report:
    raise ValueError(f"bad number {number}")


@millrace.stage
def promise() -> Report:
    return {"words": 1}  # type: ignore[return-value]  # the mistake that the test is about


@millrace.stage
def objects() -> object:
    return {"client": object()}


@millrace.stage
def leave() -> None:
    sys.exit(3)


@millrace.stage
def numbers(count: int) -> list[int]:
    return list(range(count))


@millrace.stage
def square(item: int) -> int:
    return item * item


@millrace.stage
def power(item: int, exponent: int = 2) -> int:
    return int(item**exponent)


@power.merge
def _total(results: Iterable[int], offset: int = 0) -> Report:
    return Report(metrics={"total": sum(results) + offset})


@millrace.stage
def tables_of(item: int) -> list[int]:
    return [item * n for n in range(1, 4)]


@tables_of.plan
def _tables(upto: int) -> list[int]:
    return list(range(1, upto + 1))


@tables_of.merge
def _joined(results: Iterable[list[int]]) -> list[int]:
    return [number for row in results for number in row]


@millrace.stage
def count_rows(rows: Dataset) -> int:
    return sum(rows.num_rows.values())


@count_rows.merge
def _counted(results: Iterable[int]) -> Report:
    each = list(results)
    return Report(metrics={"rows": sum(each), "shards": len(each)})


@millrace.stage
def describe(rows: Dataset, context: Context) -> Report:
    context.progress(1, 2, unit="rows")
    context.log.info("described")
    return Report(
        metrics={"rows": sum(rows.num_rows.values())},
        details={"seed": context.seed, "names": [c.name for c in rows.schema.columns]},
    )


@millrace.stage
def shout(rows: Dataset) -> Table:
    table = rows.to_arrow(columns=["text", "label"])
    return Table(table.set_column(0, "text", pc.utf8_upper(table.column("text"))))


@millrace.stage
def same(rows: Dataset) -> Dataset:
    return rows


@millrace.stage
def weigh(model: Model) -> Report:
    return Report(metrics={"parameters": model.card.num_parameters})


@millrace.stage
def raw_rows(rows: Table) -> int:
    return int(rows.data.num_rows)


@millrace.stage
def sleep(seconds: float = 60.0) -> None:
    time.sleep(seconds)


@millrace.stage
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@millrace.stage
def use_odd_items(item: int, needed: str) -> int:
    """Fails for even items until a file is there."""
    if item % 2 == 0 and not Path(needed).exists():
        raise FileNotFoundError(needed)
    return item
