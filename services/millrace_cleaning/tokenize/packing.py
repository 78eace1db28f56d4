"""Texts to ids on disk: one shard's part of a stream, and parts joined to the stream of a split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from millrace_cleaning.tokenize.texts import pieces_of

_CALL_CHARACTERS = 4 * 2**20
_COPY_BYTES = 8 * 2**20
LENGTH = np.dtype("<i8")


def dtype_of(vocabulary_size: int) -> np.dtype[Any]:
    return np.dtype("<u2" if vocabulary_size <= 2**16 else "<u4")


@dataclass(slots=True)
class Counts:
    """Sums over one part of a stream."""

    tokens: int = 0
    documents: int = 0
    bytes: int = 0
    characters: int = 0

    def add(self, other: Counts) -> None:
        self.tokens += other.tokens
        self.documents += other.documents
        self.bytes += other.bytes
        self.characters += other.characters


def pack(
    arrays: Iterable[pa.StringArray],
    tokenizer: Tokenizer,
    *,
    end_of_text: int,
    dtype: np.dtype[Any],
    ids: Path,
    index: Path,
) -> Iterator[Counts]:
    """Write texts as a part of a stream; yield what each array came to, once it is written.

    Args:
        ids: Gets an end-of-text before each text, and its tokens.
        index: Gets two int64 a document: its tokens with the end-of-text, and its bytes of UTF-8.
    """
    with ids.open("wb") as ids_file, index.open("wb") as index_file:
        for texts in arrays:
            sizes = pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
            lengths = np.zeros(len(texts), dtype=np.int64)
            for document, tokens in _encoded(texts.to_pylist(), tokenizer, end_of_text):
                lengths[document] += len(tokens)
                ids_file.write(np.array(tokens, dtype=dtype).tobytes())
            index_file.write(np.stack([lengths, sizes], axis=1).astype(LENGTH).tobytes())
            characters = int(pc.sum(pc.utf8_length(texts)).as_py() or 0)
            yield Counts(int(lengths.sum()), len(texts), int(sizes.sum()), characters)


def _encoded(texts: list[str], tokenizer: Tokenizer, end_of_text: int) -> Iterator[tuple[int, list[int]]]:
    """(position of the text, ids) of each piece in order, an end-of-text before the first piece of a text."""
    waiting: list[tuple[int, list[int], str]] = []
    size = 0
    for position, text in enumerate(texts):
        for number, piece in enumerate(pieces_of(text)):
            waiting.append((position, [] if number else [end_of_text], piece))
            size += len(piece)
            if size > _CALL_CHARACTERS:
                yield from _encode(waiting, tokenizer)
                waiting, size = [], 0
    yield from _encode(waiting, tokenizer)


def _encode(waiting: list[tuple[int, list[int], str]], tokenizer: Tokenizer) -> Iterator[tuple[int, list[int]]]:
    encoded = tokenizer.encode_batch_fast([piece for *_, piece in waiting], add_special_tokens=False)
    for (position, before, _), tokens in zip(waiting, encoded, strict=True):
        yield position, before + tokens.ids


def append(target: Path, part: Path) -> None:
    """Put a part's bytes at the end of a stream, and let go of the part."""
    with target.open("ab") as out, part.open("rb") as file:
        while block := file.read(_COPY_BYTES):
            out.write(block)
    part.unlink()


def write_index(target: Path, pairs: Path) -> None:
    """Make a stream's `.idx` of the two numbers a document that its parts wrote."""
    table: npt.NDArray[np.int64] = np.fromfile(pairs, dtype=LENGTH).reshape(-1, 2)
    offsets = np.concatenate([[0], np.cumsum(table[:, 0])])
    with target.open("wb") as file:
        file.write(offsets.astype(LENGTH).tobytes())
        file.write(np.ascontiguousarray(table[:, 1]).tobytes())
