"""What a kind of personal data looks like, and how a look-alike is told apart."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from millrace_cleaning.steps.pii.settings import PiiConfig, PiiKind

Span = tuple[int, int]
Confirm = Callable[[str, Span, PiiConfig], Span | None]
"""Takes the text, where the pattern matched, and the step's configuration. Returns where the datum stands: mostly there, or a
part of it; or None if it only looks alike."""

START = r"(?<![A-Za-z0-9+])(?<![0-9][.\-/])"
"""Not in the middle of a word, or of a longer number."""

END = r"(?![A-Za-z0-9])(?![.\-/][0-9])"

IBAN_HEAD = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}[ -](?:[A-Za-z0-9]{4}[ -]){0,6}$")
"""What comes after it is the rest of an account's number, right or wrong."""

CONTEXT_CHARS = 48
"""How far before a number the word that says what it is may stand."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind as it stands in text.

    Attributes:
        kind: What it is.
        pattern: Tried at each place where the group's start matches. Linear in time; without groups that capture.
        confirm: Decides what matched.
    """

    kind: PiiKind
    pattern: str
    confirm: Confirm


@dataclass(frozen=True, slots=True)
class Group:
    """Shapes that are tried together at the same places, all of them at each: they may overlap.

    Attributes:
        signs: Windows with one of these signs are searched.
        start: Where a shape may begin; a pattern of no width.
    """

    signs: int
    start: str
    shapes: tuple[Shape, ...]


def is_near(text: str, at: int, words: re.Pattern[str]) -> bool:
    """Whether one of the words stands shortly before a place."""
    return words.search(text, max(0, at - CONTEXT_CHARS), at) is not None


def digits_of(text: str) -> str:
    return "".join(char for char in text if char in "0123456789")


def always(text: str, span: Span, config: PiiConfig) -> Span:
    """Confirm whatever matched."""
    del text, config
    return span
