"""How vLLM 0.32 is started: its arguments and a closed environment.

What it is: pure functions from settings to an ``EngineCommand``. The OpenAI server runs on a Unix socket
(vllm's own API key leaves ``/tokenize``, ``/pause`` and others open), offline, without telemetry, with an explicit
KV cache, so that two engines never mis-size each other (vllm #55827, #56830).
What it refuses to be: clever about memory; budgets come from settings, where ``granted.py`` puts the memory plan.
What it costs: nothing; vLLM itself starts in 20 to 30 s on two idle cores, 2.8 GB in three processes.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from appliance.settings import EngineSettings, Settings
from appliance.supervisor.command import EngineCommand
from appliance.supervisor.granted import visible_gpus
from appliance.supervisor.models import model_arguments
from appliance.supervisor.placing import DEFAULT_KV_BYTES
from appliance.supervisor.traces import engine_endpoint, trace_environment

# What a chat template must show before tool calls are switched on, and the parser that reads the answers.
# Without the word "tools" a template drops the tools silently, and the model never hears of them.
_TOOL_PARSERS = (("<tool_call>", "hermes"), ("<|python_tag|>", "llama3_json"), ("[TOOL_CALLS]", "mistral"))
# These would override an argument of ours (VLLM_CPU_KVCACHE_SPACE beats --kv-cache-memory-bytes),
# or lock the supervisor's own probe out.
_UNWANTED = ("VLLM_CPU_KVCACHE_SPACE", "VLLM_API_KEY", "VLLM_PLUGINS", "VLLM_USE_MODELSCOPE", "VLLM_PORT")


def on_cpu() -> bool:
    """Whether the installed vLLM is the CPU build, which is a distribution of its own."""
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def vllm_command(
    settings: Settings, name: str, model_dir: Path, environ: Mapping[str, str], cpu: bool
) -> EngineCommand:
    """The command for engine ``name``, serving ``model_dir``."""
    engine = settings.engines[name]
    own = settings.cache_dir / name
    return EngineCommand(
        argv=(sys.executable, "-m", "vllm.entrypoints.openai.api_server", *_arguments(settings, name, model_dir, cpu)),
        env=_environment(settings, engine, own, environ, cpu)
        | visible_gpus(engine)
        | trace_environment(settings, name),
        cwd=own / "cwd",
        tmp=own / "tmp",
    )


def _arguments(settings: Settings, name: str, model_dir: Path, cpu: bool) -> list[str]:
    engine = settings.engines[name]
    arguments = [
        *("--uds", str(settings.engine_socket(name))),
        *("--model", str(model_dir)),
        *("--served-model-name", str(engine.model)),
        *("--kv-cache-memory-bytes", str(engine.kv_cache_bytes or DEFAULT_KV_BYTES)),
        "--enable-prefix-caching",
        "--disable-uvicorn-access-log",
        "--disable-fastapi-docs",
        # requests may hold prompts; never in a log (this is also vllm's default)
        "--no-enable-log-requests",
    ]
    if endpoint := engine_endpoint(settings):
        arguments += ["--otlp-traces-endpoint", endpoint]
    if cpu:
        arguments.append("--enforce-eager")
    if engine.max_context_tokens:
        arguments += ["--max-model-len", str(engine.max_context_tokens)]
    if engine.max_concurrent:
        arguments += ["--max-num-seqs", str(engine.max_concurrent)]
    if parser := tool_parser(model_dir):
        arguments += ["--enable-auto-tool-choice", "--tool-call-parser", parser]
    # the operator's come last: argparse lets the last one win
    return [*arguments, *model_arguments(settings, str(engine.model)), *engine.extra_args]


def _environment(
    settings: Settings, engine: EngineSettings, own: Path, environ: Mapping[str, str], cpu: bool
) -> dict[str, str]:
    env = {key: value for key, value in environ.items() if key not in _UNWANTED}
    cache = settings.cache_dir
    env |= {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "DO_NOT_TRACK": "1",
        # one box: without this vllm asks the routing table for an address, and warns where there is none
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_RPC_BASE_PATH": str(settings.run),
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
        "VLLM_CONFIG_ROOT": str(cache / "vllm-config"),
        "HF_HOME": str(cache / "huggingface"),
        "XDG_CACHE_HOME": str(cache),
        "TMPDIR": str(own / "tmp"),
        "VLLM_LOGGING_COLOR": "0",
    }
    if cpu:
        env |= cpu_environment(engine.threads, len(os.sched_getaffinity(0)))
    return env


def cpu_environment(threads: int, cores: int) -> dict[str, str]:
    """OpenMP threads on a machine without a GPU, where gateway and speech live on the same cores.

    Not bound to cores, because a bound thread waits for its core while another is idle; one core is left
    to the others; and idle threads sleep instead of spinning away the time the others need.
    """
    return {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads or max(1, cores - 1)),
        "OMP_WAIT_POLICY": "PASSIVE",
        # Eager already; this also switches off the small torch.compile'd helpers of the sampler. Their
        # first use (a request with logprobs) otherwise runs a C++ compiler for 20 s, or fails without one.
        "TORCHDYNAMO_DISABLE": "1",
    }


def tool_parser(model_dir: Path) -> str | None:
    """The tool-call parser that fits the model's chat template, None where it knows no tools."""
    template = chat_template(model_dir)
    if "tools" not in template:
        return None
    return next((parser for mark, parser in _TOOL_PARSERS if mark in template), None)


def chat_template(model_dir: Path) -> str:
    """The model's chat template, wherever its files keep it; empty when it has none."""
    try:
        return (model_dir / "chat_template.jinja").read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    try:
        found = json.loads((model_dir / "tokenizer_config.json").read_bytes()).get("chat_template") or ""
    except (FileNotFoundError, ValueError):
        return ""
    if isinstance(found, list):  # several named templates
        return "\n".join(str(entry.get("template", "")) for entry in found)
    return str(found)
