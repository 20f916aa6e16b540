"""Another model in an engine's place, with the shipped fake engine and a gateway's view of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import alive, wait_until

from appliance.supervisor.exits import Exit
from appliance.supervisor.probe import fetch

Spawn = Callable[..., "subprocess.Popen[str]"]
NEVER_FITS = 10**16


def configure(home: Path, *arguments: str, kv_cache_bytes: int = 1 << 20, extra: str = "") -> None:
    home.joinpath("appliance.toml").write_text(
        f'[engines.e]\nkind = "fake"\nmodel = "old"\nkv_cache_bytes = {kv_cache_bytes}\n{extra}\n'
        f"extra_args = {json.dumps(arguments)}\n"
    )


def state(home: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((home / "run/e.json").read_text())
    except FileNotFoundError:
        return {"phase": None}
    return found


def run(spawn: Spawn, home: Path) -> subprocess.Popen[str]:
    process = spawn("-m", "appliance", "engine", "run", "e")
    wait_until(lambda: state(home)["phase"] == "ready" or process.poll() is not None, 20, "ready")
    return process


def swap(spawn: Spawn, model: str) -> tuple[int, str, str]:
    process = spawn("-m", "appliance", "engine", "swap", "e", model)
    out, error = process.communicate(timeout=60)
    return process.returncode, out, error


def complete(home: Path, model: str, text: str = "hello") -> int:
    status, _ = fetch(Path(state(home)["address"]), "POST", "/v1/completions", {"model": model, "prompt": text})
    return status


def test_the_old_one_serves_until_the_new_one_answers_and_finishes_what_it_has(spawn: Spawn, home: Path) -> None:
    configure(home, "--chunk-ms", "50", "--chunks", "60")
    supervisor = run(spawn, home)
    before, answers = state(home), []
    caller = threading.Thread(target=lambda: answers.append(complete(home, "old")))  # takes 3 s
    caller.start()
    code, out, error = swap(spawn, "new")
    assert (code, error) == (0, "")
    assert out == "old was swapped for new without a pause\n"
    caller.join(20)
    assert answers == [200]
    after = state(home)
    assert (after["phase"], after["models"], after["supervisor_pid"]) == ("ready", ["new"], supervisor.pid)
    assert after["address"] == str(home / "run/e.b.sock")
    assert not alive(before["engine_pid"]) and not Path(before["address"]).exists()
    assert complete(home, "new") == 200


def test_back_again_uses_the_first_place(spawn: Spawn, home: Path) -> None:
    configure(home)
    run(spawn, home)
    assert swap(spawn, "new")[0] == 0
    assert swap(spawn, "old")[0] == 0
    assert state(home)["address"] == str(home / "run/e.sock")


def test_a_swapped_model_survives_a_crash(spawn: Spawn, home: Path) -> None:
    configure(home)
    first = run(spawn, home)
    assert swap(spawn, "new")[0] == 0
    os.kill(state(home)["engine_pid"], signal.SIGKILL)
    assert first.wait(20) == Exit.KILLED
    run(spawn, home)
    assert state(home)["models"] == ["new"]


def test_where_both_do_not_fit_the_old_one_goes_first_and_it_says_so(spawn: Spawn, home: Path) -> None:
    configure(home, "--fault", "slow_start=1", kv_cache_bytes=NEVER_FITS)
    run(spawn, home)
    old = state(home)["engine_pid"]
    swapping = spawn("-m", "appliance", "engine", "swap", "e", "new")
    wait_until(lambda: state(home)["phase"] == "swapping", 10, "it was swapping")
    found = state(home)
    assert found["models"] == ["new"]  # requests for it may wait
    assert "both do not fit (10000000.3 GB needed" in found["detail"]
    assert "requests wait up to 60 s" in found["detail"]
    out, _ = swapping.communicate(timeout=60)
    assert swapping.returncode == 0 and "so requests had to wait" in out
    assert state(home)["phase"] == "ready" and not alive(old)


def test_a_model_that_does_not_start_leaves_the_old_one_serving(spawn: Spawn, home: Path) -> None:
    configure(home)
    run(spawn, home)
    old = state(home)["engine_pid"]
    configure(home, "--fault", "crash_loop")  # read again at a restart only: this run knows the file as it was
    code, _, error = swap(spawn, "")
    assert (code, error) == (1, "error: name a model to swap to\n")
    code, _, error = swap(spawn, "old")
    assert (code, error) == (1, "error: engine 'e' serves 'old' already\n")
    assert state(home)["engine_pid"] == old and complete(home, "old") == 200


def test_an_old_one_that_had_to_go_is_brought_back(spawn: Spawn, home: Path) -> None:
    configure(home, kv_cache_bytes=NEVER_FITS)
    run(spawn, home)
    (home / "cache/e.b").mkdir(parents=True)
    (home / "cache/e.b/cwd").write_text("in the way")
    code, _, error = swap(spawn, "new")
    assert code == 1
    assert "old serves again" in error
    assert (state(home)["phase"], state(home)["models"]) == ("ready", ["old"])
    assert complete(home, "old") == 200


def test_a_stop_in_the_middle_of_a_swap_leaves_nothing(spawn: Spawn, home: Path) -> None:
    configure(home, "--fault", "slow_start=1")
    process = run(spawn, home)
    swapping = spawn("-m", "appliance", "engine", "swap", "e", "new")
    wait_until(lambda: "beside old" in state(home)["detail"], 10, "both were there")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == Exit.STOPPED
    swapping.communicate(timeout=20)
    assert list((home / "run").glob("*.sock")) == []


def test_swapping_what_does_not_run(spawn: Spawn, home: Path) -> None:
    configure(home)
    code, _, error = swap(spawn, "new")
    assert code == 1
    assert error == "error: engine 'e' does not run; start it first, or set its model in appliance.toml\n"
