from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from appliance_models.indictrans2 import checkpoint, convert
from appliance_models.indictrans2.config import CheckpointError
from appliance_models.indictrans2.generate import translate_ids
from appliance_models.indictrans2.processor import prepare
from appliance_models.indictrans2.tokenizer import TOKENIZER_FILES, Tokenizer, left_padded

from .conftest import TINY, WORDS, Checkpoint, random_model

LINES = [f"eng_Latn hin_Deva {' '.join(WORDS[(i * 3 + j) % len(WORDS)] for j in range(1 + i % 6))}" for i in range(24)]


def log_probabilities(directory: Path, target_pieces: list[list[str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of given translations: CTranslate2's and PyTorch's, a row a sentence, padded with zeros."""
    model, tokenizer = checkpoint.load(directory), Tokenizer(directory)
    sources = torch.tensor(left_padded([tokenizer.source_ids(line) for line in LINES]))
    width = max(map(len, target_pieces)) + 1
    ids = [[*tokenizer.target.to_ids(pieces), 2] for pieces in target_pieces]
    reads = torch.tensor([[2, *row[:-1], *[1] * (width - len(row))] for row in ids])
    labels = torch.tensor([row + [1] * (width - len(row)) for row in ids])
    theirs = model(sources, reads).log_softmax(-1).gather(2, labels[..., None])[..., 0]
    theirs = theirs.masked_fill(labels.eq(1), 0)
    translator = convert.translator(directory / "ct2", compute_type="float32")
    scored: list[Any] = translator.score_batch([tokenizer.source_pieces(line) for line in LINES], target_pieces)
    ours = torch.tensor([s.log_probs + [0.0] * (width - len(s.log_probs)) for s in scored])
    return ours, theirs


@pytest.mark.parametrize(("before", "embedding_norm", "tied"), [*itertools.product([True, False], repeat=3)])
def test_log_probabilities_are_pytorch_s(
    make_checkpoint: Checkpoint, before: bool, embedding_norm: bool, tied: bool
) -> None:
    directory = make_checkpoint(
        encoder_normalize_before=before,
        decoder_normalize_before=before,
        layernorm_embedding=embedding_norm,
        share_decoder_input_output_embed=tied,
    )
    convert.convert(directory, directory / "ct2", "float32")
    pieces = sorted(p for p in Tokenizer(directory).target.ids if p not in ("<s>", "<pad>", "</s>", "<unk>"))
    targets = [[pieces[(i * 5 + j * 11) % len(pieces)] for j in range(1 + i % 7)] for i in range(len(LINES))]
    ours, theirs = log_probabilities(directory, targets)
    assert (ours - theirs).abs().max() < 1e-4
    assert theirs.min() < -1  # the model has opinions, or anything would agree


@pytest.mark.parametrize(
    "flags", [{"activation_function": "relu"}, {"scale_embedding": False}, {"decoder_normalize_before": False}]
)
def test_flags_of_their_own(make_checkpoint: Checkpoint, flags: dict[str, Any]) -> None:
    directory = make_checkpoint(**flags)
    convert.convert(directory, directory / "ct2", "float32")
    ours, theirs = log_probabilities(directory, [["▁"] for _ in LINES])
    assert (ours - theirs).abs().max() < 1e-4


def test_beam_search_finds_what_pytorch_finds(make_checkpoint: Checkpoint) -> None:
    directory = make_checkpoint()
    convert.convert(directory, directory / "ct2", "float32")
    tokenizer, model = Tokenizer(directory), checkpoint.load(directory)
    texts = [" ".join(WORDS[(i * 3 + j * (1 + i % 4)) % 20] for j in range(1 + i % 7)) for i in range(100)]
    lines = [f"eng_Latn hin_Deva {text}" for text in texts]
    theirs = translate_ids(model, [tokenizer.source_ids(line) for line in lines], beams=5, max_tokens=16)
    results: list[Any] = convert.translator(directory / "ct2", compute_type="float32").translate_batch(
        [tokenizer.source_pieces(line) for line in lines],
        beam_size=5,
        max_decoding_length=16,
        disable_unk=True,
        return_scores=True,
    )
    both = list(zip(results, theirs, strict=True))
    same = [(r, h) for r, h in both if r.hypotheses[0] == [tokenizer.target.pieces[i] for i in h.ids]]
    assert len(same) >= 99
    assert max(abs(r.scores[0] - h.score) for r, h in same) < 1e-4
    assert len({h.ids for h in theirs}) > 30


@pytest.mark.parametrize("quantization", ["float16", "int8", "int8_float16"])
def test_smaller_types_translate_and_are_smaller(
    make_checkpoint: Checkpoint, quantization: convert.Quantization
) -> None:
    directory = make_checkpoint(encoder_embed_dim=64, decoder_embed_dim=64, encoder_ffn_dim=256, decoder_ffn_dim=256)
    convert.convert(directory, directory / "full", "float32")
    convert.convert(directory, directory / "small", quantization)
    full, small = ((directory / name / "model.bin").stat().st_size for name in ("full", "small"))
    assert small < 0.6 * full
    tokenizer = Tokenizer(directory / "small")
    translator = convert.translator(directory / "small")
    results = translator.translate_batch([tokenizer.source_pieces(LINES[3])], beam_size=2, max_decoding_length=10)
    assert 1 <= len(results[0].hypotheses[0]) <= 10


def test_a_conversion_that_fails_leaves_nothing(make_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = make_checkpoint()

    def full_disk(source: Any, target: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(convert.shutil, "copyfile", full_disk)
    with pytest.raises(OSError, match="No space left"):
        convert.convert(directory, directory / "ct2", "int8")
    assert [p.name for p in directory.iterdir() if "ct2" in p.name] == []


def test_a_checkpoint_without_a_tokenizer_is_refused(make_checkpoint: Checkpoint) -> None:
    directory = make_checkpoint()
    (directory / "dict.TGT.json").unlink()
    with pytest.raises(CheckpointError, match=r"dict\.TGT\.json"):
        convert.convert(directory, directory / "ct2", "int8")
    assert not (directory / "ct2").exists()


@pytest.mark.parametrize("direction", ["en-indic", "indic-en"])
def test_official_vocabularies_convert(official: Path, tmp_path: Path, direction: str) -> None:
    """A checkpoint of the published layout and vocabulary, narrow and of random weights, agrees with PyTorch."""
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    for name in TOKENIZER_FILES:
        shutil.copyfile(official / direction / name, directory / name)
    tokenizer = Tokenizer(directory)
    sizes = {"encoder_vocab_size": len(tokenizer.source.ids), "decoder_vocab_size": len(tokenizer.target.ids)}
    flags = {"layernorm_embedding": direction == "en-indic", "share_decoder_input_output_embed": False}
    model = random_model(msgspec.structs.replace(TINY, encoder_embed_dim=16, decoder_embed_dim=16, **sizes, **flags))
    checkpoint.save(model, directory)
    convert.convert(directory, tmp_path / "ct2", "float32")
    text, source, target = ("Your order was shipped today.", "eng_Latn", "tam_Taml")
    if direction == "indic-en":
        text, source, target = "உங்கள் ஆர்டர் இன்று அனுப்பப்பட்டது.", target, source
    (line,) = prepare(text, source, target).lines
    pieces = [tokenizer.target.pieces[i] for i in (700, 8, 12_345)]
    scored = convert.translator(tmp_path / "ct2").score_batch([tokenizer.source_pieces(line)], [pieces])[0].log_probs
    ids = [*tokenizer.target.to_ids(pieces), 2]
    logits = checkpoint.load(directory)(torch.tensor([tokenizer.source_ids(line)]), torch.tensor([[2, *ids[:-1]]]))
    wanted = logits.log_softmax(-1)[0].gather(1, torch.tensor(ids)[:, None])[:, 0].tolist()
    assert scored == pytest.approx(wanted, abs=1e-4)
