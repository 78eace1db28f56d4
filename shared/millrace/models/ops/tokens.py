"""`char_tokens@1`: a text as its characters, by the training split's alphabet, for language models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from millrace import errors
from millrace.models.ops.base import Array, Fitter, Op, State, strings
from millrace.models.signature import ColumnSpec, FeaturizerOp, TensorSpec

UNKNOWN_ID = 0
END_OF_TEXT_ID = 1
FIRST_CHARACTER_ID = 2


class CharTokens(Op):
    """Token ids: 0 a character that training never saw, 1 the end of a text, then the alphabet by code point.

    Arguments:
        max_characters: Size of the alphabet; the rarest characters beyond it are unknown.
    """

    kind = "char_tokens@1"
    suffix = ".json"
    takes = ("text",)
    defaults: ClassVar[dict[str, Any]] = {"max_characters": 1024}

    def __init__(self, spec: FeaturizerOp, state: State) -> None:
        super().__init__(spec, state)
        self._alphabet = np.array([ord(c) for c in state["characters"]], dtype=np.uint32)

    @classmethod
    def fitter(cls, spec: FeaturizerOp, columns: Sequence[ColumnSpec]) -> Fitter:
        return _Alphabet(columns, int(spec.arguments.get("max_characters", cls.defaults["max_characters"])))

    @property
    def vocabulary_size(self) -> int:
        return len(self._alphabet) + FIRST_CHARACTER_ID

    def encode(self, text: str) -> Array:
        """Ids of a text's characters, int64 (len(text),), without an end."""
        points = np.frombuffer(text.encode("utf-32-le", "replace"), dtype=np.uint32)
        if not len(self._alphabet):
            return np.full(len(points), UNKNOWN_ID, dtype=np.int64)
        place = np.searchsorted(self._alphabet, points).clip(max=len(self._alphabet) - 1)
        return np.where(self._alphabet[place] == points, place + FIRST_CHARACTER_ID, UNKNOWN_ID).astype(np.int64)

    def decode(self, ids: Sequence[int] | Array) -> str:
        """The text of ids; an unknown character is U+FFFD, an end of text is nothing."""
        characters = self.state["characters"]
        return "".join(
            "\ufffd" if i == UNKNOWN_ID else "" if i == END_OF_TEXT_ID else characters[i - FIRST_CHARACTER_ID]
            for i in map(int, ids)
        )

    def apply(self, batch: pa.RecordBatch) -> Array:
        """Ids (rows, longest text of the batch), ends after the shorter ones."""
        encoded = [self.encode(text or "") for text in strings(batch, self.spec.columns[0]).to_pylist()]
        out = np.full((len(encoded), max(map(len, encoded), default=0)), END_OF_TEXT_ID, dtype=np.int64)
        for row, ids in zip(out, encoded, strict=True):
            row[: len(ids)] = ids
        return out

    @property
    def tensor(self) -> TensorSpec:
        return TensorSpec(name=self.spec.output, dtype="int64", shape=("batch", "time"))


class _Alphabet:
    def __init__(self, columns: Sequence[ColumnSpec], max_characters: int) -> None:
        if len(columns) != 1:
            raise errors.InvalidSpec(f"char_tokens@1 takes one column, got {len(columns)}.", field="columns")
        self.name = columns[0].name
        self.max_characters = max_characters
        self.counts: Counter[str] = Counter()

    def observe(self, batch: pa.RecordBatch) -> None:
        for text in strings(batch, self.name).drop_null().to_pylist():
            self.counts.update(text)

    def finish(self) -> State:
        ranked = sorted(self.counts, key=lambda c: (-self.counts[c], c))[: self.max_characters]
        return {"characters": "".join(sorted(ranked))}
