"""``appliance serve`` on the real engines, as a person meets it."""

from __future__ import annotations

import json
import subprocess

from real.served import Appliance
from support import wait_until


def test_the_printed_curl_line_answers(appliance: Appliance) -> None:
    curl = next(line for line in appliance.log.splitlines() if line.startswith("  curl "))
    answer = subprocess.run(["sh", "-c", curl + " --silent"], capture_output=True, text=True, timeout=60)
    assert "New Delhi" in json.loads(answer.stdout)["choices"][0]["message"]["content"]


def test_the_context_length_of_the_real_model_is_known(appliance: Appliance) -> None:
    assert appliance.state("chat")["context_tokens"] == 8192


def test_vllm_never_runs_in_the_repository_and_logs_no_prompt(appliance: Appliance) -> None:
    cwd = (appliance.home / "cache/chat/cwd").resolve()
    pid = appliance.state("chat")["engine_pid"]
    wait_until(lambda: cwd.exists(), 1, "the engine's own directory existed")
    assert subprocess.run(["readlink", f"/proc/{pid}/cwd"], capture_output=True, text=True).stdout.strip() == str(cwd)
    assert "capital of India" not in appliance.engine_log("chat")
