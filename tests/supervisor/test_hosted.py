"""``appliance engine run`` of a hosted engine: supervised as any, ready without a cent, its key on no command line."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support import wait_until

from appliance.settings import load_settings
from appliance.supervisor.exits import Exit
from appliance.supervisor.planned import wants
from appliance.supervisor.probe import fetch, shown_by

START_S = 30.0
Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def fake(spawn: Spawn) -> Iterator[str]:
    """The address of a fake Gemini."""
    process = spawn("-m", "appliance.hosts.fake_gemini")
    assert process.stdout is not None
    yield process.stdout.readline().removeprefix("listening on ").strip()


def configure(home: Path, url: str, key: str = "AIza-of-this-test") -> None:
    (home / "gemini.key").write_text(key)
    (home / "appliance.toml").write_text(
        f'[engines.gemini]\nkind = "hosted"\nurl = "{url}"\napi_key_file = "gemini.key"\n'
        '[engines.gemini.hosted]\nregion = "global"\nother_address = true\n'
    )


def state(home: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((home / "run/gemini.json").read_text())
    except FileNotFoundError:
        return {"phase": None}
    return found


def test_it_is_ready_without_a_generation_and_its_gateway_may_reach_it(spawn: Spawn, home: Path, fake: str) -> None:
    configure(home, fake)
    process = spawn("-m", "appliance", "engine", "run", "gemini")
    wait_until(lambda: state(home)["phase"] == "ready" or process.poll() is not None, START_S, "it is ready")
    found = state(home)
    assert (found["phase"], found["kind"], found["region"]) == ("ready", "hosted", "global")
    assert (found["models"], found["context_tokens"]) == (["gemini-3.1-flash-lite"], 1_048_576)
    assert (home / "run/gemini.json").stat().st_mode & 0o777 == 0o640
    assert (home / "run/gemini.sock").stat().st_mode & 0o777 == 0o660
    assert (home / "run").stat().st_mode & 0o777 == 0o700
    connection = http.client.HTTPConnection(str(urlsplit(fake).hostname), urlsplit(fake).port or 0, timeout=5)
    connection.request("GET", "/debug/counters")
    assert json.loads(connection.getresponse().read())["finished"] == 0
    connection.close()
    arguments = Path(f"/proc/{found['engine_pid']}/cmdline").read_bytes()
    assert b"AIza" not in arguments and b"--engine" in arguments
    status, metrics = fetch(home / "run/gemini.sock", "GET", "/metrics")
    assert status == 200 and b"appliance_host_running 0" in metrics
    process.terminate()
    assert process.wait(20) == Exit.STOPPED
    assert "AIza" not in (home / "logs/gemini.log").read_text()


def test_a_key_file_that_is_not_there_is_not_tried_again(spawn: Spawn, home: Path) -> None:
    configure(home, "http://127.0.0.1:9")
    (home / "gemini.key").unlink()
    process = spawn("-m", "appliance", "engine", "run", "gemini")
    assert process.wait(START_S) == Exit.BAD_ARGUMENTS
    assert "api_key_file" in state(home)["detail"]


def test_the_memory_plan_knows_nothing_of_it(home: Path) -> None:
    configure(home, "http://127.0.0.1:9")
    settings = load_settings({"APPLIANCE_HOME": str(home)})
    assert wants(settings, on_gpu=False) == []
    assert shown_by(settings.engines["gemini"]) == "hosted"
