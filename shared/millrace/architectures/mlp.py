"""`mlp@1`: a feed-forward network for tables and flattened images.

Shape suffixes: B batch, N inputs, W width, C outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from millrace.architectures.arguments import MlpArguments
from millrace.architectures.base import Architecture, ProgramTensor

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}


class Mlp(Architecture):
    """`features` (batch, inputs) to `logits` (batch, outputs); for regression the logit is the value."""

    name = "mlp@1"

    def __init__(self, arguments: MlpArguments) -> None:
        super().__init__()
        self._arguments = a = arguments
        sizes = [a.num_inputs] + [a.width] * a.depth
        self.hidden = nn.ModuleList(_he(nn.Linear(i, o)) for i, o in pairwise(sizes))
        self.norms = nn.ModuleList(nn.LayerNorm(a.width) for _ in range(a.depth if a.norm == "layer" else 0))
        self.head = nn.Linear(sizes[-1], a.num_outputs)
        self.skip = nn.Linear(a.num_inputs, a.num_outputs, bias=False) if a.linear_skip and a.depth else None

    @property
    def arguments(self) -> MlpArguments:
        return self._arguments

    @property
    def inputs(self) -> tuple[ProgramTensor, ...]:
        return (ProgramTensor("features", "float32", ("batch", self._arguments.num_inputs)),)

    @property
    def outputs(self) -> tuple[ProgramTensor, ...]:
        return (ProgramTensor("logits", "float32", ("batch", self._arguments.num_outputs)),)

    def forward(self, features_BN: Tensor) -> Tensor:
        a, x = self._arguments, features_BN
        for i, layer in enumerate(self.hidden):
            h_BW = layer(x)
            if a.norm == "layer":
                h_BW = self.norms[i](h_BW)
            h_BW = F.dropout(_ACTIVATIONS[a.activation](h_BW), a.dropout, self.training)
            x = x + h_BW if a.residual and i else h_BW
        logits_BC: Tensor = self.head(x)
        return logits_BC if self.skip is None else logits_BC + self.skip(features_BN)

    @torch.no_grad()
    def rescale_outputs(self, *, scale: float, shift: float) -> None:
        """Make every output `scale * output + shift`: a model trained on a standardized target answers in its unit."""
        self.head.weight.mul_(scale)
        self.head.bias.mul_(scale).add_(shift)
        if self.skip is not None:
            self.skip.weight.mul_(scale)

    def flops_per_example(self) -> int:
        return sum(2 * m.weight.numel() for m in self.modules() if isinstance(m, nn.Linear))

    def activations_per_example(self) -> int:
        a = self._arguments
        return a.num_inputs + 4 * a.width * a.depth + 2 * a.num_outputs


def _he(layer: nn.Linear) -> nn.Linear:
    nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.in_features))
    nn.init.zeros_(layer.bias)
    return layer
