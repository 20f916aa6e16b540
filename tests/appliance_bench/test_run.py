"""``appliance bench run``: cells against a server that answers at once, Ctrl-C, ``--resume``, and what is refused."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from appliance_bench import records, run, suites
from appliance_bench.gateway_rig import environment

KEY = "key-of-the-test"


class Appliance(ThreadingHTTPServer):
    """Answers chat with what the record in the question says, translation with the text itself."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: Counter[str] = Counter()
        self.broken = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Appliance

    def do_GET(self) -> None:
        known = self.headers.get("authorization") == f"Bearer {KEY}"
        self._say(200 if known or self.path == "/health/ready" else 401, b"{}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked[self.path] += 1
        if self.server.broken:
            self._say(503, b"{}")
        elif self.path == "/v1/translate":
            self._say(200, json.dumps({"translations": [{"text": body["input"]}]}).encode())
        else:
            text = body["messages"][-1]["content"]
            said = [{"choices": [{"delta": {"content": part}}]} for part in (text[:9], text[9:])]
            lines = b"".join(b"data: " + json.dumps(one, separators=(",", ":")).encode() + b"\n\n" for one in said)
            self._say(200, lines + b"data: [DONE]\n\n", chunked=True)

    def _say(self, status: int, body: bytes, chunked: bool = False) -> None:
        self.send_response(status)
        self.send_header(*(("transfer-encoding", "chunked") if chunked else ("content-length", str(len(body)))))
        self.end_headers()
        parts = [one + b"\n\n" for one in body.split(b"\n\n") if one] if chunked else [body]
        for part in parts:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
        self.wfile.write(b"0\r\n\r\n" if chunked else b"")

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def appliance() -> Iterator[Appliance]:
    with Appliance() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPLIANCE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("APPLIANCE_BENCH_KEY", KEY)


def bench(tmp_path: Path, *argv: str) -> int:
    return run.main([*argv, "--out", str(tmp_path / "out"), "--generator", "own", "--clients", "1"])


def only(tmp_path: Path) -> records.Run:
    (entry,) = records.index(tmp_path / "out")
    return records.read_run(tmp_path / "out" / entry.file)


def test_a_workload_at_two_loads_twice(
    appliance: Appliance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["order-tracking", "--loads", "8,16", "--seconds", "0.5", "--repeats", "2", "--url", appliance.url]
    assert bench(tmp_path, *argv) == 0
    made = only(tmp_path)
    assert Path(capsys.readouterr().out.strip()).name == f"{made.id}.json"
    assert [(one.offered_per_s, one.repeat, one.requests) for one in made.results] == [
        (8, 0, 4), (16, 0, 8), (8, 1, 4), (16, 1, 8),
    ]  # fmt: skip
    for one in made.results:
        assert one.failed == 0 and one.errors == {}
        assert one.quality == {"holds": 100.0}  # the answers hold what the questions' records say
        assert one.ttft_ms is not None and one.e2e_ms is not None and one.client_lag_ms is not None
        assert one.ttft_ms.p50 <= one.e2e_ms.p50
        assert one.goodput_per_s > 0
    name = made.results[0].requests_file
    assert name is not None
    rows = list(records.read_requests(tmp_path / "out" / name))
    assert len(rows) == 24 and {row["repeat"] for row in rows} == {0, 1}
    assert made.slo == {"ttft_p95_ms": 1500, "tpot_p95_ms": 150}
    assert str(tmp_path) not in (tmp_path / "out" / f"{made.id}.json").read_text()
    assert KEY not in (tmp_path / "out" / f"{made.id}.json").read_text()


def test_answers_that_are_none_are_failed_requests_and_no_goodput(appliance: Appliance, tmp_path: Path) -> None:
    appliance.broken = True
    assert bench(tmp_path, "translation-short", "--loads", "20", "--seconds", "0.3", "--url", appliance.url) == 0
    (one,) = only(tmp_path).results
    assert (one.failed, one.goodput_per_s, one.errors) == (one.requests, 0, {"http_503": one.requests})
    assert one.quality == {}


def test_ctrl_c_keeps_what_is_done_and_resume_measures_the_rest_once(appliance: Appliance, tmp_path: Path) -> None:
    out = tmp_path / "out"
    argv = [sys.executable, "-P", "-m", "appliance_bench", "run", "translation-short", "--loads", "30,40,50,60"]
    argv += ["--seconds", "1", "--url", appliance.url, "--seed", "7", "--generator", "own", "--out", str(out)]
    env = environment({"APPLIANCE_BENCH_KEY": KEY, "APPLIANCE_HOME": str(tmp_path / "home")})
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit it ignored
    try:
        process = subprocess.Popen(argv, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, start_new_session=True)  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("[3 of 4"):  # two are measured
            break
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    stopped = records.read_run(Path(said.strip()))
    assert [one.offered_per_s for one in stopped.results] == [30, 40]
    assert "2 of 4 cells are here" in (stopped.notes if isinstance(stopped.notes, str) else " ".join(stopped.notes))
    assert f"appliance bench run --resume {stopped.id}" in errors
    assert "Traceback" not in errors

    before = appliance.asked["/v1/translate"]
    # what it measures is what the stopped run was told to, whatever is said now
    assert run.main(["--resume", stopped.id, "--out", str(out), "--url", appliance.url]) == 0
    assert appliance.asked["/v1/translate"] - before == 32 + 50 + 32 + 60  # a warm-up for each load that was missing
    whole = records.read_run(out / records.index(out)[-1].file)
    assert [one.offered_per_s for one in whole.results] == [30, 40, 50, 60]
    assert whole.results[:2] == stopped.results
    assert whole.config["options"] == stopped.config["options"]
    assert whole.config["goes_on_from"] == stopped.id
    assert records.read_run(out / f"{stopped.id}.json") == stopped  # nothing is overwritten


def test_a_run_that_is_whole_is_not_measured_again(appliance: Appliance, tmp_path: Path) -> None:
    assert bench(tmp_path, "translation-short", "--loads", "30", "--seconds", "0.3", "--url", appliance.url) == 0
    before = appliance.asked.copy()
    assert bench(tmp_path, "--resume", only(tmp_path).id, "--url", appliance.url) == 0
    assert appliance.asked == before


NOBODY = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], r"which suite\? there are .*smoke"),
        (["smokey"], "there is no suite 'smokey'; did you mean smoke"),
        (["order-tracking"], "order-tracking is a workload; say at which loads: --loads 1,2"),
        (["smoke", "--loads", "many"], r"--loads is 'many'; write for example --loads 1,2,4"),
        (["smoke", "--loads", "0"], "a load is above 0"),
        (["smoke", "--slo", "happiness_p95=3"], "happiness"),
        (["smoke", "--arrivals", "tidal"], "tidal cannot be read .*; write poisson, bursty, ledger or a file"),
        (["smoke", "--url", "localhost"], "'localhost' is no address of an appliance; write http://host:port"),
        (["smoke", "--url", NOBODY], "no engine answers at http://127.0.0.1:1 .*; start it, see `appliance status`"),
        (["smoke", "--key-file", "/nowhere/key", "--url", NOBODY], "the key in /nowhere/key cannot be read"),
        (["--resume", "run-nothing-1"], "run-nothing-1"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_is_measured(argv: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(records.RecordError, match=said) as error:
        bench(tmp_path, *argv)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_key_that_is_not_known(appliance: Appliance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPLIANCE_BENCH_KEY", "another")
    with pytest.raises(records.RecordError, match=r"does not take this key .*; set APPLIANCE_BENCH_KEY or --key-file"):
        bench(tmp_path, "translation-short", "--loads", "1", "--url", appliance.url)


def test_a_disk_without_room_is_said_before_anything_is_measured(
    appliance: Appliance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(run.shutil, "disk_usage", lambda path: usage(2**30, 2**30, 3 * 2**20))
    with pytest.raises(records.RecordError, match=r"has 3 MB free .*; nothing was measured: make room or name another"):
        bench(tmp_path, "translation-short", "--loads", "1", "--url", appliance.url)
    assert not appliance.asked


def test_two_measurements_at_once_are_refused(appliance: Appliance, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with (home / "tune.lock").open("w+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write("4711\n")
        other.flush()
        with pytest.raises(records.RecordError, match=r"another tune runs here \(process 4711\); wait for it"):
            bench(tmp_path, "translation-short", "--loads", "1", "--url", appliance.url)


def test_a_run_of_another_command_is_not_gone_on_with(tmp_path: Path, appliance: Appliance) -> None:
    assert bench(tmp_path, "translation-short", "--loads", "30", "--seconds", "0.3", "--url", appliance.url) == 0
    path = tmp_path / "out" / f"{only(tmp_path).id}.json"
    told = json.loads(path.read_text())
    del told["config"]["options"]
    path.write_text(json.dumps(told))
    with pytest.raises(records.RecordError, match="was not made by `run`, so it cannot be gone on with"):
        bench(tmp_path, "--resume", path.stem, "--url", appliance.url)


def test_the_suites_that_come_along_are_whole() -> None:
    for name in suites.names():
        cells = list(suites.cells(suites.load(name)))
        keys = [cell.key for cell in cells]
        assert len(set(keys)) == len(keys), name
        assert all(cell.engines for cell in cells)


def test_a_workload_of_ones_own(appliance: Appliance, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    sheet = 'about = "ours"\nengine = "translate"\nitems = "ours.jsonl"\nslo = "e2e_p95_ms=500"\n'
    (mine / "ours.toml").write_text(sheet)
    items = [{"text": f"text {n}", "source": "eng_Latn", "target": "hin_Deva", "reference": "x"} for n in range(4)]
    (mine / "ours.jsonl").write_text("".join(json.dumps(one) + "\n" for one in items))
    argv = ["ours", "--loads", "20", "--seconds", "0.3", "--url", appliance.url]
    with pytest.raises(records.RecordError, match="there is no suite 'ours'"):
        bench(tmp_path, *argv)
    assert bench(tmp_path, *argv, "--workloads", str(mine)) == 0
    made = only(tmp_path)
    assert (made.suite, made.slo) == ("ours", {"e2e_p95_ms": 500})
    assert str(tmp_path) not in (tmp_path / "out" / f"{made.id}.json").read_text()
