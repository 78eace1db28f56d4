"""Reading token streams: mapped into memory, so that a stream may be larger than it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from millrace import errors
from millrace.contracts.schema import SplitName
from millrace.contracts.tokens import HEADER, StreamMeta, TokensMeta, index_file, stream_file

Ids = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True)
class TokenStream:
    """One split's tokens.

    Attributes:
        meta: Of the whole artifact: its tokenizer's digest, end-of-text and vocabulary.
        ids: All tokens (num_tokens,), mapped.
        offsets: Where each document begins in ids, at its end-of-text, then the stream's length; int64 (num_documents + 1,).
        byte_counts: UTF-8 bytes of each document's text; int64 (num_documents,).
    """

    meta: TokensMeta
    ids: Ids
    offsets: npt.NDArray[np.int64]
    byte_counts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """How many documents there are."""
        return len(self.byte_counts)

    def document(self, index: int) -> Ids:
        """One document's ids, without the end-of-text before it."""
        return self.ids[int(self.offsets[index]) + 1 : int(self.offsets[index + 1])]


def read_tokens(directory: Path, split: SplitName, *, tokenizer: str = "") -> TokenStream:
    """Open one split of a tokens artifact.

    Args:
        directory: Holds the artifact's files under their paths.
        tokenizer: Digest of the tokenizer that the reader knows; empty if it takes any.

    Raises:
        InvalidData: The files are no token streams, do not fit their header, or are another tokenizer's.
        NotFound: There is no stream of this split.
    """
    try:
        meta = TokensMeta.received_json((directory / HEADER).read_bytes())
    except (OSError, ValidationError) as error:
        raise errors.InvalidData(
            f"There is no readable {HEADER}.", remedy="Give the output of a tokenize stage."
        ) from error
    if tokenizer and tokenizer != meta.tokenizer:
        raise errors.InvalidData(
            f"The tokens are of tokenizer {meta.tokenizer[:12]}, expected {tokenizer[:12]}: their ids mean other texts.",
            field="tokens", remedy="Tokenize the data with the model's own tokenizer: bind it as `tokenizer`.",
        )  # fmt: skip
    stream = meta.of(split)
    if stream is None:
        found = ", ".join(s.split for s in meta.streams) or "none"
        raise errors.NotFound(f"The tokens have no {split} split; they have {found}.", field="split")
    return _mapped(directory, meta, stream)


def _mapped(directory: Path, meta: TokensMeta, stream: StreamMeta) -> TokenStream:
    dtype = np.dtype(meta.dtype).newbyteorder("<")
    num = stream.num_documents
    ids = _map(directory / stream_file(stream.split), dtype, stream.num_tokens)
    index = _map(directory / index_file(stream.split), np.dtype("<i8"), 2 * num + 1)
    return TokenStream(meta=meta, ids=ids, offsets=index[: num + 1], byte_counts=index[num + 1 :])


def _map(path: Path, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
    expected = count * dtype.itemsize
    found = path.stat().st_size if path.is_file() else -1
    if found != expected:
        has = f"has {found:,} bytes" if found >= 0 else "is missing"
        raise errors.InvalidData(
            f"{path.name} {has}; its header says {expected:,} bytes.", remedy="Tokenize the data again."
        )
    # What is empty cannot be mapped.
    return np.memmap(path, dtype=dtype, mode="r", shape=(count,)) if count else np.empty(0, dtype)
