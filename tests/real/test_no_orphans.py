"""The real vLLM: it boots without a network, and nothing of it outlives its API server or ``serve``.

kill -9 of the API server alone used to leave EngineCore and Worker alive with 2.8 GB (serving.md).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from real.served import Appliance, make_home
from support import alive, wait_until

from appliance.supervisor import processes
from appliance.supervisor.exits import Exit

READY_WITHIN_S = 240.0
GONE_WITHIN_S = 5.0
LAUNCHER = Path(__file__).with_name("loopback_only.py")


@dataclass
class OfflineRun:
    """``appliance engine run chat`` with loopback only, and whether the namespace was permitted."""

    process: subprocess.Popen[bytes]
    home: Path
    isolated: bool

    def state(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.home / "run/chat.json").read_text())
        except FileNotFoundError:
            return {"phase": None}
        return found


def network_namespaces_work() -> bool:
    return subprocess.run([sys.executable, str(LAUNCHER), "true"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def offline(models_dir: Path, clean_environ: dict[str, str]) -> Iterator[OfflineRun]:
    home, isolated = make_home(models_dir), network_namespaces_work()
    launcher = (sys.executable, str(LAUNCHER)) if isolated else ()
    process = subprocess.Popen(
        (*launcher, sys.executable, "-m", "appliance", "engine", "run", "chat"),
        env={**clean_environ, "APPLIANCE_HOME": str(home)},
        cwd=home,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    run = OfflineRun(process, home, isolated)
    try:
        wait_until(
            lambda: run.state()["phase"] == "ready" or process.poll() is not None, READY_WITHIN_S, "vLLM was ready"
        )
        yield run
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        shutil.rmtree(home, ignore_errors=True)


def names(pids: set[int]) -> set[str]:
    """Process titles, for example ``VLLM::EngineCore``."""
    found = set()
    for pid in pids:
        try:
            found.add(Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].decode())
        except FileNotFoundError:
            continue
    return found


def test_vllm_boots_with_loopback_only_and_answers(offline: OfflineRun) -> None:
    if not offline.isolated:
        pytest.skip("this machine permits no network namespaces (unshare -n)")
    log = (offline.home / "logs/chat.log").read_text(errors="replace")
    assert offline.state()["phase"] == "ready", log[-3000:]  # ready means that it gave one real token
    assert not re.search(r"huggingface\.co|Temporary failure in name resolution|Max retries exceeded", log)


def test_kill_9_of_the_api_server(offline: OfflineRun) -> None:
    below = processes.descendants(offline.process.pid)
    assert {"VLLM::EngineCore", "VLLM::Worker"} <= names(below)
    os.kill(offline.state()["engine_pid"], signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in below), GONE_WITHIN_S, "EngineCore and Worker were gone")
    assert offline.process.wait(10) == Exit.KILLED
    assert offline.state()["phase"] == "failed"
    left = [path.name for path in (offline.home / "run").iterdir() if path.is_socket()]
    assert left == []  # no ZeroMQ socket stays behind either


def test_kill_9_of_serve(appliance: Appliance) -> None:
    below = appliance.below()
    assert {"VLLM::EngineCore", "VLLM::Worker"} <= names(below)
    appliance.process.kill()
    wait_until(lambda: not any(alive(pid) for pid in below), GONE_WITHIN_S, "everything below serve was gone")
