from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from appliance_models.indictrans2 import checkpoint, convert, dequantize
from appliance_models.indictrans2.config import CheckpointError
from appliance_models.indictrans2.generate import translate_ids
from appliance_models.indictrans2.processor import prepare
from appliance_models.indictrans2.tokenizer import Tokenizer

from .conftest import Checkpoint

ROOT = Path(__file__).resolve().parents[3]
EMBEDDED = ROOT / "models/appliance_models/embedded/indictrans2-embedded"
# PARITY_SENTENCES=500 takes four minutes; the figures in docs/indictrans2.md come from it
SENTENCES = int(os.environ.get("PARITY_SENTENCES", "32"))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("before", [True, False])
def test_float32_comes_back_as_it_was(make_checkpoint: Checkpoint, tied: bool, before: bool) -> None:
    directory = make_checkpoint(
        share_decoder_input_output_embed=tied,
        encoder_normalize_before=before,
        layernorm_embedding=not before,
        scale_embedding=before,
        activation_function="gelu" if tied else "relu",
    )
    convert.convert(directory, directory / "ct2", "float32")
    wanted, back = checkpoint.load(directory), dequantize.load(directory / "ct2")
    assert back.config == wanted.config
    assert back.state_dict().keys() == wanted.state_dict().keys()
    for name, tensor in wanted.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], tensor, rtol=0, atol=0)


def test_int8_comes_back_within_half_a_step(make_checkpoint: Checkpoint) -> None:
    directory = make_checkpoint()
    convert.convert(directory, directory / "ct2", "int8")
    wanted, back = checkpoint.load(directory), dequantize.load(directory / "ct2")
    for name in ("model.encoder.layers.0.self_attn.v_proj.weight", "model.decoder.layers.1.encoder_attn.k_proj.weight"):
        full, rounded = wanted.state_dict()[name], back.state_dict()[name]
        steps = full.abs().amax(1, keepdim=True) / 127
        assert not torch.equal(full, rounded)
        assert ((full - rounded).abs() <= 0.51 * steps).all()


def test_the_official_layout_is_written_and_loads(make_checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = make_checkpoint()
    convert.convert(directory, directory / "ct2", "float32")
    assert dequantize.main([str(directory / "ct2"), str(tmp_path / "out")]) == 0
    line = "eng_Latn hin_Deva open close file"
    found = [
        translate_ids(checkpoint.load(d), [Tokenizer(d).source_ids(line)], 5, 12)[0].ids
        for d in (directory, tmp_path / "out")
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("cut", [3, 200, -5])
def test_what_is_no_model_is_one_sentence(
    make_checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str], tmp_path: Path, cut: int
) -> None:
    directory = make_checkpoint()
    convert.convert(directory, directory / "ct2", "float32")
    model = directory / "ct2" / "model.bin"
    model.write_bytes(model.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match=r"model\.bin cannot be read .*convert the model again"):
        dequantize.load(directory / "ct2")
    assert dequantize.main([str(directory / "ct2"), str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("direction", ["en-indic", "indic-en"])
def test_beam_search_of_the_embedded_model_is_pytorch_s(direction: str, tmp_path: Path) -> None:
    """Trained weights, held-out sentences, float32 on both sides: beams that are close must fall the same way."""
    model, tokenizer = dequantize.load(EMBEDDED / direction), Tokenizer(EMBEDDED / direction)
    convert.write(model, EMBEDDED / direction, tmp_path / "ct2", "float32")
    rows = (ROOT / "tests/data/indictrans2/held-out.tsv").read_text(encoding="utf-8").splitlines()[1:]
    lines: list[str] = []
    for tag, english, indic in (row.split("\t") for row in rows[:SENTENCES]):
        ask = (english, "eng_Latn", tag) if direction == "en-indic" else (indic, tag, "eng_Latn")
        lines += prepare(*ask).lines[:1]
    lines.sort(key=len)
    pieces = [tokenizer.source_pieces(line) for line in lines]
    results: list[Any] = convert.translator(tmp_path / "ct2", compute_type="float32").translate_batch(
        pieces, beam_size=5, max_decoding_length=128, disable_unk=True, return_scores=True, max_batch_size=16
    )
    same = 0
    for start in range(0, len(lines), 16):
        theirs = translate_ids(model, [tokenizer.source_ids(line) for line in lines[start : start + 16]], 5, 128)
        for ours, wanted in zip(results[start:], theirs, strict=False):
            same += ours.hypotheses[0] == [tokenizer.target.pieces[i] for i in wanted.ids]
            assert abs(ours.scores[0] - wanted.score) < 1e-4
    assert len(lines) == SENTENCES and same >= 0.99 * len(lines)
