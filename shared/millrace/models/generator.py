"""Generators: language models that continue a text, with an explicit cache.

Shapes: L layers, B texts, H heads, T new tokens, P tokens already in the cache, D head size, V vocabulary.

The program, as training exports it: `tokens` int64 (B, T) and `cache` float32 (L, 2, B, H, P, D) in, where P may be 0;
`logits` float32 (B, T, V) and `cache_out` float32 (L, 2, B, H, P + T, D) out. Token t stands at position P + t. At most
`arguments["max_context"]` tokens fit; when generation reaches the limit, the last half of them is prefilled again into
an empty cache. So positions never exceed what training saw, and a token costs one step and a small share of a prefill.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from millrace import errors
from millrace.models.featurizers import load_ops
from millrace.models.ops.base import Array, strings
from millrace.models.ops.tokens import END_OF_TEXT_ID, UNKNOWN_ID, CharTokens
from millrace.models.package import read_card
from millrace.models.program import Executable, choose_program, open_program
from millrace.models.rows import check_batch
from millrace.models.signature import ModelCard
from millrace.models.table_predictor import softmax


class Generator:
    """A loaded language model. Safe to call from several threads: the caller holds the cache.

    Attributes:
        tokenizer: Text to tokens and back.
        max_context: The most tokens that logits may depend on.
    """

    def __init__(self, card: ModelCard, directory: Path, executable: Executable) -> None:
        ops = load_ops(card.signature.featurizer, directory)
        cache = next((t.shape for t in card.signature.program_inputs if t.name == "cache"), ())
        fixed = [cache[i] for i in (0, 3, 5)] if len(cache) == 6 else []
        if len(ops) != 1 or not isinstance(ops[0], CharTokens) or not all(isinstance(n, int) for n in fixed or [""]):
            raise errors.InvalidData(
                "The model is not a language model: expected the operation char_tokens@1 and an input `cache` of shape "
                "(layers, 2, batch, heads, past, head size).",
                field="signature",
            )
        length = card.arguments.get("max_context")
        if not isinstance(length, int) or length < 2:
            raise errors.InvalidData(
                f"Expected a whole number of at least 2, found {length!r}.", field="arguments.max_context"
            )
        self.card = card
        self.tokenizer = ops[0]
        self.max_context = length
        self._layers, self._heads, self._head_size = (int(n) for n in fixed)
        self.executable = executable

    def empty_cache(self, num_texts: int = 1) -> Array:
        """A cache of no tokens, (L, 2, B, H, 0, D)."""
        return np.zeros((self._layers, 2, num_texts, self._heads, 0, self._head_size), dtype=np.float32)

    def prefill(self, tokens_BT: Array) -> tuple[Array, Array]:
        """Logits (B, T, V) of every position, and the cache; T is at most `max_context`."""
        return self.decode(tokens_BT, self.empty_cache(len(tokens_BT)))

    def decode(self, tokens_BT: Array, cache: Array) -> tuple[Array, Array]:
        """Logits (B, T, V) of tokens that follow those in the cache, and the grown cache."""
        assert cache.shape[4] + tokens_BT.shape[1] <= self.max_context
        out = self.executable.run({"tokens": tokens_BT, "cache": cache})
        return out["logits"], out["cache_out"]

    def generate(
        self, prompt: str, *, max_tokens: int = 128, temperature: float = 0.8, top_k: int = 0, seed: int = 0
    ) -> Iterator[str]:
        """Continue a text, token by token, until the model ends it or `max_tokens` are made.

        Args:
            prompt: Where to start; taken as the beginning of a text. Only its end counts if it exceeds the context.
            temperature: 0 always takes the likeliest token.
            top_k: Sample among this many likeliest tokens; 0 means all.
            seed: Equal seeds give equal texts on equal CPUs.

        Yields:
            The text of one token each.
        """
        random = np.random.default_rng(seed)
        tokens = [END_OF_TEXT_ID, *self.tokenizer.encode(prompt).tolist()]
        keep = max(self.max_context // 2, 1)
        window = tokens[-(self.max_context - 1) :]
        logits, cache = self.prefill(np.array([window], dtype=np.int64))
        for _ in range(max_tokens):
            token = sample(logits[0, -1], temperature=temperature, top_k=top_k, random=random)
            if token == END_OF_TEXT_ID:
                return
            yield self.tokenizer.decode([token])
            tokens.append(token)
            if cache.shape[4] >= self.max_context:
                logits, cache = self.prefill(np.array([tokens[-keep:]], dtype=np.int64))
            else:
                logits, cache = self.decode(np.array([[token]], dtype=np.int64), cache)

    def predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Logits of the token that follows each text, as `logits` (list<float>)."""
        check_batch(batch, self.card.signature)
        rows = []
        for text in strings(batch, self.tokenizer.spec.columns[0]).to_pylist():
            tokens = np.concatenate([[END_OF_TEXT_ID], self.tokenizer.encode(text or "")])[-self.max_context :]
            rows.append(self.prefill(tokens[None])[0][0, -1].astype(np.float32))
        return pa.RecordBatch.from_arrays([pa.array(rows, pa.list_(pa.float32()))], names=["logits"])


def load_generator(directory: Path, *, program: str = "", num_threads: int = 1) -> Generator:
    """Load a language model.

    Raises:
        InvalidData: The package is broken.
        InvalidInput: It is not a language model, or its runtime is not installed.
    """
    card = read_card(directory)
    if card.task != "language_modelling":
        raise errors.InvalidInput(
            f"The model's task is {card.task}; only language models generate text.", remedy="Use predict."
        )
    executable = open_program(directory, choose_program(card, program), num_threads=num_threads)
    return Generator(card, directory, executable)


def sample(logits_V: Array, *, temperature: float, top_k: int, random: np.random.Generator) -> int:
    """Draw a token. Never the unknown character: it has no text."""
    scores = logits_V.astype(np.float64)
    scores[UNKNOWN_ID] = -np.inf
    if temperature == 0 or top_k == 1:
        return int(scores.argmax())
    if 0 < top_k < len(scores):
        scores[scores < np.partition(scores, -top_k)[-top_k]] = -np.inf
    return int(random.choice(len(scores), p=softmax((scores - scores.max()) / temperature)))
