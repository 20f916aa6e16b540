"""A grant as settings: how the memory plan reaches the engines' command lines.

What it is: ``with_grant`` gives an engine's settings with what it was granted, so that whoever builds commands knows
settings only; ``visible_gpus`` is their environment.
What it refuses to be: the last word. The operator's ``extra_args`` stay last, and argparse lets the last one win.
"""

from __future__ import annotations

from appliance.settings import EngineSettings
from appliance.supervisor.memory import Grant


def with_grant(engine: EngineSettings, grant: Grant) -> EngineSettings:
    """``engine`` on the GPUs and with the cache, the context and the requests of ``grant``."""
    changes: dict[str, object] = {"gpus": grant.gpus}
    if engine.kind == "vllm":
        changes |= {
            "kv_cache_bytes": grant.kv_bytes // max(len(grant.gpus), 1),  # vLLM counts per GPU
            "max_context_tokens": grant.context_tokens,
            "max_concurrent": grant.max_requests,
            "extra_args": (*_arguments(grant), *engine.extra_args),
        }
    return engine.model_copy(update=changes)


def _arguments(grant: Grant) -> list[str]:
    """What vLLM is told beyond what settings have a name for."""
    arguments = []
    if grant.gpus:
        # With an explicit cache vLLM sizes nothing by this, but it still refuses to start unless so much of the GPU
        # is free, and its default of 0.92 never is beside another engine.
        arguments += ["--gpu-memory-utilization", f"{grant.gpu_share:.4f}"]
    if len(grant.gpus) > 1:
        arguments += ["--tensor-parallel-size", str(len(grant.gpus))]
    if grant.rules.batch_tokens:  # vLLM wants a step to hold a token of every request at least
        arguments += ["--max-num-batched-tokens", str(max(grant.rules.batch_tokens, grant.max_requests))]
    if grant.rules.eager:
        arguments.append("--enforce-eager")
    return arguments


def visible_gpus(engine: EngineSettings) -> dict[str, str]:
    """The GPUs an engine sees, numbered as nvidia-smi numbers them, and its share of them under MPS.

    Nothing is said where nobody decided.
    """
    # without the MPS daemon CUDA does not read it
    share = {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": str(engine.gpu_percent)} if engine.gpu_percent else {}
    if engine.gpus is None:
        return share
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, engine.gpus)), **share}
