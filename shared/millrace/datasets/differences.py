"""What changed between two versions of a data set: rows added, removed and changed, splits, columns, and drift."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from millrace import errors
from millrace.contracts.base import Contract
from millrace.contracts.schema import ROW_ID
from millrace.datasets.drift import ColumnDrift, drift
from millrace.datasets.keys import UInt64s, row_keys
from millrace.datasets.reading import SPLITS, Dataset
from millrace.datasets.samples import sample

SAMPLE_ROWS = 50_000
MOST_IDS = 100

Bools = npt.NDArray[np.bool_]


class Difference(Contract):
    """What it takes to get from an older version of a data set to a newer one."""

    matched_by: Literal["row_id", "columns", "content"] = Field(
        description="row_id: both were made of one source; columns: by those that name a row; content: equal rows match, "
        "and none counts as changed."
    )
    columns: tuple[str, ...] = Field(default=(), description="That rows were matched by.")
    rows_old: int
    rows_new: int
    added: int
    removed: int
    changed: int = Field(description="Rows of one name that hold something else.")
    moved: int = Field(description="Rows of one name that went to another split.")
    changed_by_column: dict[str, int] = Field(description="In how many of the changed rows a column differs.")
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    columns_retyped: tuple[str, ...]
    added_rows: tuple[str, ...] = Field(description="Ids of the first 100.")
    removed_rows: tuple[str, ...]
    changed_rows: tuple[str, ...]
    drift: tuple[ColumnDrift, ...] = Field(description="Of columns that both have, but for ids; the furthest first.")

    @property
    def is_equal(self) -> bool:
        """Whether both hold the same rows, in the same splits, under the same columns."""
        columns = self.columns_added + self.columns_removed + self.columns_retyped
        return not (self.added or self.removed or self.changed or self.moved or columns)


@dataclass(frozen=True, slots=True)
class _Keys:
    """Of each row, in order: its name's key, its content's key, its split's code. 33 bytes a row."""

    names: npt.NDArray[np.void]
    contents: npt.NDArray[np.void]
    splits: npt.NDArray[np.int8]


def diff(old: Dataset, new: Dataset, *, by: Sequence[str] = ()) -> Difference:
    """Compare two versions of a data set.

    Args:
        by: Columns that name a row. Default: row_id if both were made of one source, else columns of role id, else all.

    Raises:
        InvalidInput: A column of `by` is not in both.
    """
    shared = _shared_columns(old, new)
    matched_by, columns = _identity(old, new, by, shared)
    keys = [_keys_of(dataset, matched_by, columns, shared) for dataset in (old, new)]
    here, there = _match(keys[0].names, keys[1].names)
    is_changed = keys[0].contents[here] != keys[1].contents[there]
    is_moved = keys[0].splits[here] != keys[1].splits[there]
    gone, come = _others(len(keys[0].names), here), _others(len(keys[1].names), there)
    types = [{c.name: c.type for c in dataset.schema.columns} for dataset in (old, new)]
    return Difference(
        matched_by=matched_by,
        columns=tuple(columns),
        rows_old=len(keys[0].names),
        rows_new=len(keys[1].names),
        added=int(come.sum()),
        removed=int(gone.sum()),
        changed=int(is_changed.sum()),
        moved=int(is_moved.sum()),
        changed_by_column=_changed_columns(old, new, here[is_changed], there[is_changed], shared),
        columns_added=tuple(sorted(types[1].keys() - types[0].keys())),
        columns_removed=tuple(sorted(types[0].keys() - types[1].keys())),
        columns_retyped=tuple(sorted(n for n in types[0].keys() & types[1].keys() if types[0][n] != types[1][n])),
        added_rows=_ids(new, np.flatnonzero(come)[:MOST_IDS]),
        removed_rows=_ids(old, np.flatnonzero(gone)[:MOST_IDS]),
        changed_rows=_ids(new, np.sort(there[is_changed])[:MOST_IDS]),
        drift=_drifts(old, new),
    )


def _shared_columns(old: Dataset, new: Dataset) -> list[str]:
    known = {(c.name, c.type, c.shape) for c in old.schema.columns}
    return [c.name for c in new.schema.columns if (c.name, c.type, c.shape) in known]


def _identity(
    old: Dataset, new: Dataset, by: Sequence[str], shared: Sequence[str]
) -> tuple[Literal["row_id", "columns", "content"], Sequence[str]]:
    for name in by:
        if name not in shared:
            raise errors.InvalidInput(
                f"Column {name!r} is not of one type in both data sets; {errors.nearest(name, shared)}", field="by"
            )
    if by:
        return "columns", by
    if old.source == new.source:
        return "row_id", (ROW_ID,)
    named = [c.name for c in new.schema.columns if c.role == "id" and c.name in shared]
    return ("columns", named) if named else ("content", shared)


