"""Memory profiles by steps: what an engine that ran out of memory is started with next.

What it is: the interface between supervision and the memory plan, and steps that need no plan: each halves the KV
cache and the requests that run at once, and lets vLLM shorten the context to what the cache holds.
What it refuses to be: a measurement.
"""

from __future__ import annotations

from typing import Protocol

from appliance.settings import EngineSettings, Settings

_MIB = 1024 * 1024
_SMALLEST_CACHE = 64 * _MIB
_LAST_STEP = 3
_VLLM_MAX_NUM_SEQS = 256


class Profiles(Protocol):
    """What engine ``name`` (settings ``engine``) gets ``profile`` steps down; None where there is no such step."""

    def __call__(
        self, settings: Settings, name: str, engine: EngineSettings, profile: int
    ) -> EngineSettings | None: ...


def halved(settings: Settings, name: str, engine: EngineSettings, profile: int) -> EngineSettings | None:
    """Steps without a plan."""
    if profile == 0:
        return engine
    if engine.kind not in ("vllm", "fake") or profile > _LAST_STEP:
        return None
    cache = max(int(engine.kv_cache_bytes or 0) >> profile, _SMALLEST_CACHE)
    changes: dict[str, object] = {"kv_cache_bytes": cache}
    if engine.kind == "vllm":
        changes["max_concurrent"] = max((engine.max_concurrent or _VLLM_MAX_NUM_SEQS) >> profile, 1)
        # first, so that the operator's own argument still wins
        changes["extra_args"] = ("--max-model-len", "auto", *engine.extra_args)
    return engine.model_copy(update=changes)
