"""The texts of a data set's shards, a bounded part at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace import errors
from millrace.contracts.schema import DatasetMeta
from millrace.models.ops.base import strings
from millrace.models.shards import read_batches

MAX_PIECE = 2**20
"""Characters that go to the tokenizer at once: it holds some hundred bytes for each while it works."""
_ROWS = 256


def text_column(meta: DatasetMeta, named: str) -> str:
    """The column to tokenize.

    Raises:
        InvalidSpec: There is none of that name or type, or not exactly one to choose.
    """
    texts = [c.name for c in meta.schema_.columns if c.type == "text"]
    if named:
        if named not in texts:
            column = meta.schema_.column(named)
            found = f"is {column.type}" if column else "is not there"
            raise errors.InvalidSpec(
                f"Expected a text column; {named!r} {found}. {errors.nearest(named, texts)}", field="with.column"
            )
        return named
    features = [name for name in texts if any(c.name == name for c in meta.schema_.with_role("feature"))]
    if len(features) != 1:
        raise errors.InvalidSpec(
            f"The data set has {len(features)} text columns to learn from ({', '.join(features[:8]) or 'none'}).",
            field="with.column", remedy="Name one as `column`, or clean the data with `columns: {NAME: {type: text}}`.",
        )  # fmt: skip
    return features[0]


def read_texts(paths: Iterable[Path], column: str) -> Iterator[pa.StringArray]:
    """Arrays of texts without nulls, in row order."""
    for batch in read_batches(list(paths), rows=_ROWS, columns=[column]):
        yield strings(batch, column).drop_null()


def sampled_texts(paths: list[Path], column: str, *, max_bytes: int, seed: int) -> Iterator[str]:
    """Texts of at most about max_bytes in UTF-8, each document with equal probability; all of them if they fit."""
    total = sum(int(pc.sum(pc.binary_length(t)).as_py() or 0) for t in read_texts(paths, column))
    share = min(1.0, max_bytes / max(total, 1))
    random = np.random.default_rng(seed)
    for texts in read_texts(paths, column):
        kept = random.random(len(texts)) < share
        yield from texts.filter(pa.array(kept)).to_pylist()


def pieces_of(text: str) -> list[str]:
    """A text in pieces that joined are the text; most are whole. A long one is cut before a space, where words begin."""
    pieces = []
    while len(text) > MAX_PIECE:
        cut = text.rfind(" ", MAX_PIECE // 2, MAX_PIECE)
        cut = MAX_PIECE if cut < 0 else cut
        pieces.append(text[:cut])
        text = text[cut:]
    return [*pieces, text]
