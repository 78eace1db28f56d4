"""Quantities written as text, as numbers in one unit: by regular expressions over whole columns, each unit looked up once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace_cleaning.steps.findings import Findings, Outcome, Scratch
from millrace_cleaning.steps.table.settings import ConvertUnits
from millrace_cleaning.steps.table.units import NEXT_SMALLER, Unit, unit_of

Floats = npt.NDArray[np.float64]

_DIGITS = r"(?:[0-9](?:[0-9.,]|[ \x{A0}\x{202F}'’][0-9]{3})*|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?"
_UNIT = r"[^0-9.,+\-\s][^0-9]*?"
_QUANTITY = (
    rf"^\s*(?P<sign>[+\-−]?)\s*(?P<first>{_DIGITS})\s*"
    rf"(?:(?P<power>[a-zµ]*[mt][23])|(?P<unit>{_UNIT})?(?:\s*(?P<second>{_DIGITS})\s*(?P<smaller>{_UNIT})?)?)\s*$"
)
"""Such as 12 kg; 30 m2, where no second number begins; 5'11" and 1 h 30, which are two numbers."""

_GROUPED = r"^(?:[0-9]*|[1-9][0-9]{0,2}(?:,[0-9]{3})+)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?$"
_SWAPPED = _GROUPED.replace(",[", "@[").replace(r"\.", ",").replace("@", r"\.")


def apply(batch: pa.RecordBatch, config: ConvertUnits, scratch: Scratch) -> Outcome:  # noqa: ARG001  # every step's form
    """Append the quantities of a text column in the unit asked for; what is unreadable is null there."""
    texts = batch.column(config.column)
    numbers = quantities(texts, config)
    is_lost = np.isnan(numbers)
    findings = Findings()
    findings.add(
        np.flatnonzero(is_lost & texts.is_valid().to_numpy(zero_copy_only=False)),
        action="removed" if config.unreadable == "remove" else "flagged", rule="unreadable", column=config.column,
    )  # fmt: skip
    return Outcome(batch.append_column(config.added_columns()[0][0], pa.array(numbers, mask=is_lost)), findings)


def quantities(texts: pa.Array, config: ConvertUnits) -> Floats:
    """Return each text's quantity in config.unit; NaN where it is null, unreadable, or of another dimension."""
    wanted = unit_of(config.unit)
    assert wanted is not None, "the settings refuse what is no unit"
    parts = {
        f.name: pc.struct_field(found, f.name) for found in [pc.extract_regex(texts, _QUANTITY)] for f in found.type
    }
    minus = pc.is_in(parts["sign"], pa.array(["-", "−"])).to_numpy(zero_copy_only=False)
    sign = np.where(minus, -1.0, 1.0)
    unit = pc.if_else(pc.equal(parts["power"], ""), parts["unit"], parts["power"])
    total = _in_base(sign * _numbers(parts["first"], config.decimal), unit, wanted, missing=config.assume)
    has_second = pc.not_equal(parts["second"], "").fill_null(False).to_numpy(zero_copy_only=False)
    if has_second.any():
        implied = _next_smaller(unit)
        smaller = pc.if_else(pc.equal(parts["smaller"], ""), implied, parts["smaller"])
        more = _in_base(sign * _numbers(parts["second"], config.decimal), smaller, wanted, missing="")
        total = np.where(has_second, total + more, total)
    found: Floats = (total - wanted.offset) / wanted.factor
    return np.where(np.isfinite(found), found, np.nan)


def _numbers(texts: pa.Array, decimal: str) -> Floats:
    """Numbers with either decimal sign. The other sign, white space and apostrophes may group digits by three."""
    texts = pc.replace_substring_regex(texts, r"[ \x{A0}\x{202F}'’]", "")
    nothing = pa.scalar(None, pa.string())
    point = pc.match_substring_regex(texts, _GROUPED) if decimal != "," else pa.scalar(False)
    comma = pc.match_substring_regex(texts, _SWAPPED) if decimal != "." else pa.scalar(False)
    with_point = pc.replace_substring(texts, ",", "")
    with_comma = pc.replace_substring(pc.replace_substring(texts, ".", ""), ",", ".")
    plain = pc.if_else(point, with_point, pc.if_else(comma, with_comma, nothing))
    plain = pc.if_else(pc.equal(plain, ""), nothing, plain)
    numbers: Floats = plain.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return numbers


def _in_base(numbers: Floats, units: pa.Array, wanted: Unit, *, missing: str) -> Floats:
    """Return numbers in the base unit; NaN where a unit is none, or measures something else than the one wanted."""
    encoded = units.fill_null("").dictionary_encode()
    found = [unit_of(text or missing) for text in encoded.dictionary.to_pylist()]
    known = [unit if unit is not None and unit.dimension == wanted.dimension else None for unit in found]
    codes = encoded.indices.to_numpy()
    factors = np.array([np.nan if unit is None else unit.factor for unit in known])[codes]
    offsets = np.array([np.nan if unit is None else unit.offset for unit in known])[codes]
    in_base: Floats = numbers * factors + offsets
    return in_base


def _next_smaller(units: pa.Array) -> pa.Array:
    """The unit of a second number that has none, by the first one's: inches after feet, minutes after hours."""
    encoded = units.fill_null("").dictionary_encode()
    smaller = [NEXT_SMALLER.get(text.strip().lower(), "") for text in encoded.dictionary.to_pylist()]
    return pc.take(pa.array(smaller, pa.string()), encoded.indices)
