"""The grammar of `when`: comparisons over params, verdicts and metrics, joined by and, or, not; parsed, never `eval`.

condition  = clause { "or" clause }          clause = factor { "and" factor }
factor     = "not" factor | "(" condition ")" | value [ op value ]
op         = "==" | "!=" | "<" | "<=" | ">" | ">="
value      = number | 'text' | true | false | params.NAME | STAGE.METRIC | STAGE.verdict

In a text, a backslash takes the character after it as it is.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from millrace import errors

_TOKEN = re.compile(
    r"""\s*(?:(?P<op>==|!=|<=|>=|<|>|\(|\))|(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<word>[\w.\-+]+))""",
    re.DOTALL,
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

MAX_TOKENS = 200
"""A condition is a line that people read; this also bounds how deeply it nests."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition: an operator with its operands, a name, or a literal."""

    op: str
    operands: tuple[Condition, ...] = ()
    value: Any = None

    def holds(self, metrics: Mapping[str, Mapping[str, Any]]) -> bool:
        """Decide, given each succeeded stage's metrics and `verdict`; a stage or metric that is not there is false."""
        return bool(self._evaluate(metrics))

    def stages(self) -> set[str]:
        """Names of the stages it reads."""
        return {s for n in self._names() if not n.startswith("params.") for s in [n.partition(".")[0]]}

    def check(self, *, params: Mapping[str, Any], stages: Iterable[str], field: str) -> None:
        """Raise InvalidSpec if it reads a parameter or a stage that does not exist."""
        for name in self._names():
            head, _, rest = name.partition(".")
            known = list(params) if head == "params" else list(stages)
            wanted = rest if head == "params" else head
            if wanted not in known:
                what = "parameter" if head == "params" else "stage"
                raise errors.InvalidSpec(f"There is no {what} {wanted!r}; {errors.nearest(wanted, known)}", field=field)
            if head == "params" and not _is_comparable(params[rest]):
                raise errors.InvalidSpec(
                    f"Parameter {rest!r} is neither a text, a finite number nor a boolean, and cannot be compared.",
                    field=field,
                )

    def with_params(self, params: Mapping[str, Any]) -> Condition:
        """The same condition with parameters replaced by their values."""
        if self.op == "name" and self.value.startswith("params."):
            return Condition("literal", value=params[self.value.removeprefix("params.")])
        return Condition(self.op, tuple(o.with_params(params) for o in self.operands), self.value)

    def text(self) -> str:
        """Canonical text that parses to the same condition."""
        if self.op == "literal":
            return _literal(self.value)
        if self.op == "name":
            return str(self.value)
        if self.op == "not":
            return f"not ({self.operands[0].text()})"
        return f"({self.operands[0].text()} {self.op} {self.operands[1].text()})"

    def _names(self) -> list[str]:
        return [self.value] if self.op == "name" else [n for o in self.operands for n in o._names()]

    def _evaluate(self, metrics: Mapping[str, Mapping[str, Any]]) -> Any:
        if self.op == "literal":
            return self.value
        if self.op == "name":
            stage, _, metric = self.value.partition(".")
            return metrics.get(stage, {}).get(metric)
        values = [o._evaluate(metrics) for o in self.operands]
        if self.op == "not":
            return not values[0]
        if self.op in ("and", "or"):
            return (all if self.op == "and" else any)(values)
        try:
            return None not in values and _COMPARE[self.op](*values)
        except TypeError:
            return False


def parse_condition(text: str, *, field: str = "when") -> Condition:
    """Parse a condition.

    Raises:
        InvalidSpec: With the position at which the text stops making sense, and what was expected there.
    """
    tokens, position = [], 0
    stripped = text.rstrip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if not match:
            raise _fault(f"unexpected {stripped[position:][:10]!r}", position, field)
        tokens.append((match.group().strip(), match.start()))
        position = match.end()
        if len(tokens) > MAX_TOKENS:
            raise _fault(f"the condition has more than {MAX_TOKENS} words", position, field)
    parser = _Parser(tokens, len(text), field)
    condition = parser.either()
    if parser.tokens:
        raise _fault(f"unexpected {parser.tokens[0][0]!r}", parser.tokens[0][1], field)
    return condition


class _Parser:
    def __init__(self, tokens: list[tuple[str, int]], end: int, field: str) -> None:
        self.tokens, self.end, self.field = tokens, end, field

    def either(self) -> Condition:
        left = self.both()
        while self._take("or"):
            left = Condition("or", (left, self.both()))
        return left

    def both(self) -> Condition:
        left = self.factor()
        while self._take("and"):
            left = Condition("and", (left, self.factor()))
        return left

    def factor(self) -> Condition:
        if self._take("not"):
            return Condition("not", (self.factor(),))
        if self._take("("):
            inner = self.either()
            if not self._take(")"):
                raise _fault("expected ')'", self._at(), self.field)
            return inner
        left = self.value()
        if self.tokens and self.tokens[0][0] in _COMPARE:
            op = self.tokens.pop(0)[0]
            return Condition(op, (left, self.value()))
        return left

    def value(self) -> Condition:
        if not self.tokens:
            raise _fault("expected a value", self.end, self.field)
        token, position = self.tokens.pop(0)
        if token[0] in "'\"":
            return Condition("literal", value=re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL))
        if token in ("true", "false"):
            return Condition("literal", value=token == "true")
        try:
            return Condition("literal", value=float(token) if re.search(r"[.eE]", token) else int(token))
        except ValueError:
            pass
        if not re.fullmatch(r"[a-z][\w-]*(\.[A-Za-z_][\w-]*)+", token):
            raise _fault(f"{token!r} is no number, 'text', params.name or stage.metric", position, self.field)
        return Condition("name", value=token)

    def _take(self, word: str) -> bool:
        if self.tokens and self.tokens[0][0] == word:
            self.tokens.pop(0)
            return True
        return False

    def _at(self) -> int:
        return self.tokens[0][1] if self.tokens else self.end


def _is_comparable(value: Any) -> bool:
    return isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value))


def _literal(value: str | bool | int | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + re.sub(r"(['\\])", r"\\\1", value) + "'"
    return repr(value)


def _fault(what: str, position: int, field: str) -> errors.InvalidSpec:
    return errors.InvalidSpec(
        f"At character {position + 1}: {what}.",
        field=field,
        remedy="Write for example `evaluate.accuracy >= 0.9 and params.ship == true`.",
    )
