"""Architectures against slow references: attention, RoPE, cached decoding, counts and costs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from millrace import errors
from millrace.architectures.arguments import data_bound, parse_arguments
from millrace.architectures.base import Architecture
from millrace.architectures.blocks import SHARPNESS, Block, rms_norm, rope_tables, rotate
from millrace.architectures.gpt import Gpt
from millrace.architectures.mlp import Mlp
from millrace.architectures.registry import build, outline
from millrace.architectures.text_encoder import TextEncoder

CASES: dict[str, dict[str, Any]] = {
    "mlp@1": {"num_inputs": 5, "num_outputs": 3, "width": 8, "residual": True, "norm": "layer", "linear_skip": True},
    "text_encoder@1": {
        "num_outputs": 3, "word_buckets": 50, "char_buckets": 60, "vocabulary": 40, "width": 16, "heads": 2,
        "bag_width": 4,
    },
    "gpt@1": {"num_tokens": 11, "max_context": 12, "layers": 2, "width": 16, "heads": 2},
}  # fmt: skip


def awakened(name: str, **changes: object) -> Architecture:
    """A built module in evaluation mode whose zero-initialised branches are random, so that every path matters."""
    torch.manual_seed(0)
    module = build(name, {**CASES[name], **changes})
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return module.eval()


def test_rms_norm_gives_unit_mean_square() -> None:
    x = torch.randn(3, 7) * 5
    torch.testing.assert_close(rms_norm(x).square().mean(-1), torch.ones(3), rtol=1e-4, atol=1e-4)


def test_rope_turns_each_pair_by_its_angle() -> None:
    x, (cosine, sine) = torch.randn(1, 1, 5, 6), rope_tables(5, 6, device=torch.device("cpu"))
    turned = rotate(x, cosine, sine)
    for position in range(5):
        for pair in range(3):
            angle = position * 10_000 ** (-2 * pair / 6)
            a, b = x[0, 0, position, pair].item(), x[0, 0, position, pair + 3].item()
            assert turned[0, 0, position, pair].item() == pytest.approx(
                a * math.cos(angle) - b * math.sin(angle), abs=1e-5
            )
            assert turned[0, 0, position, pair + 3].item() == pytest.approx(
                a * math.sin(angle) + b * math.cos(angle), abs=1e-5
            )


def test_rope_products_depend_on_distance_alone() -> None:
    q, k = torch.randn(8), torch.randn(8)
    cosine, sine = rope_tables(20, 8, device=torch.device("cpu"))
    product = [rotate(q, cosine[i + 4], sine[i + 4]) @ rotate(k, cosine[i], sine[i]) for i in range(16)]
    torch.testing.assert_close(torch.stack(product), product[0].expand(16), rtol=1e-4, atol=1e-4)


def test_a_block_equals_attention_written_out() -> None:
    torch.manual_seed(1)
    block = Block(width=8, heads=2, dropout=0.0)
    torch.nn.init.normal_(block.attention_out.weight)
    torch.nn.init.normal_(block.down.weight)
    x, rope = torch.randn(1, 4, 8), rope_tables(4, 4, device=torch.device("cpu"))
    with torch.no_grad():
        expected = torch.stack([_slow_block(block, x[0], rope, position) for position in range(4)])
        torch.testing.assert_close(block(x, rope, causal=True)[0][0], expected, rtol=1e-4, atol=1e-4)


def _slow_block(block: Block, x_TD: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor], at: int) -> torch.Tensor:
    q, k, v = (block.qkv(rms_norm(x_TD))[:, i * 8 : (i + 1) * 8].view(4, 2, 4) for i in range(3))
    q, k = rms_norm(q), rms_norm(k)
    mixed = []
    for head in range(2):
        query = rotate(q[at, head], rope[0][at], rope[1][at])
        scores = [float(query @ rotate(k[s, head], rope[0][s], rope[1][s])) * SHARPNESS / 4 for s in range(at + 1)]
        weights = [math.exp(s) / sum(math.exp(o) for o in scores) for s in scores]
        mixed.append(sum((w * v[s, head] for s, w in enumerate(weights)), torch.zeros(4)))
    x = x_TD[at] + block.attention_out.weight @ torch.cat(mixed)
    return x + block.down.weight @ torch.relu(block.up.weight @ rms_norm(x)).square()


def test_decoding_with_the_cache_equals_the_whole_forward() -> None:
    gpt = awakened("gpt@1")
    assert isinstance(gpt, Gpt)
    tokens = torch.randint(0, 11, (2, 10))
    whole = gpt.whole(tokens)
    prefill, cache = gpt(tokens[:, :4], torch.zeros(2, 2, 2, 2, 0, 8))
    parts = [prefill]
    for position in range(4, 10):
        logits, cache = gpt(tokens[:, position : position + 1], cache)
        parts.append(logits)
    assert cache.shape == (2, 2, 2, 2, 10, 8)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-4)


def test_the_cache_may_lose_its_oldest_tokens() -> None:
    gpt = awakened("gpt@1", layers=1)
    assert isinstance(gpt, Gpt)
    tokens = torch.randint(0, 11, (1, 9))
    _, cache = gpt(tokens[:, :8], torch.zeros(1, 2, 1, 2, 0, 8))
    cut, _ = gpt(tokens[:, 8:], cache[..., 3:, :])
    fresh = gpt.whole(tokens[:, 3:])[:, -1:]
    torch.testing.assert_close(cut, fresh, rtol=1e-4, atol=1e-4)


def test_gpt_does_not_see_the_future() -> None:
    gpt = awakened("gpt@1")
    assert isinstance(gpt, Gpt)
    tokens = torch.randint(0, 11, (1, 8))
    changed = tokens.clone()
    changed[0, 5:] = (changed[0, 5:] + 1) % 11
    torch.testing.assert_close(gpt.whole(tokens)[:, :5], gpt.whole(changed)[:, :5])


def test_padding_changes_no_text() -> None:
    encoder = awakened("text_encoder@1")
    ids = [torch.randint(1, 40, (2, 6)) for _ in range(3)]
    padded = [torch.cat((i, torch.zeros(2, 5, dtype=torch.int64)), dim=1) for i in ids]
    torch.testing.assert_close(encoder(*ids), encoder(*padded), rtol=1e-4, atol=1e-5)


def test_an_empty_text_has_finite_logits() -> None:
    assert torch.isfinite(awakened("text_encoder@1")(*[torch.zeros(1, 3, dtype=torch.int64)] * 3)).all()


def test_the_bag_in_training_equals_the_bag_in_the_program() -> None:
    encoder = awakened("text_encoder@1", dropout=0.0)
    ids = [torch.randint(0, 40, (4, 7)) for _ in range(3)]
    torch.testing.assert_close(encoder.train()(*ids), encoder.eval()(*ids), rtol=1e-4, atol=1e-5)


def test_the_linear_path_is_tf_idf() -> None:
    encoder = awakened("text_encoder@1", layers=0, bag_width=0)
    assert isinstance(encoder, TextEncoder)
    counts = torch.arange(50)
    encoder.word_bag.weigh(counts, num_documents=60)
    word, char = torch.tensor([[3, 17, 0]]), torch.tensor([[0, 0]])
    idf = [math.log(61 / (1 + n)) + 1 for n in (3, 17)]
    norm = math.sqrt(sum(w * w for w in idf))
    assert encoder.word_bag.linear is not None
    table = encoder.word_bag.linear.weight
    expected = encoder.bias + table[3] * (idf[0] / norm) + table[17] * (idf[1] / norm)
    torch.testing.assert_close(encoder(word, char)[0], expected)


def test_rescaled_outputs_are_an_affine_map() -> None:
    mlp = awakened("mlp@1")
    assert isinstance(mlp, Mlp)
    x = torch.randn(4, 5)
    before = mlp(x)
    mlp.rescale_outputs(scale=3.0, shift=-2.0)
    torch.testing.assert_close(mlp(x), before * 3 - 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mlp@1", (5 * 8 + 8) + (8 * 8 + 8) + 2 * 16 + (8 * 3 + 3) + 5 * 3),
        ("text_encoder@1", (50 + 60) * (3 + 4) + 3 + 4 * 3 + 40 * 16 + 12 * 16 * 16 + 16 * 3),
        ("gpt@1", 11 * 16 + 2 * 12 * 16 * 16 + 11 * 16),
    ],
)
def test_parameter_counts(name: str, expected: int) -> None:
    assert build(name, CASES[name]).num_parameters() == outline(name, CASES[name]).num_parameters() == expected


@pytest.mark.parametrize("name", ["mlp@1", "gpt@1"])
def test_flops_equal_those_counted(name: str) -> None:
    module = build(name, CASES[name])
    sizes = {"batch": 1, "time": 12, "past": 0}
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module.eval()(*(t.example(sizes) for t in module.inputs))
    assert module.flops_per_example() == counter.get_total_flops()


def test_the_text_encoders_flops_are_those_counted_but_for_the_bags() -> None:
    encoder = build("text_encoder@1", CASES["text_encoder@1"]).eval()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder(*[torch.ones(1, 128, dtype=torch.int64)] * 3)
    assert encoder.flops_per_example() == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_hidden_matrices_are_those_between_layers() -> None:
    assert build("mlp@1", CASES["mlp@1"]).hidden_matrices() == {"hidden.0.weight", "hidden.1.weight"}
    assert not any("embedding" in n or n.startswith("head") for n in build("gpt@1", CASES["gpt@1"]).hidden_matrices())


def test_an_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(errors.InvalidSpec, match="did you mean 'gpt@1'"):
        build("gtp@1", {})


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"layer": 2}, "arguments.layer: .*did you mean 'layers'"),
        ({"width": 30, "heads": 4}, "even whole number"),
        ({"layers": "many"}, "arguments.layers"),
    ],
)
def test_a_wrong_argument_is_named(values: dict[str, object], match: str) -> None:
    with pytest.raises(errors.InvalidSpec, match=match):
        parse_arguments("gpt@1", {"num_tokens": 10, **values})


def test_arguments_without_a_default_follow_from_the_data() -> None:
    assert data_bound("mlp@1") == {"num_inputs", "num_outputs"}
    assert data_bound("gpt@1") == {"num_tokens"}
