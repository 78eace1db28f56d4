"""What a text means: tests and parsers over string arrays. Text that does not pass becomes null, never an exception."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

# No leading zeros: 01067 is a postal code, not a number.
_WHOLE = r"(0|[1-9][0-9]*)"
_INTEGER = r"^[+-]?(0|[1-9][0-9]{0,17})$"
_NUMBER = rf"^[+-]?({_WHOLE}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_TIMESTAMP = (
    r"^[0-9]{4}-[01][0-9]-[0-3][0-9]"
    r"([T ][0-2][0-9]:[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?$"
)
_TRUE = ("true", "t", "yes", "y")
_FALSE = ("false", "f", "no", "n")
TIMESTAMP_TYPE = pa.timestamp("us", "UTC")


def trimmed(array: pa.Array, null_values: Iterable[str]) -> pa.Array:
    """Strip white space; what is then one of null_values is null."""
    array = pc.utf8_trim_whitespace(array)
    return pc.if_else(pc.is_in(array, pa.array(list(null_values), pa.string())), None, array)


def is_integer(array: pa.Array) -> pa.Array:
    return pc.match_substring_regex(array, _INTEGER)


def is_number(array: pa.Array) -> pa.Array:
    return pc.match_substring_regex(array, _NUMBER)


def is_boolean(array: pa.Array) -> pa.Array:
    return pc.is_in(pc.utf8_lower(array), pa.array([*_TRUE, *_FALSE]))


def is_timestamp(array: pa.Array) -> pa.Array:
    return pc.match_substring_regex(array, _TIMESTAMP)


def to_number(array: pa.Array) -> pa.Array:
    """Decimal text as float64."""
    return finite(pc.cast(_only(array, is_number(array)), pa.float64()))


def to_integer(array: pa.Array) -> pa.Array:
    """Decimal text as int64; a number such as 3.0 counts, 3.5 does not."""
    exact = is_integer(array)
    whole = number_to_integer(to_number(_only(array, pc.invert(exact))))
    return pc.coalesce(pc.cast(_without_plus(_only(array, exact)), pa.int64()), whole)


def to_boolean(array: pa.Array) -> pa.Array:
    """true, yes, y, t, 1 and their opposites, in any case."""
    lower = pc.utf8_lower(array)
    true = pc.is_in(lower, pa.array([*_TRUE, "1", "1.0", "on"]))
    false = pc.is_in(lower, pa.array([*_FALSE, "0", "0.0", "off"]))
    return pc.if_else(true, True, pc.if_else(false, False, pa.scalar(None, pa.bool_())))


def to_timestamp(array: pa.Array) -> pa.Array:
    """ISO 8601 text as microseconds in UTC; what names no zone is taken as UTC."""
    array = _only(array, is_timestamp(array))
    zoned = pc.match_substring_regex(array, r"(Z|[+-][0-9]{2}:?[0-9]{2})$")
    zoned = pc.and_(zoned, pc.greater(pc.utf8_length(array), 10))  # the -02 of 2024-01-02 is a day
    try:
        with_zone = pc.cast(_only(array, zoned), TIMESTAMP_TYPE)
        without = pc.assume_timezone(pc.cast(_only(array, pc.invert(zoned)), pa.timestamp("us")), "UTC")
        return pc.coalesce(with_zone, without)
    except pa.ArrowInvalid:  # one impossible date, such as the 31st of April, spoils the whole cast
        return pa.array([_parse_timestamp(v) for v in array.to_pylist()], TIMESTAMP_TYPE)


def finite(array: pa.Array) -> pa.Array:
    """NaN and infinity are null."""
    return pc.if_else(pc.is_finite(array), array, pa.scalar(None, array.type))


def number_to_integer(array: pa.Array) -> pa.Array:
    """Whole numbers within 63 bits as int64; others are null."""
    whole = pc.and_(pc.equal(array, pc.floor(array)), pc.less(pc.abs(array), 2.0**63))
    return pc.cast(pc.if_else(whole, array, pa.scalar(None, array.type)), pa.int64(), safe=False)


def _only(array: pa.Array, mask: pa.Array) -> pa.Array:
    return pc.if_else(mask, array, pa.scalar(None, array.type))


def _without_plus(array: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(array, r"^\+", "")


def _parse_timestamp(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
