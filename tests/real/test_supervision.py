"""What supervision reads from the real engines, and a kill under load: errors in time, no orphan, no lost row."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
from real.served import Appliance
from support import alive, wait_until

from appliance.supervisor import heartbeat, processes
from appliance.supervisor.probe import fetch

BACK_WITHIN_S = 240.0
GONE_WITHIN_S = 5.0
ERROR_WITHIN_S = 10.0
CALLERS = 4


def names_of(appliance: Appliance, engine: str) -> set[str]:
    """Every series of the engine's ``/metrics``."""
    _, body = fetch(Path(appliance.state(engine)["address"]), "GET", "/metrics")
    lines = [line for line in body.decode().splitlines() if line and not line.startswith("#")]
    return {line.partition("{")[0].partition(" ")[0] for line in lines}


def test_the_names_of_vllms_counters(appliance: Appliance) -> None:
    """They move between versions: an upgrade that moves one of these must not pass unnoticed."""
    ours = {
        *heartbeat.VLLM_PROGRESS,
        *heartbeat.VLLM_BUSY,
        heartbeat.VLLM_PREFILL_TOKENS,
        heartbeat.VLLM_PREFILL_S,
    }
    assert ours - names_of(appliance, "chat") == set()


def test_the_names_of_the_whisper_hosts_counters(appliance: Appliance) -> None:
    ours = {*heartbeat.HOST_PROGRESS, *heartbeat.HOST_BUSY, heartbeat.HOST_LONGEST_STEP_S}
    assert ours - names_of(appliance, "transcribe") == set()


def test_a_token_is_a_step_of_the_counter(appliance: Appliance) -> None:
    path = Path(appliance.state("chat")["address"])
    before = heartbeat.read(path, "vllm", 8192, 10.0)
    fetch(path, "POST", "/v1/completions", {"model": "smollm2-135m-instruct", "prompt": "one two", "max_tokens": 5})
    after = heartbeat.read(path, "vllm", 8192, 10.0)
    assert before is not None and after is not None
    assert after.progress[0] >= before.progress[0] + 5
    assert after.step_s > 0


def ask(appliance: Appliance, number: int) -> tuple[str, str, float]:
    """One long answer: its verdict, its id, and when it ended. Every second one streams."""
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": "Tell me a very long story about a river."}],
        "max_tokens": 2000,
        "stream": number % 2 == 0,
    }
    headers = {"authorization": f"Bearer {appliance.admin_key}"}
    answer = httpx.post(f"{appliance.base_url}/chat/completions", json=body, headers=headers, timeout=120)
    request_id = answer.headers["x-request-id"]
    if answer.status_code != 200:
        return answer.json()["error"]["code"], request_id, time.monotonic()
    if not body["stream"]:
        return "ok", request_id, time.monotonic()
    last = [line for line in answer.text.split("\n\n") if line][-1]
    verdict = "ok" if last == "data: [DONE]" else json.loads(last.removeprefix("data: "))["error"]["code"]
    return verdict, request_id, time.monotonic()


def test_kill_9_of_the_api_server_under_load(appliance: Appliance) -> None:
    """kill -9 of the API server alone used to leave EngineCore and Worker alive with 2.8 GB (serving.md)."""
    state = appliance.state("chat")
    tree = processes.descendants(state["supervisor_pid"])
    shared = processes.shared_memory(tree)
    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(ask, appliance, number) for number in range(CALLERS)]

        def all_running() -> bool:
            beat = heartbeat.read(Path(state["address"]), "vllm", 8192, 10.0)
            return beat is not None and beat.busy >= CALLERS

        wait_until(all_running, 60, "all of them were in the engine")
        os.kill(state["engine_pid"], signal.SIGKILL)
        killed = time.monotonic()
        answers = [caller.result(60) for caller in callers]
    assert {verdict for verdict, _, _ in answers} <= {"engine_failed", "engine_unavailable"}
    assert max(at for _, _, at in answers) - killed < ERROR_WITHIN_S
    wait_until(lambda: not any(alive(pid) for pid in tree), GONE_WITHIN_S, "EngineCore and Worker were gone")
    assert not any(Path(path).exists() for path in shared)
    with closing(sqlite3.connect(f"file:{appliance.home}/ledger.db?mode=ro", uri=True)) as ledger:
        for _, request_id, _ in answers:
            rows = list(ledger.execute("SELECT status FROM requests WHERE id = ?", (request_id,)))
            assert rows == [("failed",)]
    wait_until(lambda: "killed by SIGKILL" in appliance.log, 10, "serve said why")
    wait_until(
        lambda: (
            appliance.state("chat")["phase"] == "ready"
            and appliance.state("chat")["supervisor_pid"] != state["supervisor_pid"]
        ),
        BACK_WITHIN_S,
        "the engine was back",
    )
    wait_until(lambda: ask_short(appliance) == 200, 10, "and answers")


def ask_short(appliance: Appliance) -> int:
    body = {"model": "default", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    headers = {"authorization": f"Bearer {appliance.admin_key}"}
    return httpx.post(f"{appliance.base_url}/chat/completions", json=body, headers=headers, timeout=60).status_code
