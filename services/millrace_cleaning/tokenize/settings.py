"""What a user may say about tokenizing, and its stage kind. Imports pydantic alone."""

from __future__ import annotations

from pydantic import Field, field_validator

from millrace.contracts.schema import SplitName
from millrace.contracts.stages import Port, StageConfig, StageKind

NUM_BYTES = 256


class TokenizeConfig(StageConfig):
    """`with` of a tokenize stage."""

    column: str = Field(
        default="", description="The text to tokenize; default: the only text column that is a feature."
    )
    vocabulary_size: int = Field(
        default=32_768, gt=NUM_BYTES, le=2**24,
        description="Entries of a tokenizer that is trained here, its 256 bytes and special tokens among them. Up to "
        "65,536 a token takes two bytes. Fewer if the text has no more pairs that repeat.",
    )  # fmt: skip
    end_of_text: str = Field(
        default="<|endoftext|>", min_length=1, max_length=64, description="Stands before each document."
    )
    special_tokens: tuple[str, ...] = Field(
        default=(), max_length=1024, description="Further tokens that no text may write, such as `<|user|>`."
    )
    min_frequency: int = Field(default=2, ge=1, description="How often a pair must stand in the sample to be merged.")
    max_training_bytes: int = Field(
        default=256 * 2**20, ge=1,
        description="How much text of the train split a tokenizer is trained on; from a larger one documents are drawn by "
        "the run's seed. Merges hardly change beyond some hundred megabytes, while memory grows.",
    )  # fmt: skip
    splits: tuple[SplitName, ...] = Field(
        default=("train", "validation", "test"), min_length=1, description="Which splits become streams."
    )

    @field_validator("special_tokens", "splits")
    @classmethod
    def _each_once(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if not all(values) or len(set(values)) != len(values):
            raise ValueError("expected each once, and none empty")
        return values


TOKENIZE = StageKind(
    name="tokenize",
    caption="Turn a data set's texts into packed token streams for language models.",
    service="cleaning",
    module="millrace_cleaning.tokenize.stage",
    config=TokenizeConfig,
    inputs={"dataset": Port(type="dataset"), "tokenizer": Port(type="any", optional=True, auto=False)},
    outputs={"tokens": Port(type="tokens")},
    preload=("numpy", "pyarrow", "pyarrow.parquet", "tokenizers"),
)
