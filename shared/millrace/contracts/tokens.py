"""Token streams: a data set's texts as the ids that a language model reads, and the header that says how to read them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from millrace.contracts.base import Contract
from millrace.contracts.ids import DigestText
from millrace.contracts.schema import SplitName

HEADER = "tokens.json"
TOKENIZER = "tokenizer.json"


class StreamMeta(Contract):
    """The stream of one split."""

    split: SplitName
    num_tokens: int = Field(ge=0, description="With the end-of-text before each document.")
    num_documents: int = Field(ge=0)
    num_bytes: int = Field(ge=0, description="Of the documents' texts in UTF-8: what bits per byte divide by.")
    num_characters: int = Field(ge=0, description="Code points of the documents' texts.")


class TokensMeta(Contract):
    """`meta` of a tokens artifact's manifest, and its `tokens.json`.

    Files of the artifact: `tokens.json` (this), `tokenizer.json`, and for each split `<split>.bin` and `<split>.idx`.

    `<split>.bin` has all ids one after the other, little-endian; each document stands behind an end-of-text. `<split>.idx`
    has little-endian int64: where each document begins in the stream, at its end-of-text, and the stream's length
    (num_documents + 1 numbers), then each document's bytes of UTF-8 (num_documents numbers).
    """

    format: Literal["millrace.tokens/v1"] = "millrace.tokens/v1"
    tokenizer: DigestText = Field(description="SHA-256 of tokenizer.json: another tokenizer's ids mean something else.")
    vocabulary_size: int = Field(ge=1, description="One more than the highest id.")
    end_of_text: str = Field(description="The token that stands before each document.")
    end_of_text_id: int = Field(ge=0)
    dtype: Literal["uint16", "uint32"] = Field(description="uint16 if the vocabulary has at most 65,536 entries.")
    dataset: DigestText = Field(description="Whose texts these are.")
    column: str = Field(description="The column that holds them.")
    streams: tuple[StreamMeta, ...]

    def of(self, split: SplitName) -> StreamMeta | None:
        return next((stream for stream in self.streams if stream.split == split), None)


def stream_file(split: SplitName) -> str:
    """Path of a split's ids in the artifact."""
    return f"{split}.bin"


def index_file(split: SplitName) -> str:
    """Path of a split's documents in the artifact."""
    return f"{split}.idx"
