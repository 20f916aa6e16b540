"""Ledgers to test on, in both databases; requests and outcomes to put into them; and other processes."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger.postgres_server import PostgresServer

import appliance
from appliance.ledger import Ledger
from appliance.ledger.core import engine
from appliance.ledger.db import Db, connect
from appliance.ledger.stores import keys
from appliance.ledger.stores.changes import Actor
from appliance.ledger.upgrade import prepare
from appliance.types import (
    Admission,
    Attempt,
    AttemptRecord,
    CallRecord,
    Key,
    Outcome,
    Reason,
    Request,
    Status,
    Turn,
    Usage,
)

Where = Path | str
AT_MS = 1_700_000_000_000


class Values:
    """Makes requests with ids that sort, and outcomes for them."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def request(self, key: Key, request_id: str | None = None, at_ms: int = AT_MS) -> Request:
        number = next(self._numbers)
        return Request(request_id or f"req_{number:06d}", key, "chat.completions", "default", True, at_ms)

    def admission(self, key: Key, request_id: str | None = None, at_ms: int = AT_MS, **fields: Any) -> Admission:
        request = self.request(key, request_id, at_ms)
        turn = fields.pop("turn", Turn())
        return Admission(request, turn, f"conv_{request.id}", **fields)

    def outcome(
        self,
        request_id: str,
        *,
        attempts: int = 1,
        calls: int = 1,
        total_ms: float = 12.5,
        hosted_nusd: int = 0,
        **fields: Any,
    ) -> Outcome:
        usage = Usage(30, 8, 16, 0.5)
        call = [
            CallRecord(
                i, "chat", "smollm2", Status.OK, usage, "stop", 3.5, 11.0, hosted_nusd=hosted_nusd, work_ns=1_000_000
            )
            for i in range(calls)
        ]
        records = [
            AttemptRecord(Attempt(i, "chat", "smollm2", "local", Reason.ROUTINE), Status.OK, None, tuple(call), 12.0)
            for i in range(attempts)
        ]
        fields = {"status": Status.OK, "http_status": 200, "error_code": None, "ttft_ms": 3.5, **fields}
        return Outcome(request_id=request_id, total_ms=total_ms, attempts=tuple(records), **fields)


class Look:
    """Reads what a ledger holds, on a connection of its own."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.db: Db = connect(where)

    def __call__(self, sql: str, row: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return [tuple(found) for found in self.db.query(sql, row)]

    def counts(self) -> dict[str, int]:
        return dict(self("SELECT status, count(*) FROM requests GROUP BY status"))  # type: ignore[arg-type]

    def totals(self) -> tuple[int, int, int]:
        """How many requests, attempts and calls."""
        return tuple(self(f"SELECT count(*) FROM {t}")[0][0] for t in ("requests", "attempts", "calls"))  # type: ignore[return-value]

    def ids(self) -> list[str]:
        return [row[0] for row in self("SELECT id FROM requests ORDER BY id")]

    def column(self, sql: str, row: tuple[Any, ...] = ()) -> list[Any]:
        return [found[0] for found in self(sql, row)]


@pytest.fixture
def values() -> Values:
    return Values()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server a session; databases are cheap."""
    server = PostgresServer()
    yield server
    server.stop()


def _fill(where: Where) -> str:
    """Bring it to the newest schema with one client key. Returns the key's secret."""
    prepare(where)
    made = engine(where)
    secret = keys.create(made, Actor("test"), "web").secret
    made.dispose()
    return secret


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A SQLite ledger at the newest schema with one client key, and its secret: to be copied, not used."""
    path = tmp_path_factory.mktemp("template") / "ledger.db"
    return path, _fill(path)


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> tuple[str, str]:
    """The same on PostgreSQL: the name of a database to copy, and the secret."""
    url = postgres_server.create("template_ledger")
    return "template_ledger", _fill(url)


@pytest.fixture
def path(tmp_path: Path, template: tuple[Path, str]) -> Path:
    """A fresh copy of the SQLite template."""
    return Path(shutil.copy(template[0], tmp_path / "ledger.db"))


@pytest.fixture
def url(postgres_server: PostgresServer, postgres_template: tuple[str, str]) -> Iterator[str]:
    """A fresh copy of the PostgreSQL template."""
    made = postgres_server.create(template=postgres_template[0])
    yield made
    postgres_server.drop(made)


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest) -> Where:
    """A ledger in each of the two databases."""
    found: Where = request.getfixturevalue("path" if request.param == "sqlite" else "url")
    return found


@pytest.fixture
def secret(request: pytest.FixtureRequest) -> str:
    """Of the client key in whichever ledger the test uses."""
    postgres = "url" in request.fixturenames and "path" not in request.fixturenames
    if "where" in request.fixturenames:
        postgres = isinstance(request.getfixturevalue("where"), str)
    found: str = request.getfixturevalue("postgres_template" if postgres else "template")[1]
    return found


@pytest.fixture
def ledger(where: Where) -> Iterator[Ledger]:
    """An open ledger; the test starts it on its loop."""
    opened = Ledger.open(where)
    yield opened
    opened.close()


@pytest.fixture
def key(ledger: Ledger, secret: str) -> Key:
    found = ledger.authenticate(secret)
    assert found is not None
    return found


@pytest.fixture
def look(where: Where) -> Iterator[Look]:
    opened = Look(where)
    yield opened
    opened.db.close()


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start ``python -c CODE ARGS…`` with this checkout importable, outside of it."""
    running: list[subprocess.Popen[str]] = []
    root = str(Path(appliance.__file__).parents[1])

    def start(code: str, *args: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", code, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": root},
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()
