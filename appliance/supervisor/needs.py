"""What an engine needs, from the catalogue, from the model's own files, and from what the operator set.

What it is: ``want_of`` makes a ``Want`` of one engine. The catalogue is believed first; what it does not know is read
from ``config.json`` and the sizes of the weight files where the model is installed.
What it refuses to be: silent about gaps. Every number that nobody measured for this model comes with a sentence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from appliance.settings import EngineSettings
from appliance.supervisor.memory import Kv, Want

if TYPE_CHECKING:
    from appliance_models.entry import Model

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.onnx", "*.gguf")
_KV_BYTES = 2  # of a number in the cache: vLLM keeps it in the model's own 16 bits unless told otherwise


class Usual(Struct, frozen=True):
    """What is taken where a model's own figure is missing: workspace on a GPU and in RAM, RAM of the processes."""

    gpu_workspace: int
    cpu_workspace: int
    gpu_host: int
    cpu_host: int


# In RAM, after 32 requests at once: vLLM with SmolLM2-135M held 3.6 GB of the 4.8 these figures give it, Whisper base
# 0.25 of 0.85 (docs/plan.md). The figures for GPUs come from no measurement of ours, and the plan says so.
_USUAL = {
    "vllm": Usual(2_500_000_000, 500_000_000, 4_000_000_000, 2_500_000_000),
    # 64 sentences' keys and values of the 1B shape (0.1 GB each, hosts/indictrans_pool.py), 8 on a CPU in float32
    "torch-cuda": Usual(8_000_000_000, 2_000_000_000, 4_000_000_000, 1_000_000_000),
    "other": Usual(1_000_000_000, 300_000_000, 1_500_000_000, 400_000_000),
}


class Files(Struct, frozen=True):
    """What a model's directory says of itself. None is unknown."""

    weights_bytes: int | None = None
    kv: Kv | None = None
    context_tokens: int | None = None


def want_of(name: str, engine: EngineSettings, entry: Model | None, directory: Path | None, on_gpu: bool) -> Want:
    """What engine ``name`` needs. ``entry`` is its catalogue entry, ``directory`` its installed model, if any."""
    files = read_files(directory) if directory is not None else Files()
    memory = entry.memory if entry is not None else None
    torch = entry is not None and entry.engine == "torch-cuda"
    usual = _USUAL["vllm" if engine.kind == "vllm" else "torch-cuda" if torch else "other"]
    assumed = []
    weights = _weights(entry, files)
    workspace = memory.workspace_bytes if memory is not None else None
    if workspace is None:
        workspace = usual.gpu_workspace if on_gpu else usual.cpu_workspace
        assumed.append(f"workspace {workspace / 1e9:g} GB")
    host = memory.host_bytes if memory is not None else None
    if host is None:
        host = usual.gpu_host if on_gpu else usual.cpu_host
        assumed.append(f"RAM of its processes {host / 1e9:g} GB")
    kv = _kv(memory) or files.kv if engine.kind == "vllm" else None
    context = engine.max_context_tokens or _context(entry, files)
    unknown = ""
    if weights is None:
        unknown = "the size of its weights is not known until it is installed, so they are not counted here"
    elif engine.kind == "vllm" and (kv is None or not context):
        kv, unknown = None, "what a token takes in its cache is not known, so it gets 512 MiB; set kv_cache_bytes"
    return Want(
        engine=name,
        model=engine.model or name,
        task=engine.task,
        weights_bytes=weights or 0,
        workspace_bytes=workspace,
        host_bytes=host,
        kv=kv if weights is not None else None,
        context_tokens=context if engine.kind == "vllm" else 0,
        context_set=bool(engine.max_context_tokens),
        kv_cache_bytes=engine.kv_cache_bytes if engine.kind == "vllm" else None,
        max_concurrent=engine.max_concurrent if engine.kind == "vllm" else 0,
        gpus=engine.gpus,
        divides=engine.kind == "vllm",
        falls_back=engine.kind != "vllm",
        assumed=(f"assumed, as nobody measured it for this model: {', '.join(assumed)}",) if assumed else (),
        unknown=unknown,
    )


def _weights(entry: Model | None, files: Files) -> int | None:
    """As the catalogue says, else as installed, else the sum of what would be fetched."""
    if entry is not None and entry.memory.weights_bytes is not None:
        return entry.memory.weights_bytes
    if files.weights_bytes is not None or entry is None:
        return files.weights_bytes
    return entry.weights_bytes or entry.installed_bytes


def _context(entry: Model | None, files: Files) -> int:
    return (entry.context_tokens if entry is not None else None) or files.context_tokens or 0


def _kv(memory: Any) -> Kv | None:
    if memory is None or memory.kv_bytes_per_token is None:
        return None
    return Kv(memory.kv_bytes_per_token, memory.kv_windowed_bytes_per_token or 0, memory.kv_window_tokens or 0)


def read_files(directory: Path) -> Files:
    """What ``directory`` tells: sizes of its weight files, and the shapes in its ``config.json``."""
    if not directory.is_dir():
        return Files()
    weights = next(filter(None, (_size(directory, pattern) for pattern in _WEIGHTS)), None)
    # ONNX graphs keep their weights in files beside them, named by tensors
    if weights is None and any((directory / "assets").glob("*.onnx")):
        weights = _size(directory / "assets", "*")
    try:
        config = json.loads((directory / "config.json").read_bytes())
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        return Files(weights)
    # models that see or hear as well keep what concerns the text below a key of its own
    text = config.get("text_config")
    shape = text if isinstance(text, dict) else config
    return Files(weights, kv_of(shape), _number(shape, "max_position_embeddings"))


def _size(directory: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in directory.glob(pattern))


def kv_of(config: dict[str, Any]) -> Kv | None:
    """The cache of a token by a model's configuration, None where it does not follow from it."""
    layers, heads = _number(config, "num_hidden_layers"), _number(config, "num_attention_heads")
    hidden = _number(config, "hidden_size")
    if layers is None or heads is None or "kv_lora_rank" in config:  # latent attention caches something else
        return None
    size = _number(config, "head_dim") or (hidden // heads if hidden else None)
    if size is None:
        return None
    layer = 2 * (_number(config, "num_key_value_heads") or heads) * size * _KV_BYTES
    kinds = config.get("layer_types")
    window = _number(config, "sliding_window")
    if isinstance(kinds, list) and window:
        if not set(kinds) <= {"full_attention", "sliding_attention"}:  # layers with a state instead of a cache
            return None
        windowed = kinds.count("sliding_attention")
        return Kv(layer * layers, layer * windowed, window if windowed else 0)
    return Kv(layer * layers)


def _number(config: dict[str, Any], key: str) -> int | None:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
