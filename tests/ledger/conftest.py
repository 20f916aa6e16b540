"""Ledger files to test on, requests and outcomes to put into them, and other processes."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import appliance
from appliance.ledger import KeyStore, Ledger
from appliance.types import (
    Attempt,
    AttemptRecord,
    CallRecord,
    Key,
    Outcome,
    Reason,
    Request,
    Status,
    Usage,
)


class Values:
    """Makes requests with ids that sort, and outcomes for them."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def request(self, key: Key, request_id: str | None = None) -> Request:
        number = next(self._numbers)
        return Request(request_id or f"req_{number:06d}", key, "chat.completions", "default", True, 1_700_000_000_000)

    def outcome(self, request_id: str, *, attempts: int = 1, calls: int = 1, total_ms: float = 12.5) -> Outcome:
        call = [
            CallRecord(i, "chat", "smollm2", Status.OK, Usage(30, 8, 16, 0.5), "stop", 3.5, 11.0) for i in range(calls)
        ]
        records = [
            AttemptRecord(Attempt(i, "chat", "smollm2", "local", Reason.ROUTINE), Status.OK, None, tuple(call), 12.0)
            for i in range(attempts)
        ]
        return Outcome(request_id, Status.OK, 200, None, total_ms, 3.5, tuple(records))


@pytest.fixture
def values() -> Values:
    return Values()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A ledger at the newest schema with one client key, and the key's secret: to be copied, not used."""
    path = tmp_path_factory.mktemp("template") / "ledger.db"
    store = KeyStore.open(path)
    _, secret = store.create("web")
    store.close()  # the last connection: everything is in the one file now
    return path, secret


@pytest.fixture
def path(tmp_path: Path, template: tuple[Path, str]) -> Path:
    """A fresh copy of the template."""
    return Path(shutil.copy(template[0], tmp_path / "ledger.db"))


@pytest.fixture
def secret(template: tuple[Path, str]) -> str:
    return template[1]


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    """An open ledger; the test starts it on its loop."""
    opened = Ledger.open(path)
    yield opened
    opened.close()


@pytest.fixture
def key(ledger: Ledger, secret: str) -> Key:
    found = ledger.authenticate(secret)
    assert found is not None
    return found


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
