"""The Transformer block that `gpt@1` and `text_encoder@1` share: pre-RMSNorm, QK-norm, RoPE, ReLU^2.

Shape suffixes: B batch, T time (new positions), S past + time, D width, H heads, E head width, F hidden.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROPE_BASE = 10_000.0
EPSILON = 1e-6
SHARPNESS = 16.0
"""Normed queries and keys have products up to their width; scaled to this, even a narrow head can look sharply.

The usual 1/sqrt(width) makes it 5.7 for heads of 32; 12 saved 0.17 bits per character on pydoc_data.topics over that, 16
a little more, 24 lost some again."""


def rms_norm(x: Tensor) -> Tensor:
    """Scale the last dimension to a root mean square of 1. Without a gain: the next matrix has one (Zhang 2019)."""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + EPSILON)


def rope_tables(length: int, head_width: int, *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (length, head_width / 2) of positions 0 to length - 1 (Su et al. 2021).

    Computed, not stored: `length` may be a traced dimension of an exported program.
    """
    rates = torch.exp(torch.arange(0, head_width, 2, device=device) * (-math.log(ROPE_BASE) / head_width))
    angles = torch.arange(length, device=device)[:, None] * rates
    return torch.cos(angles), torch.sin(angles)


def rotate(x_BHSE: Tensor, cosine_SE: Tensor, sine_SE: Tensor) -> Tensor:
    """Turn each pair (i, i + E/2) by its position's angle."""
    left, right = x_BHSE.chunk(2, dim=-1)
    return torch.cat((left * cosine_SE - right * sine_SE, left * sine_SE + right * cosine_SE), dim=-1)


def linear(num_in: int, num_out: int, *, zero: bool = False) -> nn.Linear:
    """A matrix without bias: uniform of deviation 1/sqrt(num_in), or zero where a branch should start silent."""
    layer = nn.Linear(num_in, num_out, bias=False)
    bound = math.sqrt(3 / num_in)
    if zero:
        nn.init.zeros_(layer.weight)
    else:
        nn.init.uniform_(layer.weight, -bound, bound)
    return layer


class Block(nn.Module):
    """Attention, then a ReLU^2 network, each added to the stream."""

    def __init__(self, *, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = linear(width, 3 * width)
        self.attention_out = linear(width, width, zero=True)
        self.up = linear(width, 4 * width)
        self.down = linear(4 * width, width, zero=True)

    def forward(
        self,
        x_BTD: Tensor,
        rope: tuple[Tensor, Tensor],
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        past_2BHSE: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the new stream and this layer's keys and values, past included.

        Args:
            x_BTD: The stream.
            rope: Tables for all S positions; queries are the last T of them.
            mask: Broadcast to (B, H, T, S); True where attention may look.
            causal: Instead of a mask when there is no past, for the fused kernel.
            past_2BHSE: Keys and values of earlier positions. Keys are kept *before* rotation: a position is an index
                into what is kept, so a window may drop its oldest tokens.
        """
        B, T, D = x_BTD.shape
        q, k, v = self.qkv(rms_norm(x_BTD)).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = rms_norm(q), rms_norm(k)
        if past_2BHSE is not None:
            k, v = torch.cat((past_2BHSE[0], k), dim=2), torch.cat((past_2BHSE[1], v), dim=2)
        cosine, sine = rope
        q = rotate(q, cosine[-T:], sine[-T:])
        mixed = F.scaled_dot_product_attention(
            q, rotate(k, cosine, sine), v, attn_mask=mask, is_causal=causal,
            dropout_p=self.dropout if self.training else 0.0, scale=SHARPNESS / (D // self.heads),
        )  # fmt: skip
        x_BTD = x_BTD + self._drop(self.attention_out(mixed.transpose(1, 2).reshape(B, T, D)))
        x_BTD = x_BTD + self._drop(self.down(F.relu(self.up(rms_norm(x_BTD))).square()))
        return x_BTD, torch.stack((k, v))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


def block_flops(*, width: int, time: int) -> int:
    """Of one block over `time` positions: 12 squares of width (qkv 3, out 1, up 4, down 4), two products with T x T."""
    return 2 * time * 12 * width * width + 4 * time * time * width
