"""A corpus with near-duplicates planted at known similarities, written part by part.

Documents are drawn word by word, so that two of them share the boilerplate alone: a fifth of each, the same in all. One row in
ten is an edited copy of a row of the neighbouring part. Words are drawn from 4096, so that five of them are a number of 60
bits: the exact similarity of each couple is counted from those numbers, without the code that is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Ints = npt.NDArray[np.int64]
Rng = np.random.Generator

SEED = 20_261_124
BITS_PER_WORD, WORDS_PER_SHINGLE = 12, 5
FEWEST_WORDS, MOST_WORDS = 500, 800  # about 4 kB
BOILERPLATE_WORDS = 130
ROWS_PER_PART = 16_000
PERIOD, ORIGINAL, COPY = 10, 3, 7  # of ten rows, one has a copy in the other part, and one is a copy


@dataclass(frozen=True, slots=True)
class Corpus:
    root: Path
    documents: int

    @property
    def num_parts(self) -> int:
        """Even, so that each part has a partner."""
        return max(2, 2 * round(self.documents / ROWS_PER_PART / 2))

    @property
    def bounds(self) -> Ints:
        """The first row of each part, and the end of the last."""
        return np.linspace(0, self.documents, self.num_parts + 1).astype(np.int64)

    def file(self, kind: str, part: int) -> Path:
        """What is kept of a part: `texts`, `couples`, or what a benchmark makes of it."""
        folder = self.root / kind
        folder.mkdir(exist_ok=True)
        return folder / f"part-{part:05d}.parquet"

    def couples(self) -> dict[str, npt.NDArray[Any]]:
        """Rows of the originals and of their copies, and how similar they are."""
        table = pa.concat_tables([pq.read_table(self.file("couples", part)) for part in range(self.num_parts)])
        return {name: table.column(name).to_numpy() for name in table.column_names}


def write_part(corpus: Corpus, part: int) -> int:
    """Write a part's texts, and what is known of its copies; return the texts' bytes."""
    words, lengths = _documents(corpus, part)
    partner = part ^ 1
    originals, original_lengths = _documents(corpus, partner)
    rng = np.random.default_rng([SEED, part, 1])
    rows = np.arange(COPY, min(len(words), len(originals)), PERIOD)
    similarity = np.empty(len(rows))
    for i, row in enumerate(rows.tolist()):
        original = originals[row - COPY + ORIGINAL, : original_lengths[row - COPY + ORIGINAL]]
        copy = _edit(original, rng, kind=i % 3)
        words[row, : len(copy)], lengths[row] = copy, len(copy)
        similarity[i] = _jaccard(original, copy)
    texts = _texts(words, lengths)
    pq.write_table(pa.table({"text": texts}), corpus.file("texts", part), compression="lz4", row_group_size=4096)
    first, first_of_partner = corpus.bounds[part], corpus.bounds[partner]
    couples = {"original": first_of_partner + rows - COPY + ORIGINAL, "copy": first + rows, "similarity": similarity}
    pq.write_table(pa.table(couples), corpus.file("couples", part))
    return int(pc.sum(pc.binary_length(texts)).as_py())


def _documents(corpus: Corpus, part: int) -> tuple[npt.NDArray[np.int32], Ints]:
    """Numbers of words [rows, MOST_WORDS], and how many of each row count."""
    num_rows = int(corpus.bounds[part + 1] - corpus.bounds[part])
    rng = np.random.default_rng([SEED, part])
    words = rng.integers(1 << BITS_PER_WORD, size=(num_rows, MOST_WORDS), dtype=np.int32)
    words[:, :BOILERPLATE_WORDS] = np.random.default_rng(SEED).integers(1 << BITS_PER_WORD, size=BOILERPLATE_WORDS)
    return words, rng.integers(FEWEST_WORDS, MOST_WORDS, size=num_rows)


def _edit(words: npt.NDArray[np.int32], rng: Rng, *, kind: int) -> npt.NDArray[np.int32]:
    """Replace single words, or a passage, or cut the end off, for a similarity drawn evenly from 0.7 to 1."""
    target = rng.uniform(0.7, 1)
    edited = words.copy()
    num_shingles = len(words) - WORDS_PER_SHINGLE + 1
    if kind == 2:
        return edited[: len(words) - max(1, round(num_shingles * (1 - target)))]
    lost = num_shingles * (1 - target) / (1 + target)
    if kind == 1:
        size = max(1, round(lost) - WORDS_PER_SHINGLE + 1)
        begin = rng.integers(len(words) - size)
        places = np.arange(begin, begin + size)
    else:
        places = rng.choice(len(words), size=max(1, round(lost / WORDS_PER_SHINGLE)), replace=False)
    edited[places] = rng.integers(1 << BITS_PER_WORD, size=len(places))
    return edited


def _jaccard(one: npt.NDArray[np.int32], other: npt.NDArray[np.int32]) -> float:
    first, second = (np.unique(_shingles(words)) for words in (one, other))
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)


def _shingles(words: npt.NDArray[np.int32]) -> Ints:
    windows = np.lib.stride_tricks.sliding_window_view(words.astype(np.int64), WORDS_PER_SHINGLE)
    return windows @ (1 << BITS_PER_WORD * np.arange(WORDS_PER_SHINGLE))


def _texts(words: npt.NDArray[np.int32], lengths: Ints) -> pa.Array:
    flat = words[np.arange(MOST_WORDS) < lengths[:, None]]
    spelled = _vocabulary().take(pa.array(flat))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return pc.binary_join(pa.LargeListArray.from_arrays(pa.array(offsets), spelled), " ")


def _vocabulary() -> pa.Array:
    """Distinct words of two to nine letters."""
    rng = np.random.default_rng(SEED)
    found: dict[str, None] = {}
    while len(found) < 1 << BITS_PER_WORD:
        found["".join(map(chr, rng.integers(ord("a"), ord("z") + 1, size=rng.integers(2, 10))))] = None
    return pa.array(found)
