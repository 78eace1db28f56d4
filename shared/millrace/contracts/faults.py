"""What pydantic found wrong, in this product's words: what was expected, what was found, and the field's path."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from millrace import errors
from millrace.contracts.ids import NAME_PATTERN

NAME_WORDS = "a name (lower-case letters, digits, _ and -, a letter first, at most 63 characters)"

_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping of names to values",
    "model_type": "a mapping of names to values",
    "model_attributes_type": "a mapping of names to values",
    "list_type": "a list",
    "tuple_type": "a list",
    "greater_than": "a number greater than {gt}",
    "greater_than_equal": "a number greater than or equal to {ge}",
    "less_than": "a number less than {lt}",
    "less_than_equal": "a number less than or equal to {le}",
    "string_too_short": "a text of at least {min_length} characters",
    "string_too_long": "a text of at most {max_length} characters",
    "string_pattern_mismatch": "a text of the pattern {pattern}",
    "invalid-json-value": "a value that JSON has: a text, a number, true, false, null, a list or a mapping",
}

_SIZES = {"too_short": "at least {min_length} item(s); found {actual_length}",
          "too_long": "at most {max_length} items; found {actual_length}"}  # fmt: skip

_JSON_TAGS = frozenset({"list", "dict", "str", "bool", "int", "float", "nullable"})


def said(fault: Mapping[str, Any]) -> str:
    """One sentence for one of `ValidationError.errors()`. It repeats what was found only where the fault has its input."""
    kind = str(fault["type"])
    context = {k: f"{v:g}" if isinstance(v, float) else v for k, v in (fault.get("ctx") or {}).items()}
    if kind == "missing":
        return "This field is required."
    if kind == "value_error":  # a validator of our own, which says all there is to say
        text = str(context.get("error", fault["msg"])).rstrip(".")
        names_a_field = re.match(r"[\w.]+:", text) is not None
        return f"{text}." if names_a_field else f"{text[:1].upper()}{text[1:]}."
    if kind in _SIZES:
        return f"Expected {_SIZES[kind].format(**context)}."
    if kind == "literal_error":
        return _choice(str(context["expected"]), fault)
    expected = NAME_WORDS if context.get("pattern") == NAME_PATTERN else _EXPECTED.get(kind)
    words = f"Expected {expected.format(**context)}" if expected else str(fault["msg"])
    return f"{words}{_found(fault)}."


def path_of(fault: Mapping[str, Any]) -> tuple[int | str, ...]:
    """The fault's place in what was given, without what pydantic adds to it: names of validators and of union members."""
    loc: Sequence[int | str] = fault["loc"]
    own = tuple(p for p in loc if not (isinstance(p, str) and ("[" in p or p.startswith("function-"))))
    if fault["type"] in ("finite_number", "invalid-json-value"):
        own = tuple(part for part in own if part not in _JSON_TAGS)
    return own


def short(value: Any) -> str:
    """A value in at most 80 characters."""
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _found(fault: Mapping[str, Any]) -> str:
    return f"; found {short(fault['input'])}" if "input" in fault else ""


def _choice(expected: str, fault: Mapping[str, Any]) -> str:
    names = re.findall(r"'([^']*)'", expected)
    found = fault.get("input")
    if len(names) < 2 or not isinstance(found, str):
        return f"Expected {expected}{_found(fault)}."
    return f"{short(found)} is none of the allowed values; {errors.nearest(found, names)}"
