"""What a user may say about personal data. Imports pydantic alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, field_validator, model_validator

from millrace.contracts.shorthand import OneOrMore
from millrace_cleaning.steps.settings import StepConfig

PiiKind = Literal[
    "email", "credentials", "secret", "phone", "iban", "card", "ipv4", "ipv6", "mac", "crypto", "passport", "birth_date",
    "us_ssn", "us_itin", "uk_nino", "uk_nhs", "de_idnr", "fr_nir", "es_dni", "it_codicefiscale", "nl_bsn", "pl_pesel",
    "br_cpf", "in_aadhaar", "person", "place",
]  # fmt: skip
"""What is looked for. `credentials` are a user and password in a URL; `secret` is a key of a known make, a JSON web token or
a private key; `passport` the machine-readable lines of a travel document. `person` and `place` need `ner`."""

PiiAction = Literal["mask", "drop", "token", "keep"]
"""mask: <EMAIL> stands in its place; drop: the row goes; token: <EMAIL:...> stands there, which who has the key can turn
back; keep: it is not looked for."""

KINDS: tuple[PiiKind, ...] = get_args(PiiKind)
NAMED: tuple[PiiKind, ...] = ("person", "place")
"""Kinds that no pattern finds."""


class PiiConfig(StepConfig):
    """Find personal data in a text column, and mask it, drop its row, or put a reversible token there."""

    runs_in: ClassVar[str] = "millrace_cleaning.steps.pii.step"
    extra: ClassVar[str] = "pii"
    is_changing: ClassVar[bool] = True
    is_private: ClassVar[bool] = True
    example = "column: text, action: mask, kinds: {card: drop, ipv4: keep}"

    step: Literal["pii"]
    column: str = Field(
        min_length=1,
        description="The column with personal data. It has to be named, as nothing of it may be remembered.",
    )
    action: PiiAction = Field(default="mask", description="What becomes of kinds that `kinds` does not name.")
    kinds: Mapping[PiiKind, PiiAction] = Field(
        default_factory=dict, description="What becomes of each kind, such as {email: mask, card: drop, ipv4: keep}."
    )
    phone_regions: Annotated[tuple[str, ...], OneOrMore()] = Field(
        default=("US", "GB", "DE", "FR", "ES", "IT", "NL", "PL", "BR", "IN"),
        description="Countries whose telephone numbers are found as they are written there; those with + are found of all.",
    )
    private_addresses: bool = Field(
        default=False,
        description="Whether IP addresses that lead nowhere outside (private, loopback, documentation) are personal data too.",
    )
    key_id: str = Field(
        default="",
        pattern="^([0-9a-f]{16})?$",
        description="Which key tokens are made with, as `millrace data key-id` says it. The key itself is the worker's "
        "setting MILLRACE_PII_KEY and stands in no pipeline.",
    )
    ner: Literal["", "presidio"] = Field(
        default="", description="Who finds names and places: presidio, with a model that is installed. Slow."
    )
    ner_model: str = Field(default="en_core_web_sm", description="A spaCy model's package, or its directory.")
    ner_language: str = Field(default="en", min_length=2, description="The model's language.")

    @field_validator("phone_regions")
    @classmethod
    def _regions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for region in value:
            if len(region) != 2 or not region.isascii() or not region.isupper():
                raise ValueError(f"{region!r} is no region; expected two capitals such as DE or US")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> PiiConfig:
        if self.tokenized and not self.key_id:
            raise ValueError(f"{self.tokenized[0]}: token needs `key_id`, which says with which key")
        asked = [kind for kind in NAMED if self.kinds.get(kind, "keep") != "keep"]
        if asked and not self.ner:
            raise ValueError(f"{asked[0]} is found by a model alone: say `ner: presidio`")
        return self

    def action_of(self, kind: PiiKind) -> PiiAction:
        if kind in NAMED and not self.ner:
            return "keep"
        return self.kinds.get(kind, self.action)

    @property
    def sought(self) -> tuple[PiiKind, ...]:
        """Kinds to look for."""
        return tuple(kind for kind in KINDS if self.action_of(kind) != "keep")

    @property
    def tokenized(self) -> tuple[PiiKind, ...]:
        return tuple(kind for kind in self.sought if self.action_of(kind) == "token")


STEPS: tuple[type[StepConfig], ...] = (PiiConfig,)
