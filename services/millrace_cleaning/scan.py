"""What a column's raw values look like: counts that are gathered batch by batch, merge across parts, and fit in JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace_cleaning.read.pixels import is_audio
from millrace_cleaning.read.rows import by_sort
from millrace_cleaning.repeats import MAX_BYTES, RepeatSketch
from millrace_cleaning.sketch import NumberSketch
from millrace_cleaning.values import finite, is_boolean, is_integer, is_number, is_timestamp, trimmed

MAX_DISTINCT = 1000
"""How many distinct values are remembered; a column with more is no category unless its owner says so."""

MAX_CHARS_COUNTED = 256
"""Words are counted to tell texts from labels: so many characters say it, and counting is slow."""

_HEAD_BYTES = 16


@dataclass(slots=True)
class ColumnScan:
    """Counts over one column.

    Attributes:
        rows, nulls: How many values, and how many of them are null or look so.
        kinds: How many values are of each kind: integer, number, boolean, timestamp, string, list, bytes, audio, json.
        values: Occurrences by text, while there are at most MAX_DISTINCT.
        has_more: Whether more distinct values were seen than are remembered.
        chars, words: Sums over strings; of a long one, the words of its first MAX_CHARS_COUNTED characters.
        length: Shortest and longest list.
        whole: Whether every list holds integers.
        numbers: How the numbers are distributed, whatever is written between them; None where no value is remembered.
        again: Which of some values stood twice; None where no value is remembered.
    """

    rows: int = 0
    nulls: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)
    has_more: bool = False
    chars: int = 0
    words: int = 0
    length: tuple[int, int] | None = None
    whole: bool = True
    numbers: NumberSketch | None = field(default_factory=NumberSketch)
    again: RepeatSketch | None = field(default_factory=RepeatSketch)

    @property
    def repeats(self) -> bool:
        """Whether values repeat, as far as is known; where nothing is, they are taken to."""
        if not self.has_more:
            return any(count > 1 for count in self.values.values())
        return self.again is None or self.again.repeats

    def add(self, array: pa.Array, *, null_values: Iterable[str]) -> None:
        """Count one batch of the column."""
        for values in by_sort(array):
            self._add(values, null_values)

    def _add(self, array: pa.Array, null_values: Iterable[str]) -> None:
        self.rows += len(array)
        array = _decoded(array)
        if pa.types.is_string(array.type):
            self._add_strings(array, null_values)
        elif pa.types.is_floating(array.type):
            self._add_numbers(array)
        else:
            array = array.drop_null()
            kind = _kind(array.type)
            num_audio = _num_audio(array) if kind == "bytes" else 0
            self._count("audio", num_audio)
            self._count(kind, len(array) - num_audio)
            if kind == "list" and len(array):
                self._add_lists(array)
            elif kind in ("integer", "boolean", "timestamp"):
                self._add_values(pc.cast(array, pa.string()))
            if kind == "integer":
                self._sketch(array.cast(pa.float64(), safe=False))
        self.nulls = self.rows - sum(self.kinds.values())

    def merge(self, other: ColumnScan) -> None:
        """Add the counts of another part of the same column."""
        self.rows += other.rows
        self.nulls += other.nulls
        for kind, count in other.kinds.items():
            self._count(kind, count)
        self.has_more |= other.has_more
        self._remember(other.values.items())
        self.chars += other.chars
        self.words += other.words
        if other.length is not None:
            low, high = self.length or other.length
            self.length = (min(low, other.length[0]), max(high, other.length[1]))
        self.whole &= other.whole
        if self.numbers is None or other.numbers is None:
            self.numbers = None
        else:
            self.numbers.merge(other.numbers)
        if self.again is None or other.again is None:
            self.again = None
        else:
            self.again.merge(other.again)

    def to_json(self) -> dict[str, Any]:
        sketches = {"numbers": self.numbers, "again": self.again}
        return {**asdict(self), **{name: None if s is None else s.to_json() for name, s in sketches.items()}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ColumnScan:
        length, numbers, again = value["length"], value["numbers"], value["again"]
        changed = {
            "length": None if length is None else (length[0], length[1]),
            "numbers": None if numbers is None else NumberSketch.from_json(numbers),
            "again": None if again is None else RepeatSketch.from_json(again),
        }
        return cls(**{**value, **changed})

    def _add_strings(self, array: pa.Array, null_values: Iterable[str]) -> None:
        array = trimmed(array, null_values).drop_null()
        remaining = len(array)
        for kind, test in _TESTS.items():
            matches = test(array)
            count = pc.sum(matches).as_py() or 0
            if count and kind in ("integer", "number"):
                self._sketch(finite(pc.cast(array.filter(matches), pa.float64())).drop_null())
            self._count(kind, count)
            remaining -= count
        self._count("string", remaining)
        self.chars += pc.sum(pc.utf8_length(array)).as_py() or 0
        begins = pc.utf8_slice_codeunits(array, 0, MAX_CHARS_COUNTED)
        self.words += pc.sum(pc.count_substring_regex(begins, r"\S+")).as_py() or 0
        self._add_values(array)

    def _add_numbers(self, array: pa.Array) -> None:
        array = array.filter(pc.is_finite(array))
        self._count("number", len(array))
        self._sketch(array.cast(pa.float64()))
        self._add_values(pc.cast(array.cast(pa.float64()), pa.string()))  # 3.0 is written 3, as a label should be

    def _add_lists(self, array: pa.Array) -> None:
        lengths = pc.list_value_length(array)
        low, high = pc.min_max(lengths).as_py().values()
        self.length = (min(low, self.length[0]), max(high, self.length[1])) if self.length else (low, high)
        self.whole &= pa.types.is_integer(array.type.value_type)

    def _add_values(self, strings: pa.Array) -> None:
        counts = pc.value_counts(strings)
        values, numbers = counts.field("values"), counts.field("counts")
        if self.again is not None:
            ids = counts.filter(_may_be_ids(values))
            self.again.add(ids.field("values").to_pylist(), ids.field("counts").to_pylist())
        self.has_more |= len(values) > MAX_DISTINCT
        self._remember(
            zip(values[: MAX_DISTINCT + 1].to_pylist(), numbers[: MAX_DISTINCT + 1].to_pylist(), strict=True)
        )

    def _sketch(self, array: pa.Array) -> None:
        if self.numbers is not None and len(array):
            self.numbers.add(array.to_numpy(zero_copy_only=False))

    def _remember(self, counts: Iterable[tuple[str, int]]) -> None:
        if not self.has_more:
            for value, count in counts:
                self.values[value] = self.values.get(value, 0) + count
            self.has_more = len(self.values) > MAX_DISTINCT
        if self.has_more:
            self.values = {}

    def _count(self, kind: str, count: int) -> None:
        if count:
            self.kinds[kind] = self.kinds.get(kind, 0) + count


def scan_batches(
    batches: Iterable[pa.RecordBatch], *, null_values: Iterable[str], private: Collection[str] = ()
) -> tuple[dict[str, ColumnScan], int]:
    """Return (scan by column in order of appearance, number of rows). A column absent from a batch is null there.

    Args:
        private: Columns of which no value is remembered.
    """
    scans: dict[str, ColumnScan] = {}
    num_rows = 0
    for batch in batches:
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            scan = scans.setdefault(name, _fresh(num_rows, is_private=name in private))
            scan.add(array, null_values=null_values)
        num_rows += batch.num_rows
        fill_absent(scans, num_rows=num_rows)
    return scans, num_rows


def _fresh(num_rows: int, *, is_private: bool) -> ColumnScan:
    """A scan of a column that the rows so far did not have."""
    return ColumnScan(
        rows=num_rows, nulls=num_rows, has_more=is_private, numbers=None if is_private else NumberSketch(),
        again=None if is_private else RepeatSketch(),
    )  # fmt: skip


def fill_absent(scans: Mapping[str, ColumnScan], *, num_rows: int) -> None:
    """Count the rows that lack a column as nulls of it."""
    for scan in scans.values():
        scan.nulls += num_rows - scan.rows
        scan.rows = num_rows


# Exclusive, in this order: the first that a text passes is its kind.
_TESTS = {
    "integer": is_integer,
    "number": lambda array: pc.and_(is_number(array), pc.invert(is_integer(array))),
    "boolean": is_boolean,
    "timestamp": is_timestamp,
}


def _may_be_ids(strings: pa.Array) -> pa.Array:
    """Which texts are worth hashing: short ones that are no decimal fractions."""
    is_short = pc.less_equal(pc.binary_length(strings), MAX_BYTES)
    return pc.and_(is_short, pc.or_(is_integer(strings), pc.invert(is_number(strings))))


def _decoded(array: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    return array.cast(pa.float64()) if pa.types.is_decimal(array.type) or pa.types.is_float16(array.type) else array


def _num_audio(array: pa.Array) -> int:
    """How many of these bytes are sound by what they begin with."""
    if pa.types.is_struct(array.type):
        array = array.field("bytes")
    heads = pc.binary_slice(array.cast(pa.large_binary()), 0, _HEAD_BYTES).to_pylist()
    return sum(head is not None and is_audio(head) for head in heads)


def _kind(type_: pa.DataType) -> str:
    if pa.types.is_boolean(type_):
        return "boolean"
    if pa.types.is_integer(type_):
        return "integer"
    if pa.types.is_timestamp(type_) or pa.types.is_date(type_):
        return "timestamp"
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        value = type_.value_type
        return "list" if pa.types.is_integer(value) or pa.types.is_floating(value) else "json"
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        return "bytes"
    if pa.types.is_struct(type_) and "bytes" in [type_.field(i).name for i in range(type_.num_fields)]:
        return "bytes"
    return "json"
