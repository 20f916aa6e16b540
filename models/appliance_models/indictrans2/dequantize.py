"""A converted directory back into the PyTorch module: what the repository carries is enough to compare both.

What it is: ``load``, the inverse of ``convert.write``: it reads CTranslate2's ``model.bin`` (variables by name, int8
rows divided by their scales) and takes the matrices apart that the conversion stacked. ``python -m
appliance_models.indictrans2.dequantize CONVERTED TARGET`` writes an official-layout directory of it.
What it refuses to be: lossless. Weights that were rounded to int8 stay so; the module then computes the same model in
float32, which is what a comparison of speed or of beam search needs, not a start for training.
What it costs: the weights in float32 and a second.

Source of the format: CTranslate2's ``python/ctranslate2/specs/model_spec.py``, binary version 6.
"""

from __future__ import annotations

import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from appliance_models.indictrans2 import checkpoint
from appliance_models.indictrans2.config import CheckpointError, Config
from appliance_models.indictrans2.model import IndicTrans
from appliance_models.indictrans2.tokenizer import TOKENIZER_FILES, Tokenizer

_VERSION = 6
_TYPES: tuple[type[np.generic], ...] = (np.float32, np.int8, np.int16, np.int32, np.float16)
_ACTIVATIONS = {0: "relu", 3: "gelu"}
Variables = dict[str, NDArray[Any]]


