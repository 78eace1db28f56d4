"""`gpt@1`: a decoder-only Transformer with an explicit key-value cache.

RoPE, QK-norm, ReLU^2 and norms without gains, after modded-nanogpt; training with Muon is what they were chosen for.
Shape suffixes: B batch, T time (new tokens), P past, S = P + T, D width, H heads, E head width, V vocabulary, L layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from millrace.architectures.arguments import GptArguments
from millrace.architectures.base import Architecture, ProgramTensor
from millrace.architectures.blocks import Block, block_flops, linear, rms_norm, rope_tables

_RATES = {"embedding.weight": 40.0, "head.weight": 10.0}
"""Learning rates of the ends, against the middle's: each token's rows are touched rarely, and their scale is normed away."""


class Gpt(Architecture):
    """`tokens` and `cache` to `logits` and `cache_out`. Positions continue from the cache's length."""

    name = "gpt@1"

    def __init__(self, arguments: GptArguments) -> None:
        super().__init__()
        self._arguments = a = arguments
        self.embedding = nn.Embedding(a.num_tokens, a.width)
        nn.init.normal_(self.embedding.weight, std=1.0 if not a.tied else a.width**-0.5)
        self.blocks = nn.ModuleList(Block(width=a.width, heads=a.heads, dropout=a.dropout) for _ in range(a.layers))
        self.head = None if a.tied else linear(a.width, a.num_tokens, zero=True)

    @property
    def arguments(self) -> GptArguments:
        return self._arguments

    @property
    def inputs(self) -> tuple[ProgramTensor, ...]:
        return ProgramTensor("tokens", "int64", ("batch", "time")), self._cache("cache", "past")

    @property
    def outputs(self) -> tuple[ProgramTensor, ...]:
        logits = ProgramTensor("logits", "float32", ("batch", "time", self._arguments.num_tokens))
        return logits, self._cache("cache_out", "total")

    def _cache(self, name: str, length: str) -> ProgramTensor:
        a = self._arguments
        return ProgramTensor(name, "float32", (a.layers, 2, "batch", a.heads, length, a.width // a.heads))

    def forward(self, tokens_BT: Tensor, cache_L2BHPE: Tensor) -> tuple[Tensor, Tensor]:
        """Read T new tokens after P cached ones; the exported program. An empty cache (P = 0) starts a text."""
        T, P = tokens_BT.shape[1], cache_L2BHPE.shape[4]
        rope = self._rope(P + T, tokens_BT.device)
        keys_S = torch.arange(P + T, device=tokens_BT.device)
        mask_TS = keys_S[None, :] <= keys_S[-T:, None]
        x_BTD = self._embed(tokens_BT)
        caches = []
        for i, block in enumerate(self.blocks):
            x_BTD, cache = block(x_BTD, rope, mask=mask_TS, past_2BHSE=cache_L2BHPE[i])
            caches.append(cache)
        return self._logits(x_BTD), torch.stack(caches)

    def whole(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, T, V) of whole sequences, by the fused causal kernel and without a cache: for training."""
        rope = self._rope(tokens_BT.shape[1], tokens_BT.device)
        x_BTD = F.dropout(self._embed(tokens_BT), self._arguments.dropout, self.training)
        for block in self.blocks:
            x_BTD, _ = block(x_BTD, rope, causal=True)
        return self._logits(x_BTD)

    def _rope(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        return rope_tables(length, self._arguments.width // self._arguments.heads, device=device)

    def _embed(self, tokens_BT: Tensor) -> Tensor:
        return rms_norm(self.embedding(tokens_BT))

    def _logits(self, x_BTD: Tensor) -> Tensor:
        weight_VD = self.embedding.weight if self.head is None else self.head.weight
        return F.linear(rms_norm(x_BTD), weight_VD)

    def learning_rate_scale(self, parameter: str) -> float:
        """What reads or makes normed vectors needs large steps; an embedding that is both would not bear them."""
        return 1.0 if self._arguments.tied else _RATES.get(parameter, 1.0)

    def flops_per_example(self) -> int:
        """Of one sequence of `max_context` tokens, the upper triangle of attention counted too."""
        a = self._arguments
        return a.layers * block_flops(width=a.width, time=a.max_context) + 2 * a.max_context * a.width * a.num_tokens

    def activations_per_example(self) -> int:
        a = self._arguments
        return a.max_context * (a.layers * 24 * a.width + 2 * a.num_tokens)
