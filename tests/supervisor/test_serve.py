"""``appliance serve`` with the real gateway and fake engines: order, restarts, stopping, nothing left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from serving import START_S, Served, configure
from support import alive, wait_until

from appliance.settings import EngineSettings, ServerSettings, Settings, load_settings
from appliance.supervisor import files, history, processes
from appliance.supervisor.exits import Exit
from appliance.supervisor.network import free_port
from appliance.supervisor.serve import Serve

Spawn = Callable[..., "subprocess.Popen[str]"]
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
    assert served.said("^chat: failed and not started again: model 'absent' is not there: .*appliance models list")
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
    line = Serve(settings, {}, lambda _: None, lambda: 0.0).curl_line("chat")
    assert line.startswith(f"curl {url}/v1/chat/completions ")
    assert f"$(cat '{tmp_path}/my home/admin.key')" in line
    assert '"model":"big"' in line  # no alias points at it


def cli(served: Served, *arguments: str) -> subprocess.CompletedProcess[str]:
    """An ``appliance`` command on the served home."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("APPLIANCE_")}
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.run(
        (sys.executable, "-m", "appliance", *arguments),
        env={**environ, "APPLIANCE_HOME": str(served.home), "APPLIANCE_PORT": str(served.port), "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=served.home,
    )


def test_the_breaker_opens_says_why_and_is_closed_by_hand(home: Path, environ: dict[str, str]) -> None:
    """With a clock of its own: the back-off of 1 + 2 + 4 + 8 s passes at once."""
    configure(home, chat="crash_loop")
    settings = load_settings(environ)
    files.make_private(settings.run)
    said: list[str] = []
    serve = Serve(settings, environ, said.append, lambda: 0.0)
    path, now, seen = settings.run / "chat.json", 1000.0, []

    def tick_until(pattern: str) -> None:
        def ticked() -> bool:
            nonlocal now
            now += 0.01
            serve.tick(now)
            return any(re.search(pattern, line) for line in said)

        wait_until(ticked, START_S, f"it said {pattern!r}")

    try:
        for delay in ("1", "2", "4", "8"):
            tick_until(f"^chat: exited with code 1 .*crash_loop was asked for.*; starting it again in {delay} s")
            state = files.read_state(path)
            assert state is not None and state.next_start_unix_s > 0
            seen.append(state.exit)
            now += float(delay)
        tick_until("^chat: failed after 5 crashes in 10 min and not started again: exited with code 1")
        state = files.read_state(path)
        assert state is not None
        assert (state.phase, state.exit, state.next_start_unix_s) == ("failed", "crashed", 0.0)
        assert "crash_loop was asked for" in state.detail and "appliance engine start chat" in state.detail
        assert [end.what for end in history.read(settings, "chat").endings] == ["crashed"] * 5
        configure(home)
        answer = serve.on_start({"name": "chat"})
        assert answer == {"detail": "chat was failed; it is started now and its breaker closed"}
        tick_until("^chat: ready")
    finally:
        serve.stop_engines(signal.SIGKILL)


def test_an_attached_engine_that_is_down_is_not_praised(serving: Serving, home: Path) -> None:
    (home / "appliance.toml").write_text('[engines.far]\nkind = "openai"\nurl = "http://127.0.0.1:9"\nmodels = ["m"]\n')
    served = serving()
    served.wait_for("base URL")
    assert served.said("^attached and not answering: far")
    assert not served.said("^ready; ask") and not served.said("curl")


def test_stop_start_restart_reload_and_logs(serving: Serving, home: Path) -> None:
    configure(home)
    served = serving()
    served.wait_for("base URL")
    assert cli(served, "engine", "stop", "second").stdout.startswith("second is stopped;")
    status = cli(served, "status", "--once")
    assert status.returncode == 1
    assert re.search(r"second +second-model +stopped", status.stdout)
    assert re.search(r"chat +chat-model +ready", status.stdout)
    assert cli(served, "engine", "start", "second").stdout == "second was stopped; it is started now\n"
    before = served.supervisor_of("chat")
    assert cli(served, "engine", "restart", "chat").returncode == 0
    wait_until(
        lambda: served.state("chat")["phase"] == "ready" and served.supervisor_of("chat") != before, START_S, "again"
    )
    assert not served.said("chat: .*starting it again in")  # no crash, so no back-off
    assert cli(served, "logs", "chat", "-n", "1").stdout == f"listening on {home}/run/chat.sock\n"

    toml = (home / "appliance.toml").read_text()
    (home / "appliance.toml").write_text(
        "[server]\ndrain_s = 3\nport = 1\n" + toml.replace("second-model", "other") + '[engines.new]\nkind = "fake"\n'
    )
    assert json.loads(cli(served, "reload", "--json").stdout) == {
        "applied": ["server.drain_s", "engines.new"],
        "started": ["new"],
        "stopped": [],
        "needs_engine_restart": ["second"],
        "needs_restart": [],  # the environment's port wins over the file's
    }
    served.wait_for("^new: ready")
    (home / "appliance.toml").write_text("[server]\ndrain = 3\n")
    refused = cli(served, "reload")
    assert refused.returncode == Exit.BAD_ARGUMENTS and "did you mean 'drain_s'?" in refused.stderr
    (home / "appliance.toml").write_text(toml)
    assert json.loads(cli(served, "reload", "--json").stdout)["stopped"] == ["new"]
    wait_until(lambda: served.state("new")["phase"] == "stopped", 20, "new was stopped")


def test_a_request_that_runs_when_everything_stops_gets_its_answer(serving: Serving, home: Path) -> None:
    configure(home)
    (home / "appliance.toml").write_text((home / "appliance.toml").read_text() + "[server]\ndrain_s = 10\n")
    served = serving()
    served.wait_for("base URL")
    key = (home / "admin.key").read_text().strip()
    client = httpx.Client(base_url=f"http://127.0.0.1:{served.port}", headers={"authorization": f"Bearer {key}"})
    question = {
        "model": "chat-model",
        "messages": [{"role": "user", "content": "[[set:chunk_ms=100]]"}],
        "stream": True,
    }
    with client.stream("POST", "/v1/chat/completions", json=question) as stream:
        lines = stream.iter_lines()
        next(lines)
        served.process.send_signal(signal.SIGTERM)
        wait_until(lambda: client.get("/health/ready").json()["reasons"], 5, "it says that it stops")
        refused = client.post("/v1/chat/completions", json={**question, "stream": False})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
        assert int(refused.headers["retry-after"]) >= 1
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert served.process.wait(20) == 0