def variables(path: Path) -> Variables:
    """Every variable of a ``model.bin`` by its name, aliases resolved, as stored. Raises ``CheckpointError``."""
    data = path.read_bytes()
    at = 0

    def number(code: str) -> int:
        nonlocal at
        value = struct.unpack_from(f"<{code}", data, at)[0]
        at += struct.calcsize(f"<{code}")
        return int(value)

    def text() -> str:
        nonlocal at
        size = number("H")
        value = data[at : at + size - 1].decode()
        at += size
        return value

    try:
        if (version := number("I")) != _VERSION:
            raise CheckpointError(f"{path} is CTranslate2's binary version {version}, not {_VERSION}: convert it again")
        text(), number("I")  # what kind of model, and its revision
        found: Variables = {}
        for _ in range(number("I")):
            name, shape = text(), [number("I") for _ in range(number("B"))]
            kind, size = _TYPES[number("B")], number("I")
            if at + size > len(data):
                raise ValueError(f"{name} ends behind the file")
            found[name] = np.frombuffer(data, kind, size // np.dtype(kind).itemsize, at).reshape(shape)
            at += size
        for _ in range(number("I")):
            alias, name = text(), text()
            found[alias] = found[name]
            if f"{name}_scale" in found:
                found[f"{alias}_scale"] = found[f"{name}_scale"]
    except (struct.error, IndexError, KeyError, ValueError) as e:
        if isinstance(e, CheckpointError):
            raise
        raise CheckpointError(f"{path} cannot be read ({e}): fetch or convert the model again") from None
    return found


def load(directory: Path) -> IndicTrans:
    """The module of the converted ``directory`` in float32, ready to translate."""
    found = variables(directory / "model.bin")
    model = IndicTrans(configuration(found, Tokenizer(directory)))
    weights = {"lm_head.weight": matrix(found, "decoder/projection")}
    _side(weights, found, "encoder", "embeddings_0")
    _side(weights, found, "decoder", "embeddings")
    if model.config.share_decoder_input_output_embed:
        weights.pop("lm_head.weight")
    model.load_state_dict(weights, strict=not model.config.share_decoder_input_output_embed)
    model.eval().requires_grad_(False)
    return model


def configuration(found: Variables, tokenizer: Tokenizer) -> Config:
    """The published fields, as far as they decide what is computed."""
    sides: dict[str, Any] = {}
    for side, embeddings in (("encoder", "embeddings_0"), ("decoder", "embeddings")):
        rows, width = found[f"{side}/{embeddings}/weight"].shape
        sides |= {
            f"{side}_vocab_size": rows,
            f"{side}_embed_dim": width,
            f"{side}_layers": sum(n.startswith(f"{side}/layer_") and n.endswith("/ffn/linear_0/bias") for n in found),
            f"{side}_ffn_dim": len(found[f"{side}/layer_0/ffn/linear_0/bias"]),
            f"{side}_attention_heads": int(found[f"{side}/num_heads"]),
            f"{side}_normalize_before": bool(found[f"{side}/pre_norm"]),
        }
    ids = {piece: i for i, piece in tokenizer.target.pieces.items()}
    return Config(
        **sides,
        layernorm_embedding="encoder/layernorm_embedding/gamma" in found,
        scale_embedding=float(found["encoder/scale_embeddings"]) > 1.0,
        share_decoder_input_output_embed=found["decoder/projection/weight"] is found["decoder/embeddings/weight"],
        activation_function=_ACTIVATIONS[int(found["encoder/activation"])],
        max_source_positions=len(found["encoder/position_encodings/encodings"]),
        max_target_positions=len(found["decoder/position_encodings/encodings"]),
        bos_token_id=ids["<s>"],
        pad_token_id=ids["<pad>"],
        eos_token_id=ids["</s>"],
        decoder_start_token_id=ids["</s>"],
    )


def matrix(found: Variables, name: str) -> Tensor:
    """``name``/weight in float32: int8 rows divided by their scales."""
    weight = found[f"{name}/weight"]
    values = weight.astype(np.float32)
    if weight.dtype == np.int8:
        values /= found[f"{name}/weight_scale"][:, None]
    return torch.from_numpy(values)


def _side(weights: dict[str, Tensor], found: Variables, side: str, embeddings: str) -> None:
    to = f"model.{side}"
    weights[f"{to}.embed_tokens.weight"] = matrix(found, f"{side}/{embeddings}")
    for norm in ("layer_norm", "layernorm_embedding"):
        if f"{side}/{norm}/gamma" in found:
            _norm(weights, found, f"{side}/{norm}", f"{to}.{norm}")
    n = 0
    while f"{side}/layer_{n}/ffn/linear_0/bias" in found:
        _layer(weights, found, f"{side}/layer_{n}", f"{to}.layers.{n}")
        n += 1


def _layer(weights: dict[str, Tensor], found: Variables, name: str, to: str) -> None:
    _linear(weights, found, f"{name}/self_attention/linear_0", *(f"{to}.self_attn.{p}_proj" for p in "qkv"))
    _linear(weights, found, f"{name}/self_attention/linear_1", f"{to}.self_attn.out_proj")
    _norm(weights, found, f"{name}/self_attention/layer_norm", f"{to}.self_attn_layer_norm")
    if f"{name}/attention/linear_0/bias" in found:
        _linear(weights, found, f"{name}/attention/linear_0", f"{to}.encoder_attn.q_proj")
        _linear(weights, found, f"{name}/attention/linear_1", *(f"{to}.encoder_attn.{p}_proj" for p in "kv"))
        _linear(weights, found, f"{name}/attention/linear_2", f"{to}.encoder_attn.out_proj")
        _norm(weights, found, f"{name}/attention/layer_norm", f"{to}.encoder_attn_layer_norm")
    _linear(weights, found, f"{name}/ffn/linear_0", f"{to}.fc1")
    _linear(weights, found, f"{name}/ffn/linear_1", f"{to}.fc2")
    _norm(weights, found, f"{name}/ffn/layer_norm", f"{to}.final_layer_norm")


def _linear(weights: dict[str, Tensor], found: Variables, name: str, *parts: str) -> None:
    """One stacked matrix into its parts."""
    rows, bias = matrix(found, name), torch.from_numpy(found[f"{name}/bias"].astype(np.float32))
    for part, weight, offset in zip(parts, rows.chunk(len(parts)), bias.chunk(len(parts)), strict=True):
        weights[f"{part}.weight"], weights[f"{part}.bias"] = weight.clone(), offset.clone()


def _norm(weights: dict[str, Tensor], found: Variables, name: str, to: str) -> None:
    weights[f"{to}.weight"] = torch.from_numpy(found[f"{name}/gamma"].astype(np.float32))
    weights[f"{to}.bias"] = torch.from_numpy(found[f"{name}/beta"].astype(np.float32))


def main(arguments: list[str]) -> int:
    """Write the official layout; 1 and one sentence where that cannot be."""
    source, target = (Path(argument) for argument in arguments)
    try:
        model = load(source)
        target.mkdir(parents=True, exist_ok=True)
        checkpoint.save(model, target, torch.float32)
        for name in TOKENIZER_FILES:
            shutil.copyfile(source / name, target / name)
    except (CheckpointError, OSError) as e:
        print(e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
