"""The base of all contracts: frozen, closed to unknown fields, with one canonical JSON form and its digest."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """A value that crosses a process boundary. Unknown fields are refused, not dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, ser_json_inf_nan="null")

    @classmethod
    def received(cls, value: object) -> Self:
        """Read what another process wrote, perhaps of a newer version: what it added, at any depth, is passed over."""
        return cls.model_validate(value, extra="ignore")

    @classmethod
    def received_json(cls, text: str | bytes) -> Self:
        """Read JSON as `received` does. Both raise pydantic's ValidationError."""
        return cls.model_validate_json(text, extra="ignore")

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, aliases, UTF-8."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))


class Message(Contract):
    """A contract that processes of two versions exchange: what a newer one added is passed over, not refused.

    What a user writes may be part of one, such as a stage's `retry`, and refuses more: so readers use `received`. A field,
    once released, keeps its name and meaning; a new one has a default. Anything else is a new version.
    """

    model_config = ConfigDict(extra="ignore")


def canonical_json(value: Any) -> str:
    """Encode a JSON-compatible value so that equal values give equal text.

    Raises:
        ValueError: A float is not finite, which JSON cannot say.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: Any) -> str:
    """SHA-256 (64 hex digits) of a JSON-compatible value's canonical form."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
