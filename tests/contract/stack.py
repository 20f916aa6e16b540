"""A fake engine and a real gateway process over it, and eyes on both: metrics, the last call, the ledger."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
from support import wait_until

import appliance
from appliance.ledger import core
from appliance.ledger.stores import keys
from appliance.ledger.stores.changes import Actor

ROOT = Path(appliance.__file__).resolve().parent.parent
SILENCE_S = 1.0
DEADLINE_S = 4.0
MAX_BODY_BYTES = 12 * 1024 * 1024

_TOML = """
[server]
port = {port}
request_deadline_s = {deadline}
engine_silence_s = {silence}
max_body_bytes = {body}
drain_s = 1

[engines.chat]
kind = "openai"
socket = "{home}/fake.sock"
models = ["fake"]

[engines.frail]
kind = "openai"
socket = "{home}/frail.sock"
models = ["frail"]

[engines.speech]
kind = "fake"
task = "transcribe"
model = "fake-whisper"

[aliases]
default = "fake"
whisper-1 = "fake-whisper"
"""


def _environment(home: Path, **extra: str) -> dict[str, str]:
    ours = {k: v for k, v in os.environ.items() if not k.startswith("APPLIANCE_")}
    return {**ours, "PYTHONPATH": str(ROOT), "APPLIANCE_HOME": str(home), **extra}


def free_port() -> int:
    """A loopback port nobody listens on now."""
    with closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


class FakeProcess:
    """``appliance.hosts.fake`` on a socket of the stack's home."""

    def __init__(self, home: Path, name: str, *arguments: str) -> None:
        self.socket = home / f"{name}.sock"
        argv = [sys.executable, "-m", "appliance.hosts.fake", "--socket", str(self.socket), *arguments]
        with (home / f"{name}.log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=home, env=_environment(home))
        wait_until(self.socket.exists, 15, f"the fake engine {name} listens")
        self.client = httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://f", timeout=5)

    def last(self) -> dict[str, Any]:
        """The last call the engine received."""
        found: dict[str, Any] = self.client.get("/debug/last").json()
        return found

    def metric(self, name: str) -> float:
        """One value of ``/metrics``."""
        rows = self.client.get("/metrics").text.splitlines()
        return float(next(row for row in rows if row.startswith(name + "{")).rpartition(" ")[2])

    def stop(self) -> None:
        """End it at once."""
        self.client.close()
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)


class Stack:
    """One home with its fake engine and its gateway."""

    def __init__(self, more: str = "", aliases: str = "") -> None:
        self.home = Path(tempfile.mkdtemp(prefix="ap-"))
        self.port = free_port()
        values = {"port": self.port, "home": self.home, "deadline": DEADLINE_S, "silence": SILENCE_S}
        (self.home / "appliance.toml").write_text(_TOML.format(**values, body=MAX_BODY_BYTES) + aliases + more)
        self._say_speech_is_ready()
        self.fake = FakeProcess(self.home, "fake", "--chunks", "6", "--model", "fake")
        self.base = f"http://127.0.0.1:{self.port}"
        self.start_gateway()
        self.key = (self.home / "admin.key").read_text().strip()
        self.client = httpx.Client(
            base_url=self.base, headers={"authorization": f"Bearer {self.key}"}, timeout=DEADLINE_S + 5
        )
        wait_until(lambda: self.state("chat") and self.state("speech"), 15, "the gateway sees its engines")

    def _say_speech_is_ready(self) -> None:
        run = self.home / "run"
        run.mkdir(mode=0o700)
        state = {
            "name": "speech",
            "kind": "fake",
            "task": "transcribe",
            "phase": "ready",
            "address": str(self.home / "fake.sock"),
            "models": ["fake-whisper"],
            "detail": "",
            "since_unix_s": 0.0,
            "supervisor_pid": os.getpid(),
            "engine_pid": os.getpid(),
            "context_tokens": 0,
        }
        (run / "speech.json").write_text(json.dumps(state))

    def start_gateway(self) -> None:
        """Start it and wait until it answers."""
        with (self.home / "gateway.log").open("ab") as log:
            self.gateway = subprocess.Popen(
                [sys.executable, "-m", "appliance", "gateway"],
                stdout=log,
                stderr=log,
                cwd=self.home,
                env=_environment(self.home),
            )
        wait_until(self._live, 30, f"the gateway answers; its log: {self.home / 'gateway.log'}")

    def _live(self) -> bool:
        assert self.gateway.poll() is None, (self.home / "gateway.log").read_text()
        try:
            return httpx.get(f"{self.base}/health/live", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def state(self, engine: str) -> bool:
        """Whether the gateway takes requests for ``engine``."""
        return bool(self.client.get("/health/ready").json()["engines"][engine]["ready"])

    def ask(self, text: str, *, path: str = "/v1/chat/completions", **extra: Any) -> httpx.Response:
        """One request whose last user message (or prompt) is ``text``, its answer read whole."""
        question = {"prompt": text} if path == "/v1/completions" else {"messages": [{"role": "user", "content": text}]}
        return self.client.post(path, json={"model": "fake", **question, **extra})

    def connect(self, body: dict[str, Any]) -> socket.socket:
        """A bare connection on which one chat request was sent."""
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)
        payload = json.dumps(body).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {self.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n"
        )
        raw.sendall(head.encode() + payload)
        return raw

    def make_key(self, name: str, **fields: Any) -> str:
        """The secret of a new client key, once the gateway knows it."""
        made = core.engine(self.home / "ledger.db")
        secret = keys.create(made, Actor("test"), name, **fields).secret
        made.dispose()
        headers = {"authorization": f"Bearer {secret}"}
        wait_until(
            lambda: self.client.get("/v1/models", headers=headers).status_code == 200, 5, "the gateway knows the key"
        )
        return secret

    def rows(self, sql: str, *values: str) -> list[dict[str, Any]]:
        """What the ledger file holds, read beside the running gateway."""
        with closing(sqlite3.connect(f"file:{self.home}/ledger.db?mode=ro", uri=True)) as ledger:
            ledger.row_factory = sqlite3.Row
            return [dict(row) for row in ledger.execute(sql, values)]

    def entry(self, request_id: str) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
        """The request's row, its attempts and its calls, once the request has ended."""
        wait_until(
            lambda: self.rows("SELECT 1 FROM requests WHERE id = ? AND status != 'open'", request_id),
            DEADLINE_S,
            f"{request_id} is settled in the ledger",
        )
        (request,) = self.rows("SELECT * FROM requests WHERE id = ?", request_id)
        attempts = self.rows("SELECT * FROM attempts WHERE request_id = ? ORDER BY ordinal", request_id)
        calls = self.rows("SELECT * FROM calls WHERE request_id = ? ORDER BY attempt_ordinal, ordinal", request_id)
        return request, attempts, calls

    def newest(self) -> str:
        """The id of the request admitted last."""
        found = self.rows("SELECT id FROM requests ORDER BY id DESC LIMIT 1")
        return str(found[0]["id"]) if found else ""

    def stop(self) -> None:
        """End both and remove the home."""
        self.client.close()
        self.gateway.kill()
        self.gateway.wait()
        self.fake.stop()
        shutil.rmtree(self.home)
