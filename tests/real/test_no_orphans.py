"""The real vLLM: it boots without a network, and nothing of it outlives a freeze or ``serve``."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from real.served import Appliance, make_home
from support import alive, wait_until

from appliance.supervisor import processes
from appliance.supervisor.exits import Exit
from appliance.supervisor.heartbeat import read
from appliance.supervisor.probe import fetch

READY_WITHIN_S = 240.0
GONE_WITHIN_S = 5.0
HEARTBEAT_S = 5.0
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

    def busy(self) -> bool:
        beat = read(self.home / "run/chat.sock", "vllm", 0, 5.0)
        return beat is not None and beat.busy > 0


def network_namespaces_work() -> bool:
    return subprocess.run([sys.executable, str(LAUNCHER), "true"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def offline(models_dir: Path, clean_environ: dict[str, str]) -> Iterator[OfflineRun]:
    home, isolated = make_home(models_dir), network_namespaces_work()
    (home / "appliance.toml").write_text(
        f'[engines.chat]\nkind = "vllm"\nmodel = "smollm2-135m-instruct"\nheartbeat_s = {HEARTBEAT_S}\n'
    )
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


def test_frozen_for_longer_than_the_heartbeat(offline: OfflineRun) -> None:
    below = processes.descendants(offline.process.pid)
    shared = processes.shared_memory(below)
    assert {"VLLM::EngineCore", "VLLM::Worker"} <= names(below) and shared
    core = next(pid for pid in below if names({pid}) == {"VLLM::EngineCore"})
    ask = {"model": "smollm2-135m-instruct", "prompt": "Once upon a time", "max_tokens": 4000, "ignore_eos": True}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(fetch, offline.home / "run/chat.sock", "POST", "/v1/completions", ask, 120.0)
        wait_until(lambda: offline.busy(), 20, "it worked on the request")
        os.kill(core, signal.SIGSTOP)  # the API server lives on
        assert fetch(offline.home / "run/chat.sock", "GET", "/metrics")[0] == 200
        try:  # vLLM's API server answers 500 when it has killed its core, or dies with the connection open
            status, body = answer.result(150)
            assert status >= 500, body[:300]
        except (OSError, HTTPException):
            pass
    assert offline.process.wait(20) == Exit.HUNG
    state = offline.state()
    assert (state["phase"], state["exit"]) == ("failed", "hung")
    assert "with 1 requests in it" in state["detail"]
    assert not any(alive(pid) for pid in below)
    left = [path.name for path in (offline.home / "run").iterdir() if path.is_socket()]
    assert left == []  # no ZeroMQ socket stays behind either
    assert not any(Path(path).exists() for path in shared)


def test_a_kv_cache_that_does_not_fit(models_dir: Path, clean_environ: dict[str, str]) -> None:
    home = make_home(models_dir)
    (home / "appliance.toml").write_text(
        f'[engines.chat]\nkind = "vllm"\nmodel = "smollm2-135m-instruct"\nkv_cache_bytes = {1 << 46}\n'
    )
    try:
        done = subprocess.run(
            (sys.executable, "-m", "appliance", "engine", "run", "chat"),
            env={**clean_environ, "APPLIANCE_HOME": str(home)},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=READY_WITHIN_S,
        )
        assert done.returncode == Exit.OUT_OF_MEMORY, done.stderr
        assert "requested memory for kv" in done.stderr
        assert "the next start is one memory profile down (1)" in done.stderr
        history = json.loads((home / "engines/chat.json").read_text())
        assert (history["profile"], history["endings"][0]["what"]) == (1, "out_of_memory")
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_kill_9_of_serve(appliance: Appliance) -> None:
    below = appliance.below()
    shared = processes.shared_memory(below)
    assert {"VLLM::EngineCore", "VLLM::Worker"} <= names(below)
    appliance.process.kill()
    wait_until(lambda: not any(alive(pid) for pid in below), GONE_WITHIN_S, "everything below serve was gone")
    wait_until(lambda: not any(Path(path).exists() for path in shared), GONE_WITHIN_S, "no shared memory was left")
