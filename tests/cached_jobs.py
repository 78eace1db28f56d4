"""Stage functions for tests of the cache, as a user's program has them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable

import pyarrow as pa

import millrace
from millrace import Report, Table


def doubled(n: int) -> int:
    return n * 2


@millrace.stage
def make(count: int = 3) -> Table:
    return Table(pa.table({"n": [doubled(n) for n in range(count)]}))


@millrace.stage
def total(table: Table, offset: int = 0) -> Report:
    return Report(metrics={"total": float(sum(table.data["n"].to_pylist()) + offset)})


@millrace.stage
def chance() -> Report:
    return Report(metrics={"number": random.random()})


@millrace.stage
def slow(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


@millrace.stage
def sum_of_parts(item: int) -> int:
    return item


@sum_of_parts.plan
def parts(count: int) -> list[int]:
    return list(range(count))


@sum_of_parts.merge
def together(results: Iterable[int]) -> int:
    return sum(results)
