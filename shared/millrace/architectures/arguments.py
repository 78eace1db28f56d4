"""Typed arguments of every architecture. Imports no torch: submit checks them long before a worker builds anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from millrace import errors
from millrace.contracts.base import Contract
from millrace.contracts.faults import path_of, said


class Arguments(Contract):
    """Base of all. Fields without a default follow from the data and are filled in by training."""


class MlpArguments(Arguments):
    """`mlp@1`: tables and flattened images."""

    num_inputs: int = Field(ge=1, description="Length of the feature vector.")
    num_outputs: int = Field(ge=1, description="Classes, or 1 for regression.")
    width: int = Field(default=256, ge=1, le=65_536, description="Units of each hidden layer.")
    depth: int = Field(default=2, ge=0, le=64, description="Hidden layers; 0 leaves the linear model.")
    residual: bool = Field(default=False, description="Add each hidden layer to its input, from the second on.")
    norm: Literal["none", "layer"] = Field(
        default="none", description="LayerNorm before each activation. Not batch norm: rows stay independent."
    )
    activation: Literal["relu", "gelu", "silu"] = "relu"
    dropout: float = Field(default=0.0, ge=0, lt=1, description="On hidden units, in training.")
    linear_skip: bool = Field(
        default=False,
        description="Add a linear model of the inputs: small tables are often linear, and it starts there.",
    )


class TextEncoderArguments(Arguments):
    """`text_encoder@1`: bags of hashed word and character n-grams beside a small Transformer over hashed words."""

    num_outputs: int = Field(ge=1, description="Classes, or 1 for regression.")
    word_buckets: int = Field(default=2**16, ge=2, le=2**22, description="Hash buckets of word n-grams; 0 is padding.")
    char_buckets: int = Field(default=2**16, ge=2, le=2**22, description="Hash buckets of character n-grams; 0 pads.")
    linear_skip: bool = Field(default=True, description="A linear model on the weighted n-grams, as TF-IDF has.")
    bag_width: int = Field(
        default=32, ge=0, le=4096, description="Width of the n-grams' mean embedding; 0 leaves it out."
    )
    layers: int = Field(default=1, ge=0, le=48, description="Transformer layers; 0 leaves the branch out.")
    width: int = Field(default=64, ge=8, le=8192, description="Width of the Transformer.")
    heads: int = Field(default=4, ge=1, le=128)
    vocabulary: int = Field(
        default=2**13, ge=2, le=2**22, description="Hash buckets of the Transformer's words; 0 pads."
    )
    dropout: float = Field(default=0.3, ge=0, lt=1)

    @model_validator(mode="after")
    def _has_a_path(self) -> TextEncoderArguments:
        if not self.linear_skip and self.bag_width == 0 and self.layers == 0:
            raise ValueError("linear_skip, bag_width and layers are all off: nothing would read the text")
        _check_heads(self.width, self.heads)
        return self


class GptArguments(Arguments):
    """`gpt@1`: a decoder-only Transformer."""

    num_tokens: int = Field(ge=2, description="Size of the vocabulary.")
    max_context: int = Field(default=256, ge=2, le=65_536, description="Longest sequence it is trained on.")
    layers: int = Field(default=4, ge=1, le=128)
    width: int = Field(default=192, ge=8, le=16_384)
    heads: int = Field(default=6, ge=1, le=128)
    tied: bool = Field(default=False, description="Whether the head is the embedding's transpose.")
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> GptArguments:
        _check_heads(self.width, self.heads)
        return self


def _check_heads(width: int, heads: int) -> None:
    if width % heads or (width // heads) % 2:
        raise ValueError(f"width / heads must be an even whole number (RoPE turns pairs); found {width} / {heads}")


ARGUMENTS: Mapping[str, type[Arguments]] = {
    "mlp@1": MlpArguments,
    "text_encoder@1": TextEncoderArguments,
    "gpt@1": GptArguments,
}
"""Every architecture, `name@version`. An architecture's forward never changes under its version."""


def arguments_class(name: str, *, field: str = "architecture") -> type[Arguments]:
    """Return the class of an architecture's arguments.

    Raises:
        InvalidSpec: No such architecture; the message names the nearest.
    """
    if name not in ARGUMENTS:
        raise errors.InvalidSpec(f"Unknown architecture {name!r}; {errors.nearest(name, ARGUMENTS)}", field=field)
    return ARGUMENTS[name]


def parse_arguments(name: str, values: Mapping[str, Any], *, field: str = "arguments") -> Arguments:
    """Check and complete an architecture's arguments.

    Args:
        name: `name@version`.
        values: Fields of the architecture's arguments.
        field: Path to put into the error, such as `stages.train.with.arguments`.

    Raises:
        InvalidSpec: An unknown architecture or argument, or a value out of range.
    """
    cls = arguments_class(name)
    for key in values:
        if key not in cls.model_fields:
            raise errors.InvalidSpec(
                f"{name} has no argument {key!r}; {errors.nearest(key, cls.model_fields)}", field=f"{field}.{key}"
            )
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join([field, *(str(part) for part in path_of(first))])
        raise errors.InvalidSpec(said(first), field=where, remedy=f"See the arguments of {name}.") from None


def data_bound(name: str) -> frozenset[str]:
    """Names of the arguments that follow from the data, which a spec may not set."""
    return frozenset(key for key, info in arguments_class(name).model_fields.items() if info.is_required())
