"""LiteLLM's proxy as a second target of the gateway bench, in a virtual environment of its own.

What it is: one worker, no database, one model that points to the same fake engine, on the same core.
What it refuses to be: part of the appliance. It is installed only when ``--litellm`` asks for it, and
it takes about a minute and 600 MB of disk in the cache directory.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from appliance_bench.gateway_rig import GATEWAY_CORE, BenchError, Target, environment, free_port, process, wait_ready

VERSION = "1.106.2"
_KEY = "sk-bench"


def default_venv() -> Path:
    """Where the environment is kept between runs."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "appliance-bench" / f"litellm-{VERSION}"


def ensure_venv(venv: Path) -> Path:
    """The ``litellm`` command of ``venv``, installed first if need be. Raises BenchError."""
    command = venv / "bin" / "litellm"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", f"litellm[proxy]=={VERSION}"]
        if subprocess.run(pip, check=False).returncode != 0:
            raise BenchError(f"litellm[proxy]=={VERSION} could not be installed; run the bench without --litellm")
    return command


@contextlib.contextmanager
def litellm(work: Path, venv: Path, upstream_url: str) -> Iterator[Target]:
    """The proxy over the fake engine's TCP port."""
    command, port, log, config = ensure_venv(venv), free_port(), work / "litellm.log", work / "litellm.yaml"
    base = upstream_url.removesuffix("/chat/completions")
    config.write_text(
        "model_list:\n  - model_name: fake\n    litellm_params:\n"
        f"      {{model: openai/fake, api_base: '{base}', api_key: none}}\n"
        f"general_settings: {{master_key: {_KEY}}}\n"
    )
    # Its price list comes from the wheel, not from the network, and its access log is off: both in its favour.
    env = environment({"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "PYTHONPATH": ""})
    argv = [str(command), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--num_workers", "1", "--telemetry", "False"]
    with process(argv, GATEWAY_CORE, log, env) as child:
        wait_ready(f"http://127.0.0.1:{port}/health/liveliness", child, log, 120)
        yield Target("litellm", f"http://127.0.0.1:{port}/v1/chat/completions", child.pid, _KEY)
