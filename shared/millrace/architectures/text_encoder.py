"""`text_encoder@1`: three readers of one text, whose logits add up.

A linear model on n-grams weighted by rarity (what TF-IDF with logistic regression is), a small network on their mean
embedding, and a Transformer over the words in order. On a few thousand texts n-grams beat a Transformer alone by ten
points, and a Transformer adds what order says; so the linear part learns fast and the others start silent.

Shape suffixes: B batch, S n-gram slots, T words, V buckets, W bag width, D Transformer width, C outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from millrace.architectures.arguments import TextEncoderArguments
from millrace.architectures.base import Architecture, ProgramTensor
from millrace.architectures.blocks import Block, block_flops, linear, rms_norm, rope_tables

PADDING = 0
TYPICAL_LENGTH = 128
"""Words and n-gram slots are counted as this many where a cost is estimated: texts have no fixed length."""


class TextEncoder(Architecture):
    """`word_ngrams`, `char_ngrams`, `words`, each (batch, any) int64, 0 as padding, to `logits` (batch, outputs)."""

    name = "text_encoder@1"

    def __init__(self, arguments: TextEncoderArguments) -> None:
        super().__init__()
        self._arguments = a = arguments
        self.word_bag = Bag(a.word_buckets, a.num_outputs if a.linear_skip else 0, a.bag_width)
        self.char_bag = Bag(a.char_buckets, a.num_outputs if a.linear_skip else 0, a.bag_width)
        self.bias = nn.Parameter(torch.zeros(a.num_outputs))
        self.bag_head = linear(a.bag_width, a.num_outputs, zero=True) if a.bag_width else None
        if a.layers:
            self.embedding = nn.Embedding(a.vocabulary, a.width)
            nn.init.normal_(self.embedding.weight)
            self.blocks = nn.ModuleList(Block(width=a.width, heads=a.heads, dropout=a.dropout) for _ in range(a.layers))
            self.words_head = linear(a.width, a.num_outputs, zero=True)

    @property
    def arguments(self) -> TextEncoderArguments:
        return self._arguments

    @property
    def reads_ngrams(self) -> bool:
        return self._arguments.linear_skip or self._arguments.bag_width > 0

    @property
    def inputs(self) -> tuple[ProgramTensor, ...]:
        bags = ("word_ngrams", "char_ngrams") if self.reads_ngrams else ()
        names = (*bags, "words") if self._arguments.layers else bags
        return tuple(ProgramTensor(name, "int64", ("batch", f"num_{name}")) for name in names)

    @property
    def outputs(self) -> tuple[ProgramTensor, ...]:
        return (ProgramTensor("logits", "float32", ("batch", self._arguments.num_outputs)),)

    def forward(self, *ids_BS: Tensor) -> Tensor:
        a = self._arguments
        logits_BC: Tensor = self.bias
        if self.reads_ngrams:
            (linear_word, mean_word), (linear_char, mean_char) = self.word_bag(ids_BS[0]), self.char_bag(ids_BS[1])
            logits_BC = logits_BC + linear_word + linear_char
            if self.bag_head is not None:
                hidden_BW = F.dropout(F.relu(rms_norm(mean_word + mean_char)), a.dropout, self.training)
                logits_BC = logits_BC + self.bag_head(hidden_BW)
        if a.layers:
            logits_BC = logits_BC + self._read_in_order(ids_BS[-1])
        return logits_BC

    def _read_in_order(self, words_BT: Tensor) -> Tensor:
        a = self._arguments
        present_BT = words_BT != PADDING
        rope = rope_tables(words_BT.shape[1], a.width // a.heads, device=words_BT.device)
        # A text without words would have nothing to attend to, which is NaN: it may look at its padding.
        mask = (present_BT | ~present_BT.any(dim=1, keepdim=True))[:, None, None, :]
        x_BTD = F.dropout(rms_norm(self.embedding(words_BT)), a.dropout, self.training)
        for block in self.blocks:
            x_BTD, _ = block(x_BTD, rope, mask=mask)
        weight_BT1 = present_BT.to(x_BTD.dtype)[..., None]
        mean_BD = (rms_norm(x_BTD) * weight_BT1).sum(dim=1) / weight_BT1.sum(dim=1).clamp(min=1.0)
        logits_BC: Tensor = self.words_head(F.dropout(mean_BD, a.dropout, self.training))
        return logits_BC

    def learning_rate_scale(self, parameter: str) -> float:
        """The linear tables see each n-gram rarely and are convex: they take 30 times the Transformer's rate."""
        if parameter.endswith("bag.linear.weight"):
            return 30.0
        return 3.0 if parameter.endswith("bag.mean.weight") else 1.0

    def flops_per_example(self) -> int:
        """At TYPICAL_LENGTH words and n-grams of each sort."""
        a, length = self._arguments, TYPICAL_LENGTH
        flops = 2 * 2 * length * (a.num_outputs * a.linear_skip + a.bag_width) + 2 * a.bag_width * a.num_outputs
        if a.layers:
            flops += a.layers * block_flops(width=a.width, time=length) + 2 * a.width * a.num_outputs
        return flops

    def activations_per_example(self) -> int:
        a = self._arguments
        return TYPICAL_LENGTH * (4 * (a.num_outputs + a.bag_width) + a.layers * 24 * a.width)


class Bag(nn.Module):
    """The weighted sum of n-grams' embeddings; a text's weights are made one long, as TF-IDF vectors are."""

    rarity: Tensor

    def __init__(self, num_buckets: int, num_outputs: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rarity", torch.ones(num_buckets))
        self.linear = nn.Embedding(num_buckets, num_outputs) if num_outputs else None
        self.mean = nn.Embedding(num_buckets, width) if width else None
        if self.linear is not None:
            nn.init.zeros_(self.linear.weight)
        if self.mean is not None:
            nn.init.normal_(self.mean.weight)

    def weigh(self, document_counts_V: Tensor, *, num_documents: int) -> None:
        """Set each n-gram's weight to its smoothed inverse document frequency, as counted on the training split."""
        self.rarity.copy_(torch.log((1 + num_documents) / (1 + document_counts_V.double())) + 1)

    def forward(self, ids_BS: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Sums (B, C) of the linear model and (B, W) of the embedding, 0.0 for one that is off.

        Each n-gram of a text should stand in it once.
        """
        weight_BS = torch.where(ids_BS == PADDING, 0.0, self.rarity[ids_BS])
        weight_BS = weight_BS * torch.rsqrt(weight_BS.square().sum(dim=1, keepdim=True).clamp(min=1e-12))
        return self._sum(self.linear, ids_BS, weight_BS), self._sum(self.mean, ids_BS, weight_BS)

    def _sum(self, table: nn.Embedding | None, ids_BS: Tensor, weight_BS: Tensor) -> Tensor | float:
        if table is None:
            return 0.0
        if self.training:  # fused and several times faster; its ONNX form is a loop, so the program has the product
            return F.embedding_bag(ids_BS, table.weight, per_sample_weights=weight_BS, mode="sum")
        sum_BW: Tensor = (weight_BS[:, None, :] @ table(ids_BS)).squeeze(1)
        return sum_BW
