"""What the plan gives is what vLLM has: the session's engine against ``appliance plan``."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import httpx
import pytest
from real.served import Appliance

from appliance.settings import load_settings
from appliance.supervisor.planned import holders, own_of
from appliance.supervisor.vllm import on_cpu


def test_vllm_reports_the_cache_and_the_limits_of_the_plan(appliance: Appliance, clean_environ: dict[str, str]) -> None:
    done = subprocess.run(
        (sys.executable, "-m", "appliance", "plan", "--json"),
        env={**clean_environ, "APPLIANCE_HOME": str(appliance.home)},
        cwd=appliance.home,
        capture_output=True,
        text=True,
        check=True,
    )
    grant = next(each for each in json.loads(done.stdout)["grants"] if each["engine"] == "chat")
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(appliance.run / "chat.sock"))) as client:
        metrics = client.get("http://engine/metrics").text
    info = next(line for line in metrics.splitlines() if line.startswith("vllm:cache_config_info{"))
    reported = dict(re.findall(r'(\w+)="([^"]*)"', info))
    assert int(reported["kv_cache_memory_bytes"]) == grant["kv_bytes"]
    assert int(reported["kv_cache_size_tokens"]) == grant["kv_tokens"]
    assert int(reported["num_gpu_blocks"]) * int(reported["block_size"]) == grant["kv_tokens"]
    assert f"KV cache size: {grant['kv_tokens']:,} tokens" in appliance.engine_log("chat")
    assert appliance.state("chat")["context_tokens"] == grant["context_tokens"]


def test_it_stays_within_its_budget(appliance: Appliance) -> None:
    if not on_cpu():
        pytest.skip("on a GPU the budget is the GPU's, which NVML tells and /proc does not")
    held = holders(load_settings({"APPLIANCE_HOME": str(appliance.home)}))
    assert {each.grant.engine for each in held} == {"chat", "transcribe", "translate"}
    for each in held:
        assert 0 < own_of([each]).ram_bytes <= each.grant.budget_bytes
