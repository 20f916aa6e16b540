"""``make soak-engines``: engines are killed at random under load, and nothing may be lost.

What it is: ``appliance serve`` with two fake engines, callers that never stop asking, and faults from a seed: kill -9
of the engine, of its supervisor, of its guard, SIGSTOP for longer than the heartbeat, and a request that makes it run
out of memory. After each one the engine is back, or its breaker has opened and says why (then it is closed by hand).
At the end: every request got a whole answer or a proper error within its deadline, nothing of a killed engine lives,
and the ledger has exactly one settled row for every request id that a caller saw.
What it refuses to be: a performance figure. Recovery times are those of this machine's cores, two Python starts each.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ENGINES = ("one", "two")
FAULTS = ("engine", "supervisor", "guard", "freeze", "memory")
HEARTBEAT_S = 1.0
DEADLINE_S = 20.0
BACK_WITHIN_S = 60.0
GONE_WITHIN_S = 20.0
RESULTS = Path(__file__).resolve().parent.parent / "results"
_TOML = """
[server]
port = {port}
request_deadline_s = {deadline}
engine_silence_s = 10
drain_s = 5
"""
_ENGINE = """
[engines.{name}]
kind = "fake"
model = "{name}-model"
heartbeat_s = {heartbeat}
extra_args = ["--chunk-ms", "20", "--chunks", "12"]
"""


class Broken(Exception):
    """The appliance did not keep its word; the text says how."""


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _until(condition: Callable[[], Any], within_s: float, what: str) -> float:
    """Seconds until ``condition`` was true. Raises Broken."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > within_s:
            raise Broken(f"not within {within_s:g} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - started


def _alive(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    return fields[0] not in (b"Z", b"X") or int(fields[17]) > 1


def _below(root: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(name))
    found: set[int] = set()
    queue = [root]
    while queue:
        for pid in children.get(queue.pop(), ()):
            found.add(pid)
            queue.append(pid)
    return found


class Rig:
    """A served home with two fake engines."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="ap-"))
        self.port = _free_port()
        engines = "".join(_ENGINE.format(name=name, heartbeat=HEARTBEAT_S) for name in ENGINES)
        (self.home / "appliance.toml").write_text(_TOML.format(port=self.port, deadline=DEADLINE_S) + engines)
        env = {key: value for key, value in os.environ.items() if not key.startswith("APPLIANCE_")}
        source = str(Path(__file__).resolve().parents[2])
        env |= {"APPLIANCE_HOME": str(self.home), "PYTHONPATH": f"{source}:{source}/models"}
        with (self.home / "serve.out").open("wb") as out:
            self.process = subprocess.Popen(
                (sys.executable, "-m", "appliance", "serve"),
                env=env, cwd=self.home, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        _until(lambda: all(self.phase(name) == "ready" for name in ENGINES), BACK_WITHIN_S, "both were ready")
        self.key = (self.home / "admin.key").read_text().strip()

    def said(self) -> str:
        """What ``serve`` printed last."""
        return (self.home / "serve.out").read_text(errors="replace")[-1500:]

    def state(self, name: str) -> dict[str, Any]:
        """``run/NAME.json``."""
        try:
            found: dict[str, Any] = json.loads((self.home / f"run/{name}.json").read_text())
        except (OSError, ValueError):
            return {"phase": None, "supervisor_pid": 0, "engine_pid": 0, "exit": "", "detail": ""}
        return found

    def phase(self, name: str) -> str | None:
        """What it is doing; a state whose writer is gone says nothing."""
        state = self.state(name)
        if state["phase"] == "ready" and not _alive(state["supervisor_pid"]):
            return None
        return str(state["phase"])

    def serve(self, op: str, name: str = "") -> dict[str, Any]:
        """Ask ``serve`` itself."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.home / "run/serve.ctl"))
            connection.sendall(json.dumps({"op": op, "name": name}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                answer: dict[str, Any] = json.loads(lines.readline())
        return answer

    def close(self) -> set[int]:
        """Stop it; what is left of it, which has to be nothing."""
        below = _below(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Broken("serve did not stop within 60 s") from None
        if code != 0:
            raise Broken(f"serve ended with {code}: {self.said()}")
        _until(lambda: not any(_alive(pid) for pid in below), GONE_WITHIN_S, "everything below serve was gone")
        return {pid for pid in below if _alive(pid)}


class Callers:
    """Threads that ask without end, whole answers and streams, and note how each ended."""

    def __init__(self, rig: Rig, threads: int) -> None:
        self.ended: Counter[str] = Counter()
        self.ids: dict[str, bool] = {}
        self.wrong: list[str] = []
        self.slowest_s = 0.0
        self._rig = rig
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Wait until each has had its last answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE_S + 15)
            if thread.is_alive():
                self.wrong.append("a caller still waits for its answer")

    def _run(self, number: int) -> None:
        model = f"{ENGINES[number % len(ENGINES)]}-model"
        turn = number
        while not self._stop.is_set():
            turn += 1
            body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": turn % 2 == 0}
            started = time.monotonic()
            try:
                word, request_id = self._ask(body)
            except (OSError, http.client.HTTPException, ValueError, AssertionError) as e:
                word, request_id = f"broken {type(e).__name__}", ""
                self.wrong.append(f"{type(e).__name__}: {e}")
            took = time.monotonic() - started
            with self._lock:
                self.ended[word] += 1
                self.slowest_s = max(self.slowest_s, took)
                if request_id:
                    self.ids[request_id] = word == "ok"
            if took > DEADLINE_S + 5:
                self.wrong.append(f"an answer took {took:.1f} s")
            if word != "ok":  # as a client would that was told to try again
                self._stop.wait(0.1)

    def _ask(self, body: dict[str, Any]) -> tuple[str, str]:
        status, headers, data = ask(self._rig, body)
        request_id = headers.get("x-request-id", "")
        if status != 200:
            error = json.loads(data)["error"]
            assert set(error) == {"message", "type", "param", "code"}
            return str(error["code"]), request_id
        if not body["stream"]:
            assert json.loads(data)["choices"][0]["finish_reason"] == "stop"
            return "ok", request_id
        events = [line for line in data.decode().split("\n\n") if line]
        if events[-1] == "data: [DONE]":
            return "ok", request_id
        return "stream " + str(json.loads(events[-1].removeprefix("data: "))["error"]["code"]), request_id


def ask(rig: Rig, body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """One chat request on a connection of its own: status, headers, body."""
    connection = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=DEADLINE_S + 10)
    headers = {"authorization": f"Bearer {rig.key}", "content-type": "application/json"}
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        data = response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, data


def strike(rig: Rig, name: str, fault: str) -> set[int]:
    """Do it; the processes that have to be gone afterwards."""
    state = rig.state(name)
    engine, supervisor = state["engine_pid"], state["supervisor_pid"]
    doomed = {engine, *_below(engine)}
    if fault == "memory":
        text = "[[fault:oom_exit]]"
        question = {"model": f"{name}-model", "messages": [{"role": "user", "content": text}]}
        # the gateway may not have seen yet that the engine is ready, and refuse
        _until(lambda: ask(rig, question)[0] != 503 or not _alive(engine), BACK_WITHIN_S, "the request arrived")
    elif fault == "freeze":
        os.kill(engine, signal.SIGSTOP)
    else:
        guards = [pid for pid in _below(supervisor) if engine in _below(pid)]
        victim = {"engine": engine, "supervisor": supervisor, "guard": guards[0] if guards else engine}[fault]
        doomed |= {supervisor} if fault == "supervisor" else set()
        os.kill(victim, signal.SIGKILL)
    return doomed


def recovered(rig: Rig, name: str, before: int) -> str:
    """``back`` once another supervisor has a ready engine, or what its breaker says. Raises Broken."""
    found = ""

    def settled() -> bool:
        nonlocal found
        if rig.phase(name) == "ready" and rig.state(name)["supervisor_pid"] != before:
            found = "back"
        elif rig.state(name)["phase"] == "failed" and rig.serve("status")["engines"][name]["tripped"]:
            found = str(rig.state(name)["detail"])
        return bool(found)

    _until(settled, BACK_WITHIN_S, f"{name} was back or its breaker said why; {rig.state(name)}; {rig.said()}")
    return found


class Killer:
    """Strikes one engine again and again, and looks that it comes back."""

    def __init__(self, rig: Rig, name: str, seed: str, say: Callable[[str], None]) -> None:
        self.done: Counter[str] = Counter()
        self.took: dict[str, list[float]] = {fault: [] for fault in FAULTS}
        self.breakers = 0
        self._rig = rig
        self._name = name
        self._choose = random.Random(seed)
        self._say = say

    def strike(self, kills: int) -> None:
        """``kills`` times. Raises Broken at the first thing that is wrong."""
        for number in range(kills):
            self._once(self._choose.choice(FAULTS))
            if (number + 1) % 10 == 0:
                self._say(f"{self._name}: {number + 1} of {kills}")

    def _ready(self) -> bool:
        return self._rig.phase(self._name) == "ready"

    def _once(self, fault: str) -> None:
        rig, name = self._rig, self._name
        time.sleep(self._choose.uniform(0.0, 0.3))  # strikes fall into every moment of an answer
        before = rig.state(name)["supervisor_pid"]
        at = time.monotonic()
        doomed = strike(rig, name, fault)
        how = recovered(rig, name, before)
        self.took[fault].append(time.monotonic() - at)
        _until(lambda: not any(map(_alive, doomed)), GONE_WITHIN_S, f"{fault}: no process was left")
        self.done[fault] += 1
        if how != "back":
            self.breakers += 1
            if "5 crashes in 10 min" not in how:
                raise Broken(f"the breaker does not say why: {how}")
        # most of the time its crashes are forgotten, so that the run does not consist of back-off
        if how != "back" or self._choose.random() < 0.85:
            rig.serve("start", name)
            _until(self._ready, BACK_WITHIN_S, f"{name} was ready when asked to be")


def soak(kills: int, seed: int, threads: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Kill ``kills`` times, half of them each engine; the result. Raises Broken."""
    rig = Rig()
    callers = Callers(rig, threads)
    started = time.monotonic()
    try:
        killers = [Killer(rig, name, f"{seed} {name}", say) for name in ENGINES]
        with ThreadPoolExecutor(len(killers)) as pool:
            shares = [kills * (n + 1) // len(killers) - kills * n // len(killers) for n in range(len(killers))]
            for future in [pool.submit(killer.strike, share) for killer, share in zip(killers, shares, strict=True)]:
                future.result()
        callers.stop()
        left = rig.close()
        took = {fault: [s for killer in killers for s in killer.took[fault]] for fault in FAULTS}
        return {
            "kills": dict(sum((killer.done for killer in killers), Counter[str]())),
            "breaker_opened": sum(killer.breakers for killer in killers),
            "recovery_s": {fault: _spread(values) for fault, values in took.items() if values},
            "requests": dict(callers.ended),
            "slowest_answer_s": round(callers.slowest_s, 2),
            "wrong": callers.wrong[:20],
            "orphans": len(left),
            "ledger": ledger_check(rig.home / "ledger.db", callers.ids),
            "took_s": round(time.monotonic() - started, 1),
        }
    finally:
        callers.stop()
        if rig.process.poll() is None:
            rig.process.kill()
            rig.process.wait()
        shutil.rmtree(rig.home, ignore_errors=True)


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {"median": round(ordered[len(ordered) // 2], 2), "longest": round(ordered[-1], 2)}


def ledger_check(path: Path, ids: dict[str, bool]) -> dict[str, int]:
    """What the ledger says of the requests that callers saw: rows missing, open, doubled or with another verdict."""
    with contextlib.closing(sqlite3.connect(path)) as ledger:
        rows = list(ledger.execute("SELECT id, status FROM requests"))
    status = dict(rows)
    return {
        "rows": len(rows),
        "seen_by_callers": len(ids),
        "missing": sum(request_id not in status for request_id in ids),
        "doubled": len(rows) - len(status),
        "open": sum(value == "open" for value in status.values()),
        "other_verdict": sum(
            request_id in status and (status[request_id] == "ok") != ok for request_id, ok in ids.items()
        ),
    }


def faultless(result: dict[str, Any]) -> bool:
    """Whether nothing was lost, wrong or left."""
    ledger = result["ledger"]
    bad = ("missing", "doubled", "open", "other_verdict")
    return not result["wrong"] and not result["orphans"] and not any(ledger[name] for name in bad)


def main(argv: Sequence[str]) -> int:
    """Entry point; 0 when nothing was lost."""
    from appliance_bench.gateway_report import machine, revision, write

    parser = argparse.ArgumentParser(prog="python -m appliance_bench.engine_kills")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--callers", type=int, default=6)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    whole: dict[str, Any] = {
        "bench": "engine-kills",
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": machine(),
        "revision": revision(),
        "seed": args.seed,
        "kills_wanted": args.kills,
    }
    try:
        result = soak(args.kills, args.seed, args.callers, lambda line: print(line, flush=True))
    except Broken as e:
        print(f"broken: {e}", file=sys.stderr)
        print(f"written to {write(args.out, 'engine-kills', {**whole, 'broken': str(e)})}")
        return 1
    whole |= result
    print(json.dumps(result, indent=1))
    print(f"written to {write(args.out, 'engine-kills', whole)}")
    return 0 if faultless(result) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
