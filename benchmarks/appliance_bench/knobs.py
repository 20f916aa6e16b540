"""The knobs of each engine: what a search may turn, where it starts, and the arguments they become.

What it is: for each task a space of values in order, the shipped default, the engine's own default (what CTranslate2,
faster-whisper and vLLM do when nobody tells them anything), hints that are expected to be good, and the quality gates.
What it refuses to be: all there is. Models, languages and what an answer may be are the operator's; knobs are what
changes speed and, within the gates, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from appliance_bench.search import Config, Gate, Value, config


class Knobs(Struct, frozen=True):
    """Of one task on one machine."""

    space: dict[str, tuple[Value, ...]]
    shipped: Config
    own: Config
    hints: tuple[Config, ...]
    gates: tuple[Gate, ...]


# settings of the engine instead of arguments
SETTINGS = ("threads", "gpu_percent", "kv_cache_bytes")
# knob -> the argument of the host or of vLLM
ARGUMENTS = {
    "workers": "--workers",
    "max_batch": "--max-batch",
    "max_tokens": "--max-tokens",
    "wait_ms": "--max-wait-ms",
    "beams": "--beams",
    "compute_type": "--compute-type",
    "buckets": "--buckets",
    "max_num_seqs": "--max-num-seqs",
    "max_num_batched_tokens": "--max-num-batched-tokens",
    "stream_interval": "--stream-interval",
    "block_size": "--block-size",
    "kv_cache_dtype": "--kv-cache-dtype",
}
# knobs that are switches of vLLM's: True and False are arguments of their own
SWITCHES = {
    "prefix_caching": ("--enable-prefix-caching", "--no-enable-prefix-caching"),
    "chunked_prefill": ("--enable-chunked-prefill", "--no-enable-chunked-prefill"),
    "eager": ("--enforce-eager", "--no-enforce-eager"),
}


def arguments(which: Config) -> tuple[str, ...]:
    """A configuration as command line; what is a setting is left out (``settings``)."""
    found: list[str] = []
    for name, value in which:
        if name in SWITCHES:
            found.append(SWITCHES[name][0 if value else 1])
        elif name in ARGUMENTS and value != "":
            found += [ARGUMENTS[name], f"{value:g}" if isinstance(value, float) else str(value)]
    return tuple(found)


def settings(which: Config) -> dict[str, int]:
    """What of it is a setting of the engine: CPU threads, its share of a GPU under MPS, its KV cache; 0 is not set."""
    values = dict(which)
    return {name: int(values.get(name, 0)) for name in SETTINGS}


def knobs(task: str, cores: int, gpu: bool) -> Knobs:
    """Of ``task`` on a machine with so many ``cores``."""
    return {"translate": _translate, "transcribe": _transcribe, "chat": _chat}[task](cores, gpu)


def _powers(least: int, most: int) -> tuple[int, ...]:
    found = []
    while least <= most:
        found.append(least)
        least *= 2
    return tuple(found)


def _translate(cores: int, gpu: bool) -> Knobs:
    workers: tuple[Value, ...] = (1, 2) if gpu else _powers(1, min(cores, 8))
    best: Value = "float16" if gpu else "int8"
    space: dict[str, tuple[Value, ...]] = {
        "beams": (1, 2, 3, 4, 5),
        "max_batch": (1, 8, 16, 32, 64, 128, 256) if gpu else (1, 4, 8, 16, 32, 64),
        "wait_ms": (0, 2, 5, 10, 20, 40),
        "workers": workers,
        "max_tokens": (1024, 4096, 8192, 16384) if gpu else (256, 512, 1024, 2048),
        "compute_type": ("int8", "int8_float16", "float16") if gpu else ("int8", "float32"),
    }
    shipped = config(
        beams=5, max_batch=128 if gpu else 32, wait_ms=5, workers=1 if gpu else min(cores, 4),
        max_tokens=8192 if gpu else 1024, compute_type=best,
    )  # fmt: skip
    # CTranslate2's Translator: one translation at a time on all threads, beam 2, as it comes
    own = config(beams=2, max_batch=1, wait_ms=0, workers=1, max_tokens=1024, compute_type=best)
    base = dict(shipped)
    hints = [
        config(**{**base, "max_batch": 8} if not gpu else {**base, "max_batch": 256}),
        config(**{**base, "max_batch": 4} if not gpu else {**base, "workers": 2}),
        config(**{**base, "beams": 4}),
        config(**{**base, "beams": 3, "wait_ms": 10}),
    ]
    return Knobs(space, shipped, own, tuple(hints), (Gate("chrf", 0.5),))


def _transcribe(cores: int, gpu: bool) -> Knobs:
    workers: tuple[Value, ...] = (1, 2) if gpu else _powers(1, min(cores, 8))
    best: Value = "float16" if gpu else "int8"
    space: dict[str, tuple[Value, ...]] = {
        "beams": (1, 2, 3, 5),
        "max_batch": (1, 8, 16, 32, 64) if gpu else (1, 2, 4, 8, 16),
        "wait_ms": (0, 5, 15, 40, 100),
        "workers": workers,
        "buckets": ("10,12,20,30", "10,20,30", "30"),
        "compute_type": ("int8", "int8_float16", "float16") if gpu else ("int8", "float32"),
    }
    shipped = config(
        beams=5, max_batch=32 if gpu else 8, wait_ms=15, workers=1 if gpu else min(cores, 4), buckets="10,12,20,30",
        compute_type=best,
    )  # fmt: skip
    # faster-whisper's WhisperModel: one recording at a time on all threads, beam 5, windows of 30 s
    own = config(beams=5, max_batch=1, wait_ms=0, workers=1, buckets="30", compute_type=best)
    base = dict(shipped)
    hints = [
        config(**{**base, "beams": 2}),
        config(**{**base, "beams": 1, "wait_ms": 5}),
        config(**{**base, "beams": 2, "wait_ms": 40}),
        config(**{**base, "beams": 3, "wait_ms": 0, "max_batch": 16 if gpu else 4}),
    ]
    return Knobs(space, shipped, own, tuple(hints), (Gate("wer", 0.5, higher_is_better=False),))


def _chat(cores: int, gpu: bool) -> Knobs:
    if gpu:
        space: dict[str, tuple[Value, ...]] = {
            "max_num_seqs": _powers(32, 512),
            "max_num_batched_tokens": _powers(512, 16384),
            "kv_cache_dtype": ("auto", "fp8"),
            "chunked_prefill": (True, False),
            "stream_interval": (1, 2, 4, 8),
        }
        shipped = config(
            max_num_seqs=256, max_num_batched_tokens=8192, kv_cache_dtype="auto", chunked_prefill=True,
            stream_interval=1,
        )  # fmt: skip
        base = dict(shipped)
        hints = [config(**{**base, "max_num_seqs": 512}), config(**{**base, "kv_cache_dtype": "fp8"})]
        return Knobs(space, shipped, shipped, tuple(hints), (Gate("holds", 1.0),))
    space = {
        "threads": tuple(range(1, cores + 1)) if cores <= 4 else _powers(1, cores),
        "max_num_seqs": (4, 8, 16, 32, 64, 128, 256),
        "max_num_batched_tokens": (256, 512, 1024, 2048, 4096),
        "stream_interval": (1, 2, 4),
        "prefix_caching": (True, False),
    }
    # what the appliance starts: a core is left to the others
    shipped = config(
        threads=max(1, cores - 1), max_num_seqs=256, max_num_batched_tokens=2048, stream_interval=1, prefix_caching=True
    )
    # vLLM binds a thread to each core but one on its own as well; it differs in nothing that answers faster
    own = config(
        threads=max(1, cores - 1), max_num_seqs=128, max_num_batched_tokens=2048, stream_interval=1, prefix_caching=True
    )
    base = dict(shipped)
    hints = [
        config(**{**base, "threads": cores}),
        config(**{**base, "threads": cores, "max_num_seqs": 16}),
        config(**{**base, "threads": cores, "max_num_seqs": 8, "max_num_batched_tokens": 512}),
        config(**{**base, "threads": cores, "max_num_seqs": 16, "stream_interval": 4}),
    ]
    return Knobs(space, shipped, own, tuple(hints), (Gate("holds", 1.0),))


def told(which: Config) -> str:
    """For people."""
    return ", ".join(f"{name}={value}" for name, value in which)


def as_dict(which: Config) -> Mapping[str, Value]:
    """For records."""
    return dict(which)


def differing(which: Config, other: Config) -> Sequence[str]:
    """The knobs in which two differ, with both values."""
    theirs = dict(other)
    return [f"{name} {theirs.get(name)} → {value}" for name, value in which if theirs.get(name) != value]
