"""Gateways whose ledger can be broken, one or several over one fake engine, and callers that keep asking."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
from contract.stack import FakeProcess, _environment, free_port
from ledger.conftest import Look
from support import wait_until

from appliance.ledger.core import engine
from appliance.ledger.stores import keys, prices
from appliance.ledger.stores.changes import Actor
from appliance.ledger.upgrade import prepare

# How long a machine that does other things as well may take; nobody waits for it where it does not.
PATIENCE_S = 120

_TOML = """
[server]
port = {port}
request_deadline_s = 8
drain_s = 1

[engines.chat]
kind = "openai"
socket = "{socket}"
models = ["fake"]
"""


@contextmanager
def fake_engine() -> Iterator[FakeProcess]:
    """A fake engine in a directory of its own."""
    home = Path(tempfile.mkdtemp(prefix="ap-"))
    fake = FakeProcess(home, "fake", "--chunks", "4", "--model", "fake")
    yield fake
    fake.stop()
    shutil.rmtree(home, ignore_errors=True)


class Gateway:
    """One gateway process on the ledger ``where``: a PostgreSQL URL, or a file ledger.db that lies in its home."""

    def __init__(self, fake: FakeProcess, where: Path | str) -> None:
        self.where = where
        self._own = not isinstance(where, Path)
        self.home = where.parent if isinstance(where, Path) else Path(tempfile.mkdtemp(prefix="ap-"))
        self.port = free_port()
        (self.home / "appliance.toml").write_text(_TOML.format(port=self.port, socket=fake.socket))
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE_S)
        self.start()

    def start(self) -> None:
        """Start it and wait until it takes requests."""
        self.process = self.spawn()
        wait_until(self._ready, PATIENCE_S, f"the gateway is ready; its log: {self.log}")

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it."""
        extra = {"APPLIANCE_LEDGER_URL": self.where} if isinstance(self.where, str) else {}
        argv = [sys.executable, "-m", "appliance", "gateway"]
        with (self.home / "gateway.log").open("ab") as log:
            return subprocess.Popen(argv, stdout=log, stderr=log, cwd="/", env=_environment(self.home, **extra))

    @property
    def log(self) -> str:
        return (self.home / "gateway.log").read_text()

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            return self.client.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def ask(self, secret: str, text: str = "hello", **extra: Any) -> httpx.Response:
        """One whole answer, or the error."""
        body = {"model": "fake", "messages": [{"role": "user", "content": text}], **extra}
        headers = {"authorization": f"Bearer {secret}"}
        return self.client.post("/v1/chat/completions", json=body, headers=headers)

    def stop(self) -> None:
        """End it and remove its home."""
        self.client.close()
        self.kill()
        if self._own:
            shutil.rmtree(self.home, ignore_errors=True)


def prepared(where: Path | str, **key: Any) -> str:
    """A ledger whose requests cost money (electricity), and the secret of a client key in it."""
    prepare(where)
    made, actor = engine(where), Actor("test")
    server = {
        "purchase_usd": "10000",
        "lifetime_months": 36,
        "upkeep_usd_per_month": "0",
        "busy_w": 1000,
        "idle_w": 100,
    }
    prices.set_server(made, actor, effective_ms=1, **server, tariff_inr_per_kwh="9", inr_per_usd="90")
    prices.set_coefficients(made, actor, "*", effective_ms=1, prompt_token_ns=1e6, completion_token_ns=5e6)
    secret = keys.create(made, actor, "web", **key).secret
    made.dispose()
    return secret


class Callers:
    """Threads that ask until they are told to stop, streamed and not; what they were answered, and what refused."""

    def __init__(self, port: int, secret: str, how_many: int = 8, *, give_up: bool = True) -> None:
        self.answered: list[str] = []
        self.refused: list[tuple[int, dict[str, Any]]] = []
        self._port, self._secret, self._give_up = port, secret, give_up
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(how_many)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        while not self._stop.is_set():
            with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)) as connection:
                try:
                    self._ask(connection, number)
                except (OSError, http.client.HTTPException):
                    if self._give_up:
                        return
                    self._stop.wait(0.02)

    def _ask(self, connection: http.client.HTTPConnection, number: int) -> None:
        headers = {"authorization": f"Bearer {self._secret}", "content-type": "application/json"}
        while not self._stop.is_set():
            stream = random.random() < 0.5
            question = {"model": "fake", "messages": [{"role": "user", "content": f"hello {number}"}], "stream": stream}
            connection.request("POST", "/v1/chat/completions", json.dumps(question), headers)
            response = connection.getresponse()
            body = response.read()
            # a stream without its closing event was not answered
            if response.status == 200 and (not stream or body.endswith(b"data: [DONE]\n\n")):
                self.answered.append(response.headers["x-request-id"])
            else:
                error = body.rpartition(b"data: ")[2] if response.status == 200 else body
                self.refused.append((response.status, json.loads(error)["error"]))
                self._stop.wait(0.02)

    def stop(self) -> None:
        """Let each finish what it asks."""
        self._stop.set()
        self.join()

    def join(self) -> None:
        """Wait until all have ended."""
        for thread in self._threads:
            thread.join(2 * PATIENCE_S)
            assert not thread.is_alive()


def check(look: Look, answered: list[str], *, open_left: bool = False) -> dict[str, int]:
    """Every answer is in the ledger once and whole, and the sums agree with the rows. Returns rows by status."""
    assert len(answered) == len(set(answered))
    whole = look(
        "SELECT r.id, count(*) FROM requests r JOIN attempts a ON a.request_id = r.id"
        " JOIN calls c ON c.request_id = r.id AND c.attempt_ordinal = a.ordinal WHERE r.status = 'ok' GROUP BY r.id"
    )
    assert {count for _, count in whole} <= {1}
    assert set(answered) <= {request_id for request_id, _ in whole}
    counts = look.counts()
    assert counts.get("ok", 0) == len(whole)
    assert open_left or "open" not in counts
    cost, held = "coalesce(sum(energy_nusd), 0)", "coalesce(sum(CASE WHEN status = 'open' THEN reserved_nusd END), 0)"
    ((spent, reserved),) = look(f"SELECT {cost}, {held} FROM requests")
    assert spent > 0 or not whole
    assert look("SELECT DISTINCT spent_nusd, reserved_nusd FROM budgets") in ([(spent, reserved)], [])
    assert look("SELECT coalesce(sum(energy_nusd), 0), coalesce(sum(requests), 0) FROM conversations") == [
        (spent, look("SELECT count(*) FROM requests WHERE status NOT IN ('open', 'lost') AND total_ms > 0")[0][0])
    ]
    if look.db.dialect == "sqlite":
        assert look("PRAGMA integrity_check") == [("ok",)]
        assert look("PRAGMA foreign_key_check") == []
    return counts


def gone(look: Look) -> bool:
    """Whether the killed gateway's last transaction has ended on the server, too."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    return look.db.dialect == "sqlite" or look(others) == [(0,)]


def soon_reaped(look: Look) -> None:
    """As if 15 seconds had passed since the last beat of any gateway: PostgreSQL counts them by its own clock."""
    if look.db.dialect == "postgresql":
        look.db.run("UPDATE gateways SET beat_ms = ?", [(0,)])


def rounds(default: int) -> int:
    """How often to kill: KILL_ROUNDS, which ``make soak`` sets to 50."""
    return int(os.environ.get("KILL_ROUNDS", default))
