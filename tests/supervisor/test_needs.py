"""What an engine needs: the catalogue first, then the model's own files, then assumptions that say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from appliance.settings import EngineSettings
from appliance.supervisor.memory import Kv
from appliance.supervisor.needs import kv_of, read_files, want_of
from appliance_models import catalogue
from appliance_models.entry import Memory, Model

SMOL = catalogue.load("smollm2-135m-instruct")
CONFIG = {
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "hidden_size": 576,
    "max_position_embeddings": 8192,
}


def engine(**fields: object) -> EngineSettings:
    return EngineSettings.model_validate({"kind": "vllm", "model": "m", **fields})


def directory(tmp_path: Path, config: object, weights: int = 1000) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(bytes(weights))
    return tmp_path


def with_memory(**fields: Any) -> Model:
    return replace(SMOL, memory=Memory(**fields))


def test_the_catalogue_is_believed_and_its_gaps_are_named() -> None:
    want = want_of("chat", engine(), SMOL, None, on_gpu=False)
    assert (want.weights_bytes, want.kv, want.context_tokens) == (269_060_552, Kv(23_040), 8192)
    assert want.assumed == (
        "assumed, as nobody measured it for this model: workspace 0.5 GB, RAM of its processes 2.5 GB",
    )
    measured = with_memory(weights_bytes=5, kv_bytes_per_token=7, workspace_bytes=6, host_bytes=8)
    known = want_of("chat", engine(), measured, None, on_gpu=True)
    assert (known.workspace_bytes, known.host_bytes, known.assumed) == (6, 8, ())


def test_windows_of_the_catalogue_are_taken_over() -> None:
    memory = {"kv_bytes_per_token": 10, "kv_windowed_bytes_per_token": 8, "kv_window_tokens": 1024}
    assert want_of("c", engine(), with_memory(**memory), None, on_gpu=True).kv == Kv(10, 8, 1024)


def test_a_model_of_the_operators_own_is_read_from_its_files(tmp_path: Path) -> None:
    want = want_of("chat", engine(), None, directory(tmp_path, CONFIG), on_gpu=False)
    assert (want.weights_bytes, want.kv, want.context_tokens, want.unknown) == (1000, Kv(23_040), 8192, "")


def test_the_shapes_in_a_config_agree_with_the_catalogue(tmp_path: Path) -> None:
    assert read_files(directory(tmp_path, CONFIG)).kv == Kv(SMOL.memory.kv_bytes_per_token or 0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"head_dim": 128}, Kv(30 * 2 * 3 * 128 * 2)),
        ({"num_key_value_heads": None}, Kv(30 * 2 * 9 * 64 * 2)),
        (
            {"layer_types": ["full_attention"] * 5 + ["sliding_attention"] * 25, "sliding_window": 512},
            Kv(30 * 768, 25 * 768, 512),
        ),
        ({"layer_types": ["full_attention", "linear_attention"], "sliding_window": 512}, None),
        ({"kv_lora_rank": 512}, None),
        ({"hidden_size": None}, None),
        ({"num_hidden_layers": "30"}, None),
    ],
)
def test_the_cache_of_a_token_follows_from_the_shapes_or_is_unknown(
    change: dict[str, object], expected: Kv | None
) -> None:
    assert kv_of({**CONFIG, **change}) == expected


def test_models_that_see_keep_the_shapes_of_the_text_apart(tmp_path: Path) -> None:
    assert read_files(directory(tmp_path, {"text_config": CONFIG, "hidden_size": 9})).kv == Kv(23_040)


@pytest.mark.parametrize("text", ["[]", "{", '{"text_config": 3}'])
def test_a_config_that_says_nothing(tmp_path: Path, text: str) -> None:
    found = directory(tmp_path, {})
    (found / "config.json").write_text(text)
    want = want_of("chat", engine(), None, found, on_gpu=False)
    assert want.weights_bytes == 1000 and want.kv is None
    assert want.unknown.endswith("set kv_cache_bytes")


def test_nothing_known_at_all(tmp_path: Path) -> None:
    want = want_of("chat", engine(kv_cache_bytes=1 << 30), None, tmp_path / "absent", on_gpu=False)
    assert (want.weights_bytes, want.kv, want.kv_cache_bytes) == (0, None, 1 << 30)
    assert "not known until it is installed" in want.unknown


def test_what_the_operator_set() -> None:
    want = want_of("c", engine(max_context_tokens=100, max_concurrent=3, gpus=[1]), SMOL, None, on_gpu=True)
    assert (want.context_tokens, want.context_set, want.max_concurrent, want.gpus) == (100, True, 3, (1,))


def test_speech_has_no_cache_and_may_run_in_ram() -> None:
    entry = catalogue.load("whisper-base")
    want = want_of("t", engine(kind="whisper", task="transcribe"), entry, None, on_gpu=True)
    assert want.kv is None and want.falls_back and not want.divides and not want.unknown
    assert want.context_tokens == 0


def test_weights_beside_onnx_graphs_are_counted(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    for name, size in (("encoder.onnx", 100), ("onnx__MatMul_1", 700), ("layers.0.bias", 50)):
        (tmp_path / "assets" / name).write_bytes(bytes(size))
    want = want_of("c", engine(kind="conformer"), None, tmp_path, on_gpu=True)
    assert (want.weights_bytes, want.task, want.divides, want.falls_back) == (850, "transcribe", False, True)


def test_pytorch_s_pool_is_counted() -> None:
    entry = catalogue.load("indictrans2-en-indic-1b")
    ours = engine(kind="translate", task="translate", model=entry.name)
    plain, torch = (
        want_of("t", ours, each, None, on_gpu=True) for each in (entry, replace(entry, engine="torch-cuda"))
    )
    assert plain.weights_bytes == torch.weights_bytes == 2_232_000_000
    # 64 sentences of 18 layers, 1,024 wide, five beams of 256 positions and a source of 161, in 16 bits
    assert torch.workspace_bytes > 65 * 18 * 2 * 1024 * (5 * 256 + 161) * 2 > plain.workspace_bytes
    assert "workspace 8 GB" in torch.assumed[0]
