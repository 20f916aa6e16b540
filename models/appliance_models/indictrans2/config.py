"""``config.json`` of an IndicTrans2 checkpoint: every flag as the file says it, none assumed.

What it is: the shape of one model. Missing fields, unknown activations and the RoPE variants are refused by name,
because a wrong guess would still translate, only badly.
What it refuses to be: transformers' configuration class.
"""

from __future__ import annotations

from pathlib import Path

import msgspec


class CheckpointError(ValueError):
    """A checkpoint directory that cannot be loaded; the text is one sentence that says why and what to do."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of ``config.json`` that decide what is computed; names are the file's."""

    encoder_vocab_size: int
    decoder_vocab_size: int
    encoder_embed_dim: int
    decoder_embed_dim: int
    encoder_layers: int
    decoder_layers: int
    encoder_ffn_dim: int
    decoder_ffn_dim: int
    encoder_attention_heads: int
    decoder_attention_heads: int
    encoder_normalize_before: bool
    decoder_normalize_before: bool
    layernorm_embedding: bool
    scale_embedding: bool
    share_decoder_input_output_embed: bool
    activation_function: str
    max_source_positions: int
    max_target_positions: int
    bos_token_id: int = 0
    pad_token_id: int = 1
    eos_token_id: int = 2
    decoder_start_token_id: int = 2
    model_type: str = "IndicTrans"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    rope_args: object = None

    def __post_init__(self) -> None:
        if self.rope_args is not None or "rotary" in self.model_type.lower() or "rope" in self.model_type.lower():
            raise ValueError("it uses rotary positions, which this appliance does not run: use ai4bharat's")
        if self.activation_function not in ("gelu", "relu"):
            raise ValueError(f"its activation_function is {self.activation_function!r}: only gelu and relu are known")
        if self.encoder_embed_dim != self.decoder_embed_dim:
            raise ValueError("its encoder and decoder differ in width: no IndicTrans2 checkpoint does")
        for side in ("encoder", "decoder"):
            width, heads = getattr(self, f"{side}_embed_dim"), getattr(self, f"{side}_attention_heads")
            if width % heads:
                raise ValueError(f"its {side}_embed_dim {width} is no multiple of its {heads} heads")


def load(directory: Path) -> Config:
    """The configuration of the checkpoint in ``directory``; raises ``CheckpointError``."""
    path = directory / "config.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Config)
    except FileNotFoundError:
        raise CheckpointError(f"{directory} has no config.json: is it a complete IndicTrans2 checkpoint?") from None
    except ValueError as e:  # msgspec's errors and our own
        raise CheckpointError(f"{path} cannot be used: {e}") from None


def save(config: Config, directory: Path) -> None:
    """Write ``config.json`` with the names that the published checkpoints use."""
    fields = msgspec.to_builtins(config)
    fields.pop("rope_args")
    fields["architectures"] = ["IndicTransForConditionalGeneration"]
    fields["tokenizer_class"] = "IndicTransTokenizer"
    (directory / "config.json").write_bytes(msgspec.json.format(msgspec.json.encode(fields), indent=2) + b"\n")
