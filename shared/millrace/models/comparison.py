"""Comparisons such as `accuracy >= 0.95`: one small grammar for gates and constraints. Parsed, never evaluated as code.

comparison = NAME ("<" | "<=" | ">" | ">=") NUMBER ["%"]
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from millrace import errors

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

_TOKEN = re.compile(r"\s*(?P<token><=|>=|==|=|<|>|%|[A-Za-z_][\w.]*|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|\S)")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A named number against a limit."""

    name: str
    op: str
    limit: float

    def holds(self, value: float) -> bool:
        """Whether the value is on the right side; values that differ from the limit by rounding alone equal it."""
        return OPERATORS[self.op](self.limit if is_equal(value, self.limit) else value, self.limit)

    def __str__(self) -> str:
        return f"{self.name} {self.op} {self.limit:g}"


def is_equal(value: float, limit: float) -> bool:
    """Equal up to the rounding of float64 sums: 0.95 - 0.945 is not above 0.005."""
    return math.isclose(value, limit, rel_tol=1e-9, abs_tol=1e-12)


class Words:
    """The words of a rule, taken one by one; a fault names the position and what was expected there."""

    def __init__(self, text: str, *, field: str, example: str) -> None:
        self.field, self.example, self._end = field, example, len(text.rstrip())
        self._tokens = [(m["token"], m.start("token")) for m in _TOKEN.finditer(text)]
        self._next = 0

    @property
    def word(self) -> str:
        """The next word; empty at the end."""
        return self._tokens[self._next][0] if self._next < len(self._tokens) else ""

    def take(self) -> str:
        word = self.word
        self._next += 1
        return word

    def choice(self, valid: Collection[str], what: str) -> str:
        """Take one of the valid words."""
        if self.word not in valid:
            raise self.fault(f"expected {what}, found {self._found()}; {errors.nearest(self.word, valid)}")
        return self.take()

    def number(self) -> tuple[float, bool]:
        """Take a number; the flag says whether it is in percent."""
        if not _NUMBER.fullmatch(self.word):
            raise self.fault(f"expected a number, found {self._found()}.")
        value = float(self.take())
        is_percent = self.word == "%"
        if is_percent:
            self.take()
        if abs(value) > 1e300:
            raise self.fault("expected a finite number.")
        return value, is_percent

    def end(self) -> None:
        if self.word:
            raise self.fault(f"expected the end of the rule, found {self._found()}.")

    def fault(self, what: str) -> errors.InvalidSpec:
        at = self._tokens[self._next][1] if self._next < len(self._tokens) else self._end
        return errors.InvalidSpec(
            f"At character {at + 1}: {what}", field=self.field, remedy=f"Write for example `{self.example}`."
        )

    def _found(self) -> str:
        return repr(self.word) if self.word else "the end"


def parse_comparison(words: Words, names: Collection[str], *, what: str) -> Comparison:
    """Take `NAME OP NUMBER`; a percentage is a share.

    Raises:
        InvalidSpec: With the position and what was expected there.
    """
    name = words.choice(names, what)
    op = words.choice(OPERATORS, "<, <=, > or >=")
    value, is_percent = words.number()
    return Comparison(name, op, value / 100 if is_percent else value)
