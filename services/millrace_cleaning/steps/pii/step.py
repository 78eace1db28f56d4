"""The step: finds personal data in its column, and masks it, drops its rows, or puts tokens there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa

from millrace import errors
from millrace.datasets.pii_tokens import Tokens, key_id, mask_of
from millrace_cleaning.steps.findings import Findings, Outcome, Scratch
from millrace_cleaning.steps.pii.find import Finder, Hits
from millrace_cleaning.steps.pii.ner import with_names
from millrace_cleaning.steps.pii.prefilter import buffers_of
from millrace_cleaning.steps.pii.rewrite import replaced
from millrace_cleaning.steps.pii.settings import KINDS, PiiConfig


def apply(batch: pa.RecordBatch, config: PiiConfig, scratch: Scratch) -> Outcome:
    """Replace personal data in a batch. A row that goes is masked too: nobody has to be trusted to take it out.

    Raises:
        InvalidInput: Tokens are asked for and the worker's key is missing or another.
        StageFailed: Names are asked for, and presidio or its model is not installed.
    """
    index = batch.schema.get_field_index(config.column)
    column = batch.column(index)
    tokens = _tokens(config, scratch)
    hits = _finder(config.to_json()).find(column)
    if config.ner:
        hits = with_names(column, hits, config)
    clean = replaced(column, hits, _replacements(column, hits, config, tokens))
    return Outcome(batch.set_column(index, batch.schema.field(index), clean), _account(hits, config))


def _replacements(column: pa.Array, hits: Hits, config: PiiConfig, tokens: Tokens | None) -> Sequence[bytes]:
    masks = [mask_of(kind).encode() for kind in KINDS]
    tokenized = {KINDS.index(kind) for kind in config.tokenized}
    if tokens is None or not tokenized:
        return [masks[kind] for kind in hits.kinds.tolist()]
    data, _ = buffers_of(column)
    made = []
    for begin, end, kind in zip(hits.begins.tolist(), hits.ends.tolist(), hits.kinds.tolist(), strict=True):
        if kind in tokenized:
            text = data[begin:end].tobytes().decode("utf-8", "surrogateescape")
            made.append(tokens.token(text, KINDS[kind]).encode())
        else:
            made.append(masks[kind])
    return made


def _account(hits: Hits, config: PiiConfig) -> Findings:
    """One finding a row and kind: how many of it were there."""
    findings = Findings()
    for number, kind in enumerate(KINDS):
        rows, counts = np.unique(hits.rows[hits.kinds == number], return_counts=True)
        action = config.action_of(kind)
        if action != "keep":
            findings.add(
                rows,
                action="removed" if action == "drop" else "changed",
                rule=kind,
                column=config.column,
                values=counts,
            )
    return findings


def _tokens(config: PiiConfig, scratch: Scratch) -> Tokens | None:
    if not config.tokenized:
        return None
    key = scratch.pii_key.get_secret_value()
    if not key:
        raise errors.InvalidInput(
            "Tokens for personal data need a key, and this worker has none.",
            remedy="Set MILLRACE_PII_KEY where the cleaning worker starts; see docs/privacy.md.",
            field="with.steps",
        )
    if key_id(key) != config.key_id:
        raise errors.InvalidInput(
            f"The recipe names the key {config.key_id} for tokens, and this worker has {key_id(key)}.",
            remedy="Give the worker that key as MILLRACE_PII_KEY, or name its own in `key_id`.",
            field="with.steps",
        )
    return Tokens(key)


@lru_cache(maxsize=8)
def _finder(config: str) -> Finder:
    return Finder(PiiConfig.model_validate_json(config))
