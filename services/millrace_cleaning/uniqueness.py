"""Whether rows are told apart by columns that an expectation names: by keys a row, over all parts, of the rows that stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace import errors
from millrace.datasets.keys import row_keys
from millrace_cleaning.dedup import first_of_each
from millrace_cleaning.settings import CleanConfig

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Repeats:
    """Rows whose values in some columns an earlier row has.

    Attributes:
        expectation: Which one asked, from 0.
        columns: That it names.
        num_rows: How many rows repeat another.
        example: Positions of one that repeats and of the row it repeats; None if there is none.
    """

    expectation: int
    columns: Sequence[str]
    num_rows: int
    example: tuple[int, int] | None


def check_columns(config: CleanConfig, columns: Sequence[str]) -> None:
    """Refuse a column that the data set will not have.

    Raises:
        InvalidData: There is none of that name.
    """
    for number, names in _asked(config):
        unknown = next((name for name in names if name not in columns), None)
        if unknown is not None:
            raise errors.InvalidData(
                f"The data has no column {unknown!r}; {errors.nearest(unknown, columns)}",
                field=f"with.expect.{number}.unique",
            )


def unique_keys(batch: pa.RecordBatch, config: CleanConfig) -> Mapping[str, pa.Array]:
    """Both halves of each row's key over the columns of each expectation; null where one of the columns is null."""
    found: dict[str, pa.Array] = {}
    for number, names in _asked(config):
        low, high = row_keys(batch, names)
        is_null = np.zeros(batch.num_rows, dtype=np.bool_)
        for name in names:
            is_null |= pc.is_null(batch.column(name)).to_numpy(zero_copy_only=False)
        found |= {_low(number): pa.array(low, mask=is_null), _high(number): pa.array(high, mask=is_null)}
    return found


def repeats(read: Callable[[str], pa.ChunkedArray], rows: Ints, *, config: CleanConfig) -> Iterator[Repeats]:
    """Count the rows, of those at these positions, that repeat another. Memory: 60 bytes a row, one expectation at a time.

    Args:
        read: Gives a column of `unique_keys`, of all rows.
    """
    for number, names in _asked(config):
        low, high = read(_low(number)), read(_high(number))
        there = rows[low.is_valid().to_numpy()[rows]]
        first, numbers = first_of_each(_at(low, there), _at(high, there))
        again = np.flatnonzero(~first)
        example = None
        if len(again):
            original = np.flatnonzero(first)[numbers[again[0]]]
            example = int(there[again[0]]), int(there[original])
        yield Repeats(number, names, len(again), example)


def _asked(config: CleanConfig) -> Iterator[tuple[int, tuple[str, ...]]]:
    for number, expectation in enumerate(config.expect):
        if expectation.unique:
            yield number, expectation.unique


def _at(halves: pa.ChunkedArray, rows: Ints) -> npt.NDArray[np.uint64]:
    values: npt.NDArray[np.uint64] = halves.fill_null(0).to_numpy()[rows]
    return values


def _low(number: int) -> str:
    return f".unique{number}_low"


def _high(number: int) -> str:
    return f".unique{number}_high"