def _keys_of(dataset: Dataset, matched_by: str, columns: Sequence[str], shared: Sequence[str]) -> _Keys:
    """A row that comes again under its name is told from the first by its number, so that each matches one other."""
    names, contents, splits = [], [], []
    for split, batch in dataset.batches(columns=shared):
        contents.append(_joined(*row_keys(batch, shared)) if shared else _nothing(batch.num_rows))
        names.append(contents[-1] if matched_by == "content" else _joined(*row_keys(batch, columns)))
        splits.append(np.full(batch.num_rows, SPLITS.index(split), dtype=np.int8))
    none = _nothing(0)
    return _Keys(
        _numbered(np.concatenate([none, *names])),
        np.concatenate([none, *contents]),
        np.concatenate([np.empty(0, np.int8), *splits]),
    )


_KEY = np.dtype([("low", "<u8"), ("high", "<u8")])


def _joined(low: UInt64s, high: UInt64s) -> npt.NDArray[np.void]:
    joined = np.empty(len(low), dtype=_KEY)
    joined["low"], joined["high"] = low, high
    return joined


def _nothing(num_rows: int) -> npt.NDArray[np.void]:
    return np.zeros(num_rows, dtype=_KEY)


def _numbered(keys: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    order = np.lexsort((np.arange(len(keys)), keys["high"], keys["low"]))
    ordered = keys[order]
    starts = np.ones(len(keys), dtype=np.bool_)
    starts[1:] = ordered[1:] != ordered[:-1]
    begins = np.maximum.accumulate(np.where(starts, np.arange(len(keys)), 0))
    numbered = keys.copy()
    numbered["high"][order] += (np.arange(len(keys)) - begins).astype(np.uint64)  # wraps; keys are random enough
    return numbered


def _match(old: npt.NDArray[np.void], new: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Positions in either of the names that both have, each once, in the older one's order."""
    rows = np.concatenate([old, new])
    order = np.lexsort((np.arange(len(rows)), rows["high"], rows["low"]))
    ordered = rows[order]
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    here, there = order[twice], order[twice + 1] - len(old)
    by_place = np.argsort(here, kind="stable")
    return here[by_place], there[by_place]


def _others(num_rows: int, matched: npt.NDArray[np.intp]) -> Bools:
    others = np.ones(num_rows, dtype=np.bool_)
    others[matched] = False
    return others


def _changed_columns(
    old: Dataset, new: Dataset, here: npt.NDArray[np.intp], there: npt.NDArray[np.intp], shared: Sequence[str]
) -> dict[str, int]:
    """One column at a time, so that memory holds 16 bytes a changed row."""
    counts = {}
    for name in shared if len(here) else ():
        keys = [_column_keys(d, name, rows) for d, rows in ((old, here), (new, there))]
        if num := int((keys[0] != keys[1]).sum()):
            counts[name] = num
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _column_keys(dataset: Dataset, name: str, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.void]:
    """Keys of one column's values in the given rows, in their order."""
    found = _nothing(len(rows))
    order = np.argsort(rows, kind="stable")
    for first, batch in _numbered_batches(dataset, [name]):
        begin, end = np.searchsorted(rows[order], [first, first + batch.num_rows])
        if begin < end:
            places = order[begin:end]
            found[places] = _joined(*row_keys(batch.take(pa.array(rows[places] - first)), [name]))
    return found


def _ids(dataset: Dataset, rows: npt.NDArray[np.intp]) -> tuple[str, ...]:
    ids: list[str] = []
    for first, batch in _numbered_batches(dataset, ()):
        begin, end = np.searchsorted(rows, [first, first + batch.num_rows])
        ids += batch.column(ROW_ID).take(pa.array(rows[begin:end] - first)).to_pylist()
        if len(ids) == len(rows):
            break
    return tuple(ids)


def _numbered_batches(dataset: Dataset, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    first = 0
    for _, batch in dataset.batches(columns=columns):
        yield first, batch
        first += batch.num_rows


def _drifts(old: Dataset, new: Dataset) -> tuple[ColumnDrift, ...]:
    tables = [sample(dataset, num_rows=SAMPLE_ROWS) for dataset in (old, new)]
    if tables[0] is None or tables[1] is None:
        return ()
    names = set(_shared_columns(old, new))
    columns = [c for c in new.schema.columns if c.name in names and c.role != "id"]
    found = [drift(c, tables[0].column(c.name), tables[1].column(c.name)) for c in columns]
    return tuple(sorted(found, key=lambda d: (-d.value, d.column)))
