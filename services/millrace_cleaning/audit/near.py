"""Rows of a judging split that are nearly equal to one of train, found by brute force over the sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import normalize

from millrace.contracts.schema import Column
from millrace_cleaning.audit.crossings import Pairs
from millrace_cleaning.audit.matrix import codes_of, counted_words, numeric_block, standardised
from millrace_cleaning.audit.models import batches_of
from millrace_cleaning.audit.report import Finding
from millrace_cleaning.audit.rows import Sample

_MAX_DIFFERENCE = 0.05
"""Root mean square difference of standardised numbers: a twentieth of a column's deviation."""
_MIN_COSINE = 0.9
"""Of vectors of words and word pairs: about nine words of ten."""
_ROWS_AT_ONCE = 256
_BY_CHANCE = 3.0
_MANY_ROWS = 2000

Block = tuple[str, Any]


def near_findings(sample: Sample, columns: Sequence[Column], *, seed: int) -> tuple[list[Finding], Pairs]:
    """Rows that differ from a training row by less than noise does, more than columns shuffled among themselves would."""
    judging, train = np.flatnonzero(sample.codes > 0), np.flatnonzero(sample.codes == 0)
    nothing = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), "near")
    blocks = list(_blocks(sample, columns))
    if not blocks or not len(judging) or not len(train):
        return [], nothing
    nearest = _nearest(blocks, judging, train)
    close = nearest >= 0
    share = float(close.mean())
    by_chance = _share_by_chance(blocks, judging, train, seed=seed)
    if not close.any() or share < 0.001 or share < _BY_CHANCE * by_chance:
        return [], nothing
    pairs = Pairs(rows=sample.positions[judging[close]], others=sample.positions[nearest[close]], kind="near")
    found = Finding(
        code="near_duplicates", severity="error" if share >= 0.01 else "warning",
        message=f"{int(close.sum()):,} of {len(judging):,} validation and test rows looked at ({share:.1%}) are equal, or "
        "nearly, to a row of train.",
        evidence={"rows": int(close.sum()), "of": len(judging), "share": round(share, 6), "by_chance": round(by_chance, 6)},
        remedy="Divide by what such rows have in common (`split: {by: ...}`), or let near duplicates be removed; each is "
        "listed in leaked_rows.parquet.",
    )  # fmt: skip
    return [found], pairs


def _blocks(sample: Sample, columns: Sequence[Column]) -> Iterator[Block]:
    """What two rows are compared by: all numbers at once, each category, and all texts at once."""
    numbers = standardised(numeric_block(sample, columns))
    if numbers.shape[1]:
        yield "numbers", numbers
    for column in columns:
        if column.type == "category":
            yield "category", codes_of(sample.column(column.name))
    texts = [sample.column(c.name) for c in columns if c.type == "text"]
    if texts:
        yield "words", _telling(counted_words(texts).sqrt())


def _telling(words: Any) -> Any:
    """Rows of length one, of all words, the rare ones too; in many rows without those of every twentieth row.

    Such words are in no row's favour, and comparing them is nearly all of the work.
    """
    if words.shape[0] > _MANY_ROWS:
        frequency = np.bincount(words.indices, minlength=words.shape[1])
        words = words[:, np.flatnonzero((frequency > 0) & (frequency < words.shape[0] / 20))]
    return normalize(words)


def _nearest(
    blocks: Sequence[Block], judging: npt.NDArray[np.int64], train: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """A row of train that is near in every block for each judging row, else -1."""
    found = np.full(len(judging), -1, dtype=np.int64)
    for part in batches_of(len(judging), _ROWS_AT_ONCE):
        near = np.ones((len(judging[part]), len(train)), dtype=np.bool_)
        for kind, values in blocks:
            near &= _is_near(kind, values[judging[part]], values[train])
        found[part] = np.where(near.any(axis=1), train[near.argmax(axis=1)], -1)
    return found


def _is_near(kind: str, left: Any, right: Any) -> npt.NDArray[np.bool_]:
    """(rows of left, rows of right)."""
    if kind == "category":
        return np.asarray(left[:, None] == right[None, :])
    if kind == "words":
        return np.asarray((left @ right.T).toarray() >= _MIN_COSINE)
    squares = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1)[None, :] - 2 * left @ right.T
    return np.asarray(squares <= left.shape[1] * _MAX_DIFFERENCE**2)


def _share_by_chance(
    blocks: Sequence[Block], judging: npt.NDArray[np.int64], train: npt.NDArray[np.int64], *, seed: int
) -> float:
    """How many rows would be near if columns were independent: few columns are always close to each other somewhere.

    Whole texts are not near by chance, so none is where there is one.
    """
    if any(kind == "words" for kind, _ in blocks):
        return 0.0
    random = np.random.default_rng(seed)
    shuffled = [(kind, random.permuted(values, axis=0)) for kind, values in blocks]
    return float((_nearest(shuffled, judging, train) >= 0).mean())
