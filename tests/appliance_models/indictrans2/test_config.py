from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance_models.indictrans2 import config
from appliance_models.indictrans2.config import CheckpointError

# What the published 1B and distilled English-Indic checkpoints say, in the fields that decide what is computed.
PUBLISHED: dict[str, Any] = {
    "activation_function": "gelu",
    "architectures": ["IndicTransForConditionalGeneration"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "decoder_attention_heads": 16,
    "decoder_embed_dim": 1024,
    "decoder_ffn_dim": 8192,
    "decoder_layers": 18,
    "decoder_normalize_before": True,
    "decoder_start_token_id": 2,
    "decoder_vocab_size": 122672,
    "encoder_attention_heads": 16,
    "encoder_embed_dim": 1024,
    "encoder_ffn_dim": 8192,
    "encoder_layers": 18,
    "encoder_normalize_before": True,
    "encoder_vocab_size": 32322,
    "eos_token_id": 2,
    "layernorm_embedding": False,
    "max_source_positions": 256,
    "max_target_positions": 256,
    "model_type": "IndicTrans",
    "pad_token_id": 1,
    "scale_embedding": True,
    "share_decoder_input_output_embed": False,
}


def written(directory: Path, **changes: Any) -> Path:
    fields = {key: value for key, value in (PUBLISHED | changes).items() if value is not ...}
    (directory / "config.json").write_text(json.dumps(fields))
    return directory


def test_flags_are_read(tmp_path: Path) -> None:
    c = config.load(written(tmp_path))
    assert (c.encoder_embed_dim, c.layernorm_embedding, c.share_decoder_input_output_embed) == (1024, False, False)
    c = config.load(written(tmp_path, layernorm_embedding=True, share_decoder_input_output_embed=True))
    assert (c.layernorm_embedding, c.share_decoder_input_output_embed) == (True, True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"layernorm_embedding": ...}, "missing required field `layernorm_embedding`"),
        ({"share_decoder_input_output_embed": ...}, "missing required field `share_decoder_input_output_embed`"),
        ({"activation_function": "swish"}, "only gelu and relu are known"),
        ({"model_type": "RotaryIndicTrans"}, "rotary positions"),
        ({"rope_args": {"theta": 10000}}, "rotary positions"),
        ({"encoder_embed_dim": 512}, "differ in width"),
        ({"encoder_attention_heads": 7}, "no multiple of its 7 heads"),
        ({"encoder_layers": "many"}, "Expected `int`"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        config.load(written(tmp_path, **changes))


def test_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        config.load(tmp_path)


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    c = config.load(written(tmp_path))
    config.save(c, tmp_path)
    assert config.load(tmp_path) == c
    assert "rope_args" not in msgspec.json.decode((tmp_path / "config.json").read_bytes())
