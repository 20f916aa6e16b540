"""``appliance engine run`` with the shipped fake engine: state, commands, exit codes, leftovers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import alive, wait_until

from appliance.supervisor.exits import Exit

START_S = 20.0
Spawn = Callable[..., "subprocess.Popen[str]"]


def configure(home: Path, *arguments: str, extra: str = "") -> None:
    home.joinpath("appliance.toml").write_text(
        f'[engines.e]\nkind = "fake"\nmodel = "m"\nextra_args = {json.dumps(arguments)}\n{extra}\n'
    )


def state(home: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((home / "run/e.json").read_text())
    except FileNotFoundError:
        return {"phase": None}
    return found


def run(spawn: Spawn, home: Path, *, until: str = "ready") -> subprocess.Popen[str]:
    process = spawn("-m", "appliance", "engine", "run", "e")
    wait_until(lambda: state(home)["phase"] == until or process.poll() is not None, START_S, f"phase {until}")
    return process


def ask(home: Path, line: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(home / "run/e.ctl"))
        connection.sendall(line + b"\n")
        with connection.makefile("rb") as lines:
            answer: dict[str, Any] = json.loads(lines.readline())
    return answer


def test_ready_is_written_once_the_engine_answers(spawn: Spawn, home: Path) -> None:
    configure(home)
    process = run(spawn, home)
    found = state(home)
    assert found["phase"] == "ready"
    assert found["address"] == str(home / "run/e.sock")
    assert found["models"] == ["m"]
    assert found["context_tokens"] == 8192
    assert found["supervisor_pid"] == process.pid
    assert alive(found["engine_pid"]) and os.getpgid(found["engine_pid"]) == found["engine_pid"]
    assert (home / "run").stat().st_mode & 0o777 == 0o700
    assert (home / "run/e.ctl").stat().st_mode & 0o777 == 0o600


def test_it_is_starting_until_then(spawn: Spawn, home: Path) -> None:
    configure(home, "--fault", "slow_start=300")
    process = run(spawn, home, until="starting")
    found = state(home)
    assert (found["phase"], found["detail"]) == ("starting", "loading m")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == Exit.STOPPED
    assert state(home)["phase"] == "stopped"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_engine_and_exits_0(spawn: Spawn, home: Path, number: signal.Signals) -> None:
    configure(home)
    process = run(spawn, home)
    engine = state(home)["engine_pid"]
    process.send_signal(number)
    assert process.wait(20) == Exit.STOPPED
    assert not alive(engine)
    assert state(home)["phase"] == "stopped"
    assert not (home / "run/e.sock").exists() and not (home / "run/e.ctl").exists()


def test_commands(spawn: Spawn, home: Path) -> None:
    configure(home)
    process = run(spawn, home)
    assert ask(home, b'{"op": "status"}') == {"ok": True, "state": state(home), "swap": None}
    assert ask(home, b'{"op": "dance"}') == {
        "ok": False,
        "error": "unknown operation 'dance'; known: restart, status, stop, swap",
    }
    assert ask(home, b"[1") == {"ok": False, "error": "send one JSON object a line"}
    assert ask(home, b'{"op": "stop"}') == {"ok": True}
    assert process.wait(20) == Exit.STOPPED


def test_a_killed_engine_is_told_from_a_crashed_one(spawn: Spawn, home: Path) -> None:
    configure(home)
    process = run(spawn, home)
    os.kill(state(home)["engine_pid"], signal.SIGKILL)
    assert process.wait(20) == Exit.KILLED
    assert state(home)["phase"] == "failed"
    assert state(home)["detail"].startswith("was killed by SIGKILL")


def test_a_crash_names_the_engines_last_error_and_the_log(spawn: Spawn, home: Path) -> None:
    configure(home, "--fault", "crash_loop")
    process = run(spawn, home, until="failed")
    assert process.wait(20) == Exit.CRASHED
    detail = state(home)["detail"]
    assert "exited with code 1" in detail
    assert "RuntimeError: fake engine: crash_loop was asked for" in detail
    assert str(home / "logs/e.log") in detail


def test_refused_arguments_are_not_worth_a_restart(spawn: Spawn, home: Path) -> None:
    configure(home, "--no-such-option")
    process = run(spawn, home, until="failed")
    assert process.wait(20) == Exit.BAD_ARGUMENTS
    assert "unrecognized arguments: --no-such-option" in state(home)["detail"]


def test_never_ready(spawn: Spawn, home: Path) -> None:
    configure(home, "--fault", "refuse", extra="ready_within_s = 1.0")
    process = run(spawn, home, until="failed")
    assert process.wait(20) == Exit.NEVER_READY
    assert "gave no answer within 1 s (its socket is not there yet)" in state(home)["detail"]
    assert not alive(state(home)["engine_pid"])


def test_an_engine_that_accepts_and_never_answers_is_never_ready(spawn: Spawn, home: Path) -> None:
    configure(home, "--fault", "connect_hang", extra="ready_within_s = 1.0")
    process = run(spawn, home, until="failed")
    assert process.wait(20) == Exit.NEVER_READY


def test_kill_9_of_the_supervisor_leaves_nothing_and_the_next_run_starts(spawn: Spawn, home: Path) -> None:
    configure(home)
    first = run(spawn, home)
    engine = state(home)["engine_pid"]
    first.kill()
    first.wait()
    wait_until(lambda: not alive(engine), 5, "the engine was gone")
    second = spawn("-m", "appliance", "engine", "run", "e")
    wait_until(lambda: state(home)["supervisor_pid"] == second.pid and state(home)["phase"] == "ready", 20, "ready")


def test_one_supervisor_an_engine(spawn: Spawn, home: Path) -> None:
    configure(home)
    first = run(spawn, home)
    before = state(home)
    second = spawn("-m", "appliance", "engine", "run", "e")
    _, error = second.communicate(timeout=20)
    assert second.returncode == Exit.TAKEN
    assert error == (
        f"error: engine 'e' is already run by process {first.pid};"
        " stop that one first, or wait until its engine is gone\n"
    )
    assert state(home) == before


def test_a_socket_that_a_living_process_listens_on(spawn: Spawn, home: Path) -> None:
    configure(home)
    (home / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(home / "run/e.sock"))
        other.listen()
        process = spawn("-m", "appliance", "engine", "run", "e")
        _, error = process.communicate(timeout=20)
        assert process.returncode == Exit.TAKEN
        assert f"process {os.getpid()} already does" in error and error.count("\n") == 1
        assert (home / "run/e.sock").exists()


def test_a_dead_ones_sockets_are_removed(spawn: Spawn, home: Path) -> None:
    configure(home)
    (home / "run").mkdir()
    stale = home / "run/0f8fad5b-d9cb-469f-a165-70867728950e"
    for path in (stale, home / "run/e.sock"):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
            dead.listen()
    run(spawn, home)
    assert state(home)["phase"] == "ready"
    assert not stale.exists()


def test_the_previous_log_is_kept(spawn: Spawn, home: Path) -> None:
    configure(home)
    (home / "logs").mkdir()
    (home / "logs/e.log").write_text("yesterday\n")
    run(spawn, home)
    assert (home / "logs/e.log.1").read_text() == "yesterday\n"
    assert "listening on" in (home / "logs/e.log").read_text()


@pytest.mark.parametrize(
    ("toml", "code", "says"),
    [
        ('[engines.other]\nkind = "fake"\n', Exit.BAD_ARGUMENTS, "no engine 'e' in appliance.toml; configured: other"),
        ('[engines.e]\nkind = "openai"\nurl = "http://127.0.0.1:1"\n', Exit.BAD_ARGUMENTS, "it runs elsewhere"),
        ('[engines.e]\nkind = "vllm"\nmodel = "absent"\n', Exit.MODEL_MISSING, "appliance models list"),
        ('[engines.e]\nkind = "fake"\nmodle = "m"\n', Exit.BAD_ARGUMENTS, "did you mean 'model'?"),
    ],
)
def test_what_cannot_start_says_why_in_one_sentence(spawn: Spawn, home: Path, toml: str, code: int, says: str) -> None:
    (home / "appliance.toml").write_text(toml)
    process = spawn("-m", "appliance", "engine", "run", "e")
    _, error = process.communicate(timeout=20)
    assert process.returncode == code
    assert says in error and error.startswith("error: ") and error.count("\n") == 1
