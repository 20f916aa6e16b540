"""IndicTrans2 checkpoints to CTranslate2, which has no loader of its own for them.

What it is: the mapping from the PyTorch module to CTranslate2's specification, both sides built apart because a
checkpoint's flags are a side's own. Positions start at row 2 of the module's table, as the first token does.
Beside CTranslate2's files the directory gets what the tokenizer needs and ``config.json`` under another name.
What it refuses to be: for rotary checkpoints, which ``config`` refuses before.
What it costs: twice the float32 weights in memory; 15 s for the 200M shape on one core.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import ctranslate2
import torch
from ctranslate2.specs import common_spec, transformer_spec
from torch import nn

from appliance_models.indictrans2 import checkpoint
from appliance_models.indictrans2.model import Attention, IndicTrans, Layer, Stack
from appliance_models.indictrans2.tokenizer import TOKENIZER_FILES, Tokenizer

Quantization = Literal["float32", "float16", "int8", "int8_float16"]


def convert(source: Path, target: Path, quantization: Quantization) -> None:
    """Convert the checkpoint directory ``source`` into the new directory ``target``, whole or not at all."""
    write(checkpoint.load(source), source, target, quantization)


def write(model: IndicTrans, tokenizer_files: Path, target: Path, quantization: Quantization) -> None:
    """Write ``model`` for CTranslate2 with the tokenizer of ``tokenizer_files``."""
    tokenizer = Tokenizer(tokenizer_files)
    specification = spec(model)
    specification.register_source_vocabulary(_vocabulary(tokenizer.source.pieces, model.config.encoder_vocab_size))
    specification.register_target_vocabulary(_vocabulary(tokenizer.target.pieces, model.config.decoder_vocab_size))
    config = specification.config
    config.bos_token, config.eos_token, config.unk_token = "<s>", "</s>", "<unk>"
    config.decoder_start_token = tokenizer.target.pieces[model.config.decoder_start_token_id]
    config.add_source_bos, config.add_source_eos = False, True
    specification.validate()
    specification.optimize(quantization=quantization)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        specification.save(str(made))
        for name in TOKENIZER_FILES:
            shutil.copyfile(tokenizer_files / name, made / name)
        made.rename(target)


def _vocabulary(pieces: dict[int, str], size: int) -> list[str]:
    """Tokens by id. CTranslate2 calls padding ``<blank>``; ids without a piece get a name that nothing spells."""
    tokens = [pieces.get(i, f"<unused{i}>") for i in range(size)]
    return ["<blank>" if token == "<pad>" else token for token in tokens]


def spec(model: IndicTrans) -> Any:
    """CTranslate2's specification of ``model``, vocabularies apart."""
    c = model.config
    activation = {"gelu": common_spec.Activation.GELU, "relu": common_spec.Activation.RELU}[c.activation_function]
    shared = {"activation": activation, "layernorm_embedding": c.layernorm_embedding}
    encoder = transformer_spec.TransformerEncoderSpec(
        c.encoder_layers, c.encoder_attention_heads, pre_norm=c.encoder_normalize_before, **shared
    )
    decoder = transformer_spec.TransformerDecoderSpec(
        c.decoder_layers, c.decoder_attention_heads, pre_norm=c.decoder_normalize_before, **shared
    )
    _stack(encoder, encoder.embeddings[0], model.model.encoder)
    _stack(decoder, decoder.embeddings, model.model.decoder)
    for to, layer in zip(decoder.layer, model.model.decoder.layers, strict=True):
        assert isinstance(layer.encoder_attn, Attention)
        attention = layer.encoder_attn
        _linear(to.attention.linear[0], attention.q_proj)
        _linear(to.attention.linear[1], attention.k_proj, attention.v_proj)
        _linear(to.attention.linear[2], attention.out_proj)
        _norm(to.attention.layer_norm, layer.encoder_attn_layer_norm)
    decoder.projection.weight = _array(model.lm_head.weight)
    return transformer_spec.TransformerSpec(encoder, decoder)


def _stack(to: Any, embeddings: Any, stack: Stack) -> None:
    """Embeddings, positions, norms, and of every layer what both sides have."""
    embeddings.weight = _array(stack.embed_tokens.weight)
    to.scale_embeddings = stack.scale if not math.isclose(stack.scale, 1.0) else False
    to.position_encodings.encodings = _array(stack.embed_positions.weights[2:])
    if stack.layer_norm is not None:
        _norm(to.layer_norm, stack.layer_norm)
    if stack.layernorm_embedding is not None:
        _norm(to.layernorm_embedding, stack.layernorm_embedding)
    layers: Any = stack.layers
    for layer_to, layer in zip(to.layer, layers, strict=True):
        _layer(layer_to, layer)


def _layer(to: Any, layer: Layer) -> None:
    attention = layer.self_attn
    _linear(to.self_attention.linear[0], attention.q_proj, attention.k_proj, attention.v_proj)
    _linear(to.self_attention.linear[1], attention.out_proj)
    _norm(to.self_attention.layer_norm, layer.self_attn_layer_norm)
    _linear(to.ffn.linear_0, layer.fc1)
    _linear(to.ffn.linear_1, layer.fc2)
    _norm(to.ffn.layer_norm, layer.final_layer_norm)


def _linear(to: Any, *parts: nn.Linear) -> None:
    """One matrix of several, stacked."""
    to.weight = _array(torch.cat([part.weight for part in parts]))
    to.bias = _array(torch.cat([part.bias for part in parts]))


def _norm(to: Any, norm: nn.LayerNorm) -> None:
    to.gamma, to.beta = _array(norm.weight), _array(norm.bias)


def _array(tensor: torch.Tensor) -> Any:
    """A copy, because CTranslate2 quantises in place."""
    return tensor.detach().float().contiguous().numpy().copy()


def translator(directory: Path, threads: int = 1, compute_type: str = "default") -> Any:
    """CTranslate2's translator for a converted directory on the CPU: for tests and for measuring chrF."""
    return ctranslate2.Translator(str(directory), device="cpu", intra_threads=threads, compute_type=compute_type)
