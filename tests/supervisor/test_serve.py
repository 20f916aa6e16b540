"""``appliance serve`` with the real gateway and fake engines: order, restarts, stopping, nothing left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import alive, wait_until

from appliance.settings import EngineSettings, ServerSettings, Settings
from appliance.supervisor import processes
from appliance.supervisor.exits import Exit
from appliance.supervisor.network import free_port
from appliance.supervisor.serve import Serve

START_S = 40.0
Spawn = Callable[..., "subprocess.Popen[str]"]


class Served:
    """A running ``appliance serve`` and the lines it has printed."""

    def __init__(self, home: Path, environ: dict[str, str], env: dict[str, str]) -> None:
        self.home = home
        self.port = free_port("127.0.0.1")
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            (sys.executable, "-m", "appliance", "serve"),
            env={**environ, "APPLIANCE_PORT": str(self.port), **env},
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def close(self) -> None:
        """Stop it if it still runs. Its children hold the pipe too, so the reader ends with the last of them."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def said(self, pattern: str) -> bool:
        return any(re.search(pattern, line) for line in list(self.lines))

    def wait_for(self, pattern: str, within_s: float = START_S) -> None:
        wait_until(lambda: self.said(pattern) or self.process.poll() is not None, within_s, f"it said {pattern!r}")
        assert self.said(pattern), self.lines

    def everything_below(self) -> set[int]:
        return processes.descendants(self.process.pid)

    def state(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / f"run/{name}.json").read_text())
        return found

    def supervisor_of(self, name: str) -> int:
        return int(self.state(name)["supervisor_pid"])


Serving = Callable[..., Served]


@pytest.fixture
def serving(home: Path, environ: dict[str, str]) -> Iterator[Serving]:
    """``serving(APPLIANCE_HOST=…)`` starts one in this test's home."""
    started: list[Served] = []

    def start(**env: str) -> Served:
        started.append(Served(home, environ, env))
        return started[-1]

    yield start
    for served in started:
        served.close()


def configure(home: Path, **faults: str) -> None:
    toml = ""
    for name in ("chat", "second"):
        arguments = ["--fault", faults[name]] if name in faults else []
        toml += f'[engines.{name}]\nkind = "fake"\nmodel = "{name}-model"\nextra_args = {json.dumps(arguments)}\n'
    (home / "appliance.toml").write_text(toml)


def test_one_after_another_then_a_curl_line_that_works(serving: Serving, home: Path) -> None:
    configure(home, chat="slow_start=1")
    served = serving()
    served.wait_for("base URL")
    order = [re.split(r" in | on ", line)[0] for line in served.lines if re.match("(gateway|chat|second):", line)]
    assert order == [
        "gateway: listening",
        "chat: starting chat-model",
        "chat: ready",
        "second: starting second-model",
        "second: ready",
    ]
    curl = next(line for line in served.lines if line.startswith("  curl "))
    answer = subprocess.run(["sh", "-c", curl + " --silent --fail"], capture_output=True, text=True, timeout=20)
    assert json.loads(answer.stdout)["choices"][0]["message"]["content"]


def test_live_before_any_engine_is_ready(serving: Serving, home: Path) -> None:
    configure(home, chat="slow_start=300")
    served = serving()
    served.wait_for("gateway: listening")
    assert httpx.get(f"http://127.0.0.1:{served.port}/health/live").status_code == 200
    assert not served.said("chat: ready")


def test_sigterm_stops_all_and_exits_0(serving: Serving, home: Path) -> None:
    configure(home)
    served = serving()
    served.wait_for("base URL")
    below = served.everything_below()
    assert len(below) >= 7  # the gateway, and a supervisor, a guard and an engine twice
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(20) == 0
    assert not any(alive(pid) for pid in below)
    assert served.state("chat")["phase"] == "stopped"


def test_kill_9_leaves_nothing_alive(serving: Serving, home: Path) -> None:
    configure(home)
    served = serving()
    served.wait_for("base URL")
    below = served.everything_below()
    served.process.kill()
    wait_until(lambda: not any(alive(pid) for pid in below), 5, "everything below was gone")


