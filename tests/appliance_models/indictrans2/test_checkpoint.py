from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from appliance_models.indictrans2 import checkpoint
from appliance_models.indictrans2.config import CheckpointError

from .conftest import Checkpoint

SOURCE, TARGET = torch.tensor([[1, 5, 30, 31, 2]]), torch.tensor([[2, 9, 10]])


def logits(directory: Path) -> torch.Tensor:
    out: torch.Tensor = checkpoint.load(directory)(SOURCE, TARGET)
    return out


@pytest.mark.parametrize(("embedding_norm", "tied"), [*itertools.product([True, False], repeat=2)])
def test_bin_shards_and_safetensors_give_the_same_model(
    make_checkpoint: Checkpoint, embedding_norm: bool, tied: bool
) -> None:
    directory = make_checkpoint(layernorm_embedding=embedding_norm, share_decoder_input_output_embed=tied)
    wanted = logits(directory)
    weights = load_file(directory / "model.safetensors")
    assert ("lm_head.weight" in weights) is not tied
    (directory / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for part, some in parts.items():
        save_file({name: weights[name] for name in some}, directory / part)
    where = {name: part for part, some in parts.items() for name in some}
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    assert torch.equal(logits(directory), wanted)
    index.unlink()
    # The published .bin files hold the positions of older transformers, and a tied head under both names.
    extra = {"model.encoder.embed_positions.weights": torch.zeros(3, 3)}
    if tied:
        extra["lm_head.weight"] = weights["model.decoder.embed_tokens.weight"]
    torch.save(weights | extra, directory / "pytorch_model.bin")
    assert torch.equal(logits(directory), wanted)


def test_a_tied_head_may_be_stored_under_the_head_s_name_alone(make_checkpoint: Checkpoint) -> None:
    directory = make_checkpoint()
    wanted = logits(directory)
    weights = load_file(directory / "model.safetensors")
    weights["lm_head.weight"] = weights.pop("model.decoder.embed_tokens.weight")
    save_file(weights, directory / "model.safetensors")
    assert torch.equal(logits(directory), wanted)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("a pickle ran code",))


def test_a_pickle_that_runs_code_is_refused(make_checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    directory = make_checkpoint()
    (directory / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Payload()}, directory / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(directory)
    assert "ran code" not in capsys.readouterr().out


def test_half_precision_weights_load_as_asked(make_checkpoint: Checkpoint) -> None:
    directory = make_checkpoint()
    checkpoint.save(checkpoint.load(directory), directory, torch.float16)
    assert load_file(directory / "model.safetensors")["model.encoder.layers.0.fc1.weight"].dtype == torch.float16
    assert checkpoint.load(directory).lm_head.weight.dtype == torch.float32
    assert checkpoint.load(directory, torch.bfloat16).lm_head.weight.dtype == torch.bfloat16


def break_weights(directory: Path, how: str) -> None:
    path = directory / "model.safetensors"
    weights = load_file(path)
    if how == "lacks":
        del weights["model.encoder.layers.1.fc1.bias"]
    elif how == "has":
        weights["model.encoder.layers.9.fc1.bias"] = torch.zeros(1)
    elif how == "shape":
        weights["model.encoder.layers.1.fc1.bias"] = torch.zeros(3)
    elif how == "twins":
        weights["lm_head.weight"] = weights["model.decoder.embed_tokens.weight"] + 1
    save_file(weights, path)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:500])
    elif how == "absent":
        path.unlink()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("lacks", r"lacks model\.encoder\.layers\.1\.fc1\.bias$"),
        ("has", r"has model\.encoder\.layers\.9\.fc1\.bias, which its config\.json does not provide for$"),
        ("shape", r"fc1\.bias is \(3,\) where config\.json means \(64,\)"),
        ("twins", "head is tied, but stores two matrices"),
        ("truncated", "cannot be read .*: fetch them again"),
        ("absent", r"neither model\.safetensors nor pytorch_model\.bin: fetch the weights"),
    ],
)
def test_weights_that_do_not_fit_are_refused(make_checkpoint: Checkpoint, how: str, reason: str) -> None:
    directory = make_checkpoint()
    break_weights(directory, how)
    with pytest.raises(CheckpointError, match=reason):
        checkpoint.load(directory)


def test_a_flag_that_the_weights_contradict_is_refused(make_checkpoint: Checkpoint) -> None:
    directory = make_checkpoint(layernorm_embedding=True)
    fields = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(fields | {"layernorm_embedding": False}))
    with pytest.raises(CheckpointError, match="layernorm_embedding"):
        checkpoint.load(directory)
