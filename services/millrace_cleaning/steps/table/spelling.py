"""One spelling of a column's values. Each distinct value is looked at once, however many rows have it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace_cleaning.steps.findings import Action, Findings, Outcome, Scratch
from millrace_cleaning.steps.table.settings import MapValues

_ACTIONS: dict[str, Action] = {"flag": "flagged", "nullify": "changed", "remove": "removed"}


def apply(batch: pa.RecordBatch, config: MapValues, scratch: Scratch) -> Outcome:  # noqa: ARG001  # every step's form
    """Rewrite a column's values, and judge those that are not known."""
    index = batch.schema.get_field_index(config.column)
    encoded = batch.column(index).dictionary_encode()
    old = encoded.dictionary.to_pylist()
    new = respelled(old, config)
    is_other = np.array([a != b for a, b in zip(old, new, strict=True)] + [False])
    is_unknown = np.array([bool(config.known) and value not in config.known for value in new] + [False])
    codes = encoded.indices.fill_null(len(old)).to_numpy(zero_copy_only=False)  # the last code: of nulls
    findings = Findings()
    findings.add(np.flatnonzero(is_other[codes]), action="changed", rule="respelled", column=config.column)
    if config.unknown != "keep":
        rows = np.flatnonzero(is_unknown[codes])
        findings.add(rows, action=_ACTIONS[config.unknown], rule="unknown", column=config.column)
    is_null = is_unknown if config.unknown == "nullify" else np.zeros(len(new) + 1, dtype=np.bool_)
    spellings = [None if gone else value for value, gone in zip([*new, None], is_null, strict=True)]
    array = pc.take(pa.array(spellings, batch.column(index).type), pa.array(codes))
    return Outcome(batch.set_column(index, batch.schema.field(index).with_nullable(True), array), findings)


def respelled(values: list[str], config: MapValues) -> list[str]:
    """Return each value as it is to be spelled."""
    known = {value.casefold(): value for value in reversed(config.known)}
    synonyms = {_plain(text, config).casefold(): to for text, to in config.synonyms.items()}
    found = []
    for value in values:
        plain = _plain(value, config)
        if plain.casefold() in synonyms:
            plain = synonyms[plain.casefold()]
        if plain not in config.known:
            plain = known.get(plain.casefold(), plain)
        found.append(plain)
    return found


def _plain(text: str, config: MapValues) -> str:
    text = " ".join(text.split()) if config.squeeze else text
    return {"": text, "lower": text.lower(), "upper": text.upper(), "title": text.title()}[config.case]