@pytest.mark.parametrize("victim", ["engine_pid", "supervisor_pid"])
def test_a_killed_engine_or_supervisor_comes_back(serving: Serving, home: Path, victim: str) -> None:
    configure(home)
    served = serving()
    served.wait_for("base URL")
    before = served.state("chat")
    os.kill(before[victim], signal.SIGKILL)
    served.wait_for("chat: .*starting it again in 1 s")
    wait_until(
        lambda: served.state("chat")["phase"] == "ready" and served.supervisor_of("chat") != before["supervisor_pid"],
        START_S,
        "chat was ready again",
    )
    assert not alive(before["engine_pid"])


def test_a_killed_gateway_comes_back(serving: Serving, home: Path) -> None:
    configure(home)
    served = serving()
    served.wait_for("base URL")
    engines = {served.supervisor_of(name) for name in ("chat", "second")}
    guards = {pid for pid in served.everything_below() if processes.parents().get(pid) == served.process.pid} - engines
    assert len(guards) == 1
    os.kill(guards.pop(), signal.SIGKILL)
    served.wait_for("gateway: listening on .* again")


def test_an_engine_that_cannot_start_keeps_nobody_else_from_it(serving: Serving, home: Path) -> None:
    (home / "appliance.toml").write_text(
        '[engines.chat]\nkind = "vllm"\nmodel = "absent"\n[engines.second]\nkind = "fake"\nmodel = "m"\n'
    )
    served = serving()
    served.wait_for("base URL")
    assert served.said("^chat: failed and not started again: model 'absent' is not there: .*make models")
    assert served.said("^second: ready")
    assert served.said("^not running: chat")


def test_two_on_one_home(serving: Serving, spawn: Spawn, home: Path) -> None:
    configure(home)
    first = serving()
    first.wait_for("gateway: listening")
    second = spawn("-m", "appliance", "serve", APPLIANCE_PORT=str(free_port("127.0.0.1")))
    _, error = second.communicate(timeout=20)
    assert second.returncode == Exit.TAKEN
    assert error == (
        f"error: the appliance in {home} is already served by process {first.process.pid};"
        " stop that one, or set APPLIANCE_HOME to another directory\n"
    )
    assert first.process.poll() is None


def test_a_port_in_use(serving: Serving, spawn: Spawn, home: Path) -> None:
    configure(home)
    first = serving()
    first.wait_for("gateway: listening")
    other = spawn("-m", "appliance", "serve", APPLIANCE_PORT=str(first.port), APPLIANCE_HOME=str(home / "other"))
    _, error = other.communicate(timeout=20)
    assert other.returncode == Exit.TAKEN
    assert error.startswith(f"error: cannot listen on 127.0.0.1:{first.port} (Address already in use)")
    assert error.count("\n") == 1


def test_a_gateway_that_does_not_start_ends_it_with_a_sentence(spawn: Spawn, home: Path) -> None:
    configure(home)
    (home / "ledger.db").write_bytes(b"this is not a database, " * 100)
    process = spawn("-m", "appliance", "serve", APPLIANCE_PORT=str(free_port("127.0.0.1")))
    _, error = process.communicate(timeout=30)
    assert process.returncode == Exit.CRASHED
    assert error.splitlines()[-1].startswith("error: the gateway did not start (exit code 1); the reason is above")


def test_a_bind_beyond_loopback_warns_and_names_the_fix(serving: Serving, home: Path) -> None:
    configure(home)
    served = serving(APPLIANCE_HOST="0.0.0.0")
    served.wait_for("gateway: listening on http://127.0.0.1:")
    assert served.said("^warning: 0.0.0.0:.* without TLS.*put a TLS proxy in front.*APPLIANCE_HOST=127.0.0.1")


@pytest.mark.parametrize(
    ("host", "url"), [("0.0.0.0", "http://127.0.0.1:81"), ("::1", "http://[::1]:81"), ("box", "http://box:81")]
)
def test_the_curl_line_quotes_what_a_shell_would_split(tmp_path: Path, host: str, url: str) -> None:
    settings = Settings(
        home=tmp_path / "my home",
        run=tmp_path / "run",
        server=ServerSettings(host=host, port=81),
        engines={"chat": EngineSettings(kind="vllm", model="big")},
    )
    line = Serve(settings, {}, lambda _: None, lambda: 0.0).curl_line()
    assert line.startswith(f"curl {url}/v1/chat/completions ")
    assert f"$(cat '{tmp_path}/my home/admin.key')" in line
    assert '"model":"big"' in line  # no alias points at it
