"""``appliance engine run`` with an engine that misbehaves: what it is called, that it is gone, and what comes next."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import alive, wait_until

from appliance.supervisor import processes
from appliance.supervisor.exits import Exit
from appliance.supervisor.probe import fetch

Spawn = Callable[..., "subprocess.Popen[str]"]
START_S = 20.0


def configure(home: Path, *arguments: str, **extra: object) -> None:
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in extra.items())
    home.joinpath("appliance.toml").write_text(
        f'[engines.e]\nkind = "fake"\nmodel = "m"\nextra_args = {json.dumps(arguments)}\n{lines}'
    )


def state(home: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((home / "run/e.json").read_text())
    except FileNotFoundError:
        return {"phase": None}
    return found


def ends(home: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((home / "engines/e.json").read_text())["endings"]
    return found


def run(spawn: Spawn, home: Path, until: str = "ready") -> subprocess.Popen[str]:
    process = spawn("-m", "appliance", "engine", "run", "e")
    wait_until(lambda: state(home)["phase"] == until or process.poll() is not None, START_S, f"phase {until}")
    return process


def test_a_hang_while_health_says_200_ends_the_engine_and_is_called_hung(spawn: Spawn, home: Path) -> None:
    configure(home, "--fault", "hang_after=1", heartbeat_s=0.5)
    process = run(spawn, home)
    engine, socket = state(home)["engine_pid"], home / "run/e.sock"
    assert fetch(socket, "GET", "/health")[0] == 200  # its one answer was the supervisor's own question
    assert process.wait(20) == Exit.HUNG
    assert not alive(engine)
    found = state(home)
    assert (found["phase"], found["exit"]) == ("failed", "hung")
    assert "a question of one token in it" in found["detail"]
    assert [(end["what"], end["code"], end["model"]) for end in ends(home)] == [("hung", 74, "m")]


def test_a_request_that_stands_still_is_hung_and_its_caller_hears_of_it(spawn: Spawn, home: Path) -> None:
    configure(home, heartbeat_s=0.5)
    process = run(spawn, home)
    ask = {"model": "m", "prompt": "[[fault:hang]]"}
    with pytest.raises((OSError, http.client.HTTPException)):
        fetch(home / "run/e.sock", "POST", "/v1/completions", ask, timeout_s=20)
    assert process.wait(20) == Exit.HUNG
    assert "with 1 requests in it" in state(home)["detail"]


def test_a_frozen_engine_is_hung(spawn: Spawn, home: Path) -> None:
    configure(home, heartbeat_s=0.5)
    process = run(spawn, home)
    engine = state(home)["engine_pid"]
    os.kill(engine, signal.SIGSTOP)
    assert process.wait(20) == Exit.HUNG
    assert not alive(engine)
    assert "its counters gave no answer" in state(home)["detail"]


def test_a_slow_answer_is_no_hang(spawn: Spawn, home: Path) -> None:
    # 1.2 s without a token at a heartbeat of 0.3 s: this fake's prefill speed allows a step of 1.6 s more
    configure(home, "--ttft-ms", "1200", "--max-model-len", "64", heartbeat_s=0.3)
    process = run(spawn, home)
    for _ in range(2):
        assert fetch(home / "run/e.sock", "POST", "/v1/completions", {"model": "m", "prompt": "hello"})[0] == 200
    assert process.poll() is None


def test_out_of_memory_steps_down_a_profile_and_the_next_run_knows(spawn: Spawn, home: Path) -> None:
    configure(home, "--fault", "oom_start")
    for profile in (0, 1):
        process = run(spawn, home, until="failed")
        assert process.wait(20) == Exit.OUT_OF_MEMORY
        assert ends(home)[-1]["profile"] == profile
        assert f"the next start is one memory profile down ({profile + 1})" in state(home)["detail"]
        (home / "run/e.json").unlink()
    path = home / "engines/e.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "profile": 3}))
    assert run(spawn, home, until="failed").wait(20) == Exit.OUT_OF_MEMORY
    assert "there is no smaller memory profile: choose a smaller model" in state(home)["detail"]
    assert [(end["what"], end["profile"]) for end in ends(home)] == [("out_of_memory", n) for n in (0, 1, 3)]


def test_a_changed_setting_starts_at_the_first_profile_again(spawn: Spawn, home: Path) -> None:
    configure(home, "--fault", "oom_start")
    run(spawn, home, until="failed").wait(20)
    configure(home)
    run(spawn, home)
    assert state(home)["profile"] == 0


def test_an_orphan_of_the_engine_goes_with_it(spawn: Spawn, home: Path) -> None:
    configure(home, "--fault", "orphan")
    process = run(spawn, home)
    printed = re.search(r"orphan (\d+)", (home / "logs/e.log").read_text())
    assert printed is not None
    orphan = int(printed[1])
    assert alive(orphan) and orphan in processes.descendants(process.pid)
    os.kill(state(home)["engine_pid"], signal.SIGKILL)
    assert process.wait(20) == Exit.KILLED
    assert not alive(orphan)


def test_garbage_on_the_socket_is_never_ready(spawn: Spawn, home: Path) -> None:
    configure(home, "--fault", "garbage", ready_within_s=1.0)
    process = run(spawn, home, until="failed")
    assert process.wait(20) == Exit.NEVER_READY
    # which of them is a matter of who is faster: the fake hangs up once it has said its garbage
    assert re.search("its socket gave (BadStatusLine|BrokenPipe|ConnectionReset)", state(home)["detail"])


def test_a_guard_that_does_not_move_keeps_nothing_alive(spawn: Spawn, home: Path) -> None:
    configure(home)
    process = run(spawn, home)
    engine = state(home)["engine_pid"]
    (guard,) = (pid for pid in processes.descendants(process.pid) if engine in processes.descendants(pid))
    os.kill(guard, signal.SIGKILL)
    assert process.wait(20) == Exit.KILLED
    wait_until(lambda: not alive(engine), 5, "the engine was gone")


def test_a_restart_that_was_asked_for_has_a_code_of_its_own(spawn: Spawn, home: Path) -> None:
    configure(home)
    process = run(spawn, home)
    done = spawn("-m", "appliance", "engine", "restart", "e")
    assert process.wait(20) == Exit.RESTART
    assert done.wait(20) == 0
    assert (state(home)["phase"], state(home)["detail"]) == ("stopped", "stopped, to be started again, as asked")


def test_stopping_waits_for_requests_under_way(spawn: Spawn, home: Path) -> None:
    configure(home, "--chunk-ms", "100", "--chunks", "12")
    process = run(spawn, home)
    answers: list[int] = []
    ask = {"model": "m", "prompt": "hello"}
    caller = threading.Thread(
        target=lambda: answers.append(fetch(home / "run/e.sock", "POST", "/v1/completions", ask)[0])
    )
    caller.start()
    busy = b"vllm:num_requests_running"
    wait_until(
        lambda: re.search(busy + rb"\S* [1-9]", fetch(home / "run/e.sock", "GET", "/metrics")[1]), 5, "it is running"
    )
    process.send_signal(signal.SIGTERM)
    caller.join(20)
    assert answers == [200]
    assert process.wait(20) == Exit.STOPPED


def test_an_engine_is_gone_when_the_gpus_driver_says_so_too(spawn: Spawn, home: Path) -> None:
    """A dead process can hold a GPU (vllm #42017): the next start has to wait for it."""
    apps, smi = home / "apps", home / "bin/nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(f'#!/bin/sh\ncase "$1" in *compute-apps*) cat {apps};; *) echo 0;; esac\n')
    smi.chmod(0o755)
    apps.write_text("")
    configure(home)
    process = spawn("-m", "appliance", "engine", "run", "e", PATH=f"{smi.parent}:{os.environ['PATH']}")
    wait_until(lambda: state(home)["phase"] == "ready", START_S, "ready")
    engine = state(home)["engine_pid"]
    apps.write_text(f"{engine}, 70000\n")
    os.kill(engine, signal.SIGKILL)
    wait_until(lambda: not alive(engine), 5, "the engine was gone")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    apps.write_text("")
    assert process.wait(20) == Exit.KILLED
    assert "GPU" not in state(home)["detail"]
