"""Official checkpoint directories into the PyTorch module: ``config.json`` and weights, without remote code.

What it is: ``load`` for ``model.safetensors`` (one file or sharded with an index) and ``pytorch_model.bin``, which is
read with ``weights_only`` so that a pickle cannot run code. Every tensor must be expected and every expectation met;
only what is computed (positions) or shared (a tied head) may be absent.
What it refuses to be: forgiving. A checkpoint that almost fits would translate almost well.
What it costs: the size of the weights, in ``dtype``.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from appliance_models.indictrans2 import config as configuration
from appliance_models.indictrans2.config import CheckpointError
from appliance_models.indictrans2.model import IndicTrans

_COMPUTED = ".embed_positions.weights"
_HEAD, _EMBEDDING = "lm_head.weight", "model.decoder.embed_tokens.weight"


def load(directory: Path, dtype: torch.dtype = torch.float32) -> IndicTrans:
    """The model in ``directory``, ready to translate; raises ``CheckpointError`` with one sentence."""
    config = configuration.load(directory)
    with torch.device("meta"):
        model = IndicTrans(config)
    weights = {name: t for name, t in _weights(directory).items() if not name.endswith(_COMPUTED)}
    if config.share_decoder_input_output_embed:
        _untwin(weights, directory)
    expected = {name: p.shape for name, p in model.state_dict().items()}
    if config.share_decoder_input_output_embed:
        expected.pop(_HEAD)
    _compare(weights, expected, directory)
    model.load_state_dict({name: t.to(dtype) for name, t in weights.items()}, strict=False, assign=True)
    if config.share_decoder_input_output_embed:
        model.lm_head.weight = model.model.decoder.embed_tokens.weight
    model.to(dtype).eval().requires_grad_(False)
    return model


def _untwin(weights: dict[str, Tensor], directory: Path) -> None:
    """A tied head may be stored under either name or both; both must then be equal."""
    head = weights.pop(_HEAD, None)
    if head is None:
        return
    twin = weights.setdefault(_EMBEDDING, head)
    if not torch.equal(twin, head):
        raise CheckpointError(
            f"{directory} says that its head is tied, but stores two matrices: config.json is of another model"
        )


def _compare(weights: dict[str, Tensor], expected: dict[str, torch.Size], directory: Path) -> None:
    absent = sorted(expected.keys() - weights.keys())
    foreign = sorted(weights.keys() - expected.keys())
    if absent or foreign:
        what = f"lacks {absent[0]}" if absent else f"has {foreign[0]}, which its config.json does not provide for"
        more = len(absent) + len(foreign) - 1
        raise CheckpointError(f"{directory} {what}" + (f" ({more} more such)" if more else ""))
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise CheckpointError(
                f"{directory}: {name} is {tuple(weights[name].shape)} where config.json means {tuple(shape)}"
            )


def _weights(directory: Path) -> dict[str, Tensor]:
    try:
        for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
            if (directory / index).exists():
                shards = sorted(set(json.loads((directory / index).read_text())["weight_map"].values()))
                return {name: t for shard in shards for name, t in _file(directory / Path(shard).name).items()}
        for name in ("model.safetensors", "pytorch_model.bin"):
            if (directory / name).exists():
                return _file(directory / name)
    except CheckpointError:
        raise
    except Exception as e:  # truncated files raise what their format's library likes
        raise CheckpointError(f"the weights in {directory} cannot be read ({e}): fetch them again") from None
    raise CheckpointError(f"{directory} has neither model.safetensors nor pytorch_model.bin: fetch the weights")


def _file(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def save(model: IndicTrans, directory: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write ``config.json`` and ``model.safetensors`` in the official layout; a tied head is stored once."""
    configuration.save(model.config, directory)
    weights = {name: t.detach().to(dtype).contiguous() for name, t in model.state_dict().items()}
    if model.config.share_decoder_input_output_embed:
        weights.pop(_HEAD)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
