"""Which rows are duplicates, and which split each of the others falls in: decided from keys and a few columns alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace import errors
from millrace.datasets.keys import UInt64s
from millrace_cleaning.dedup import first_of_each
from millrace_cleaning.infer import CleaningPlan
from millrace_cleaning.parts import GROUP, HIGH, LOW, MOMENT, SIZE, cut_column, read_column
from millrace_cleaning.settings import CleanConfig
from millrace_cleaning.split import Codes, Ints, cut_documents, split_by_group, split_in_order, split_randomly

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cuts:
    """Pieces of texts that a split cuts: of each row of a Division, which characters it is, and its number."""

    start: Ints
    end: Ints
    number: Ints


@dataclass(frozen=True, slots=True)
class Division:
    """The rows of the data set, in the source's order.

    Attributes:
        rows: Positions among all rows of the parts; twice or more where a text is cut.
        codes: The split of each.
        cuts: Where texts are cut.
    """

    rows: Ints
    codes: Codes
    cuts: Cuts | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """What the parts' key files say of all rows: both halves of each row's key."""

    files: Sequence[Path]
    low: UInt64s
    high: UInt64s

    @classmethod
    def read(cls, files: Sequence[Path]) -> Keys:
        """Memory: 16 bytes a row."""
        return cls(files, _numbers(files, LOW).view(np.uint64), _numbers(files, HIGH).view(np.uint64))

    def __len__(self) -> int:
        return len(self.low)

    def repeated(self) -> Ints:
        """For each row, the position of the first row with the same key; of most, its own."""
        first, numbers = first_of_each(self.low, self.high)
        return np.flatnonzero(first)[numbers]


def drops_duplicates(plan: CleaningPlan, config: CleanConfig) -> bool:
    if config.dedup is not None:
        return config.dedup
    return any(c.type not in ("category", "integer", "boolean", "timestamp") for c in plan.with_role("feature"))


def divide(
    keys: Keys, keep: Flags, *, plan: CleaningPlan, config: CleanConfig, seed: int, together: Ints | None = None
) -> Division:
    """Give every row that is kept its split.

    Args:
        together: Of each row, the position of a row with which it has to share its split; None: only equal rows do.

    Raises:
        InvalidData: A target has one class, or the rows do not fill the splits.
    """
    rows = np.flatnonzero(keep)
    fractions = config.split.fractions
    classes = _classes(keys.files, plan, keep)
    if config.split.by:
        groups = _numbers(keys.files, GROUP).view(np.uint64)
        return Division(rows, split_by_group(groups[keep], seed=seed, fractions=fractions))
    if config.split.time:
        moments = _numbers(keys.files, MOMENT)
        return Division(rows, split_in_order(moments[keep], fractions=fractions, units="moments"))
    if config.split.order == "contiguous" and cut_column(plan, config):
        return _cut(rows, _numbers(keys.files, SIZE).astype(np.int64)[keep], config)
    if config.split.order == "contiguous":
        return Division(rows, split_in_order(np.arange(len(rows)), fractions=fractions, units="rows"))
    at = rows if together is None else together[rows]
    return Division(rows, split_randomly(keys.low[at], keys.high[at], classes=classes, seed=seed, fractions=fractions))


def _cut(rows: Ints, sizes: Ints, config: CleanConfig) -> Division:
    pieces = cut_documents(
        np.maximum(sizes, 1), fractions=config.split.fractions
    )  # a text without characters stays too
    flat = [
        (row, start, end, code, number)
        for row, cut in zip(rows.tolist(), pieces, strict=True)
        for number, (start, end, code) in enumerate(cut)
    ]
    table = np.array(flat, dtype=np.int64).reshape(-1, 5)
    cuts = Cuts(table[:, 1], table[:, 2], table[:, 4])
    return Division(table[:, 0], table[:, 3].astype(np.int8), cuts)


def _numbers(files: Sequence[Path], name: str) -> Ints:
    found: Ints = read_column(files, name).to_numpy()
    return found


def _classes(files: Sequence[Path], plan: CleaningPlan, keep: Flags) -> Ints | None:
    """Class codes of the rows that stay, if there is one category target; and the check that it has classes."""
    result = None
    targets = plan.with_role("target")
    for column in targets:
        if column.type != "category":
            continue
        values = read_column(files, column.name).combine_chunks()
        encoded = values.filter(pa.array(keep)).dictionary_encode()
        labels = [label for label in encoded.dictionary.to_pylist() if label is not None]
        if len(labels) < 2:
            raise _one_class(column.name, labels, num_before=pc.count_distinct(values).as_py())
        # By label, not by appearance, so that the order of rows does not move a cut.
        ranks = np.argsort(np.argsort(np.array(labels, dtype=object)))
        codes = encoded.indices.fill_null(len(labels)).to_numpy(zero_copy_only=False)
        result = np.append(ranks, len(labels))[codes].astype(np.int64)
    return result if len(targets) == 1 else None


def _one_class(name: str, labels: Sequence[str], *, num_before: int) -> errors.InvalidData:
    if num_before > 1:
        return errors.InvalidData(
            f"Of the {num_before} classes of {name!r} only {labels} is left after rows with equal features were removed.",
            remedy="Say `dedup: false` if they are separate observations.",
            field="with.dedup",
        )
    return errors.InvalidData(
        f"The target {name!r} has one class only: {', '.join(labels) or 'null'}.",
        remedy="Classification needs at least two; check that `target` names the right column.",
        field="with.target",
    )
