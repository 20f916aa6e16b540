from __future__ import annotations

import itertools

import msgspec
import pytest
import torch

from appliance_models.indictrans2 import config
from appliance_models.indictrans2.model import IndicTrans, Positions, sinusoids

from .conftest import TINY, random_model

SMALL = msgspec.structs.replace(TINY, encoder_vocab_size=60, decoder_vocab_size=50)


def test_sinusoids_are_tensor2tensor_s() -> None:
    table = sinusoids(5, 8)
    assert table[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    # The slowest rate is 1/10000 at the last of the half, not before it.
    assert table[3, 3].item() == pytest.approx(torch.sin(torch.tensor(3 / 10000)).item())
    assert table[3, 0].item() == pytest.approx(torch.sin(torch.tensor(3.0)).item())


def test_positions_count_tokens_and_not_columns() -> None:
    positions = Positions(10, 8, pad=1)
    padded = positions(torch.tensor([[1, 1, 7, 8]]))
    assert torch.equal(padded[0, 2:], positions(torch.tensor([[7, 8]]))[0])
    assert torch.equal(padded[0, :2], torch.zeros(2, 8))
    # The first token has row pad + 1.
    assert torch.equal(padded[0, 2], sinusoids(3, 8)[2])


def test_a_sentence_longer_than_the_positions_is_an_error() -> None:
    with pytest.raises(ValueError, match="12 tokens is longer"):
        Positions(10, 8, pad=1)(torch.full((1, 12), 5))


@pytest.mark.parametrize(("before", "embedding_norm", "tied"), [*itertools.product([True, False], repeat=3)])
def test_padding_changes_nothing(before: bool, embedding_norm: bool, tied: bool) -> None:
    model = random_model(
        msgspec.structs.replace(
            SMALL,
            encoder_normalize_before=before,
            decoder_normalize_before=before,
            layernorm_embedding=embedding_norm,
            share_decoder_input_output_embed=tied,
        )
    )
    target = torch.tensor([[2, 9, 10]])
    alone = model(torch.tensor([[7, 8, 9, 2]]), target)
    padded = model(torch.tensor([[1, 1, 1, 7, 8, 9, 2], [5, 6, 7, 8, 9, 10, 2]]), target.repeat(2, 1))
    torch.testing.assert_close(padded[:1], alone, rtol=1e-4, atol=1e-4)


def test_the_cache_gives_the_same_logits_as_the_whole() -> None:
    model = random_model(SMALL)
    source, target = torch.tensor([[1, 7, 8, 2], [5, 6, 9, 2]]), torch.tensor([[2, 9, 10, 11], [2, 12, 13, 14]])
    whole = model(source, target)
    memory, mask = model.encode(source)
    cache = model.new_cache()
    steps = [model.decode(target[:, i : i + 1], memory, mask, cache) for i in range(4)]
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=1e-4, atol=1e-4)


def test_the_decoder_sees_no_future() -> None:
    model = random_model(SMALL)
    source = torch.tensor([[7, 8, 2]])
    one, two = (model(source, torch.tensor([[2, 9, last]])) for last in (10, 20))
    torch.testing.assert_close(one[:, :2], two[:, :2])


def test_parameter_names_are_the_published_ones() -> None:
    names = set(IndicTrans(SMALL).state_dict())
    layer = {
        f"{part}.{kind}"
        for part in (
            *(f"self_attn.{p}_proj" for p in ("k", "v", "q", "out")),
            *("self_attn_layer_norm", "fc1", "fc2", "final_layer_norm"),
        )
        for kind in ("weight", "bias")
    }
    cross = {f"encoder_attn.{p}_proj.{kind}" for p in ("k", "v", "q", "out") for kind in ("weight", "bias")}
    cross |= {f"encoder_attn_layer_norm.{kind}" for kind in ("weight", "bias")}
    expected = {"lm_head.weight"}
    for side, layers, extra in (("encoder", 3, set()), ("decoder", 2, cross)):
        expected |= {f"model.{side}.embed_tokens.weight"}
        norms = ("layer_norm", "layernorm_embedding")
        expected |= {f"model.{side}.{norm}.{k}" for norm in norms for k in ("weight", "bias")}
        expected |= {f"model.{side}.layers.{i}.{name}" for i in range(layers) for name in layer | extra}
    assert names == expected


@pytest.mark.parametrize(
    ("shape", "millions"),
    [
        # The six published checkpoints; where the reference gives a count, it is this one.
        ((1024, 8192, 16, False, False, 32322, 122672), 1116),
        ((1024, 8192, 16, False, False, 122706, 32296), 1023),
        ((1024, 8192, 16, False, False, 122706, 122672), 1209),
        ((512, 2048, 8, True, True, 32322, 122672), 212),
        ((512, 2048, 8, True, False, 122706, 32296), 228),
        ((512, 2048, 8, True, False, 122706, 122672), 321),
    ],
)
def test_the_six_published_sizes(shape: tuple[int, int, int, bool, bool, int, int], millions: int) -> None:
    width, hidden, heads, embedding_norm, tied, source, target = shape
    c = config.Config(
        encoder_vocab_size=source, decoder_vocab_size=target, encoder_embed_dim=width, decoder_embed_dim=width,
        encoder_layers=18, decoder_layers=18, encoder_ffn_dim=hidden, decoder_ffn_dim=hidden,
        encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_normalize_before=True,
        decoder_normalize_before=True, layernorm_embedding=embedding_norm, scale_embedding=True,
        share_decoder_input_output_embed=tied, activation_function="gelu", max_source_positions=256,
        max_target_positions=256,
    )  # fmt: skip
    with torch.device("meta"):
        model = IndicTrans(c)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == pytest.approx(millions, abs=1)
