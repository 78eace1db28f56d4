"""Names and places by presidio's recognizers, on a model that is on this machine: nothing is ever downloaded for it."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from millrace import errors
from millrace_cleaning.steps.pii.find import Hits
from millrace_cleaning.steps.pii.prefilter import buffers_of
from millrace_cleaning.steps.pii.settings import KINDS, PiiConfig, PiiKind

_ENTITIES: dict[str, PiiKind] = {"PERSON": "person", "LOCATION": "place"}


def with_names(column: pa.Array, hits: Hits, config: PiiConfig) -> Hits:
    """Add names and places to what patterns found; where they overlap, what patterns found stays.

    Raises:
        StageFailed: presidio-analyzer or the model is not installed here.
    """
    kinds = {entity: KINDS.index(kind) for entity, kind in _ENTITIES.items() if kind in config.sought}
    analyzer = _analyzer(config.ner_model, config.ner_language)
    _, offsets = buffers_of(column)
    known = list(zip(*(a.tolist() for a in (hits.rows, hits.begins, hits.ends, hits.kinds)), strict=True))
    by_row: dict[int, list[tuple[int, int, int, int]]] = {}
    for hit in known:
        by_row.setdefault(hit[0], []).append(hit)
    found = []
    for row, text in enumerate(column.to_pylist()):
        taken = by_row.get(row, [])
        for entity in analyzer.analyze(text, entities=list(kinds), language=config.ner_language) if text else ():
            begin = int(offsets[row]) + len(text[: entity.start].encode())
            end = begin + len(text[entity.start : entity.end].encode())
            if begin < end and all(end <= b or e <= begin for _, b, e, _ in taken):
                taken = [*taken, (row, begin, end, kinds[entity.entity_type])]
        found += sorted(taken)
    return Hits.of(found)


@lru_cache(maxsize=2)
def _analyzer(model: str, language: str) -> Any:
    """A presidio analyzer on a spaCy model. Presidio would fetch a model that is missing; so it is looked for first."""
    _demand(importlib.util.find_spec("presidio_analyzer") is not None, "presidio-analyzer")
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    is_there = Path(model).is_dir() or importlib.util.find_spec(model) is not None
    _demand(is_there, f"the spaCy model {model}")
    engine = SpacyNlpEngine(models=[{"lang_code": language, "model_name": model}])
    engine.load()
    return AnalyzerEngine(nlp_engine=engine, supported_languages=[language])


def _demand(is_there: bool, what: str) -> None:
    if not is_there:
        raise errors.StageFailed(
            f"`ner: presidio` needs {what}, which is not installed here; nothing is downloaded for it.",
            remedy="Install both where cleaning workers run: pip install 'millrace[ner]' and a spaCy model; or leave `ner` out.",
            field="with.steps",
        )
