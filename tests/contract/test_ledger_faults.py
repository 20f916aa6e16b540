"""Stores in trouble, through a real gateway: a clear 503, nothing lost, and work goes on by itself when it is over."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from contract.ledgers import PATIENCE_S, Callers, Gateway, check, fake_engine, prepared
from contract.stack import FakeProcess, _environment
from ledger.conftest import Look, postgres_server
from ledger.postgres_server import PostgresServer
from support import wait_until

from appliance.ledger.core import engine
from appliance.ledger.stores import keys
from appliance.ledger.stores.changes import Actor

__all__ = ["postgres_server"]  # the fixture


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProcess]:
    with fake_engine() as running:
        yield running


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ap-") as made:  # short: a socket lies below it
        yield Path(made)


@pytest.fixture
def started(fake: FakeProcess) -> Iterator[Callable[[Path | str], Gateway]]:
    """Starts gateways, and ends them."""
    running: list[Gateway] = []

    def start(where: Path | str) -> Gateway:
        running.append(Gateway(fake, where))
        return running[-1]

    yield start
    for gateway in running:
        gateway.stop()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 4 MB."""
    where = Path(tempfile.mkdtemp(prefix="ap-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(where)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode != 0:
        where.rmdir()
        pytest.skip("a disk of its own can only be mounted by root with CAP_SYS_ADMIN")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)
    where.rmdir()


def refused(response: Any, says: str) -> None:
    """A 503 in OpenAI's envelope that says what is wrong and holds no path."""
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (503, "ledger_unavailable")
    assert says in error["message"]
    assert "/" not in error["message"]
    assert int(response.headers["retry-after"]) >= 1


def settled(look: Look) -> dict[str, int]:
    wait_until(lambda: "open" not in look.counts(), PATIENCE_S, "nothing is left open")
    return look.counts()


def test_postgresql_restarted_under_load(
    started: Callable[[Path | str], Gateway], postgres_server: PostgresServer
) -> None:
    url = postgres_server.create()
    secret = prepared(url)
    gateway = started(url)
    callers = Callers(gateway.port, secret, give_up=False)
    wait_until(lambda: len(callers.answered) >= 50, PATIENCE_S, "some are answered")
    postgres_server.restart()
    before = len(callers.answered)
    wait_until(lambda: len(callers.answered) >= before + 50, PATIENCE_S, "it answers again by itself")
    callers.stop()
    look = Look(url)
    settled(look)
    counts = check(look, callers.answered)
    assert set(counts) <= {"ok", "lost", "failed"}
    assert all(error["code"] == "ledger_unavailable" for _, error in callers.refused)
    assert {status for status, _ in callers.refused} <= {503, 200}  # 200: a stream that had begun, ended by an error
    look.db.close()


def test_a_postgresql_that_hangs(started: Callable[[Path | str], Gateway], postgres_server: PostgresServer) -> None:
    """Its processes are stopped, so connections open and nothing comes: a 503 in time, for those who ask later too."""
    url = postgres_server.create()
    secret = prepared(url)
    gateway = started(url)
    callers = Callers(gateway.port, secret, give_up=False)
    wait_until(lambda: len(callers.answered) >= 20, PATIENCE_S, "some are answered")
    with postgres_server.frozen(), ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            begun = time.monotonic()
            for response in [one.result() for one in [pool.submit(gateway.ask, secret) for _ in range(4)]]:
                refused(response, "PostgreSQL does not answer")
            assert time.monotonic() - begun < 18  # 10 for those on a connection, 5 for another, and the asking itself
        assert gateway.client.get("/health/live").status_code == 200
    before = len(callers.answered)
    wait_until(lambda: len(callers.answered) >= before + 20, PATIENCE_S, "it answers again by itself")
    callers.stop()
    look = Look(url)
    settled(look)
    counts = check(look, callers.answered)
    assert set(counts) <= {"ok", "lost", "failed"}
    assert {error["code"] for _, error in callers.refused} <= {"ledger_unavailable"}
    look.db.close()


def test_a_write_lock_that_another_process_holds(home: Path, started: Callable[[Path | str], Gateway]) -> None:
    path = home / "ledger.db"
    secret = prepared(path)
    gateway = started(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as holder, ThreadPoolExecutor(4) as pool:
        holder.execute("BEGIN IMMEDIATE")
        asked = [pool.submit(gateway.ask, secret) for _ in range(4)]
        for response in asked:
            refused(response.result(), "another process holds its write lock")
        assert gateway.client.get("/health/live").status_code == 200
        holder.execute("ROLLBACK")
    answer = gateway.ask(secret)
    assert answer.status_code == 200
    look = Look(path)
    assert check(look, [answer.headers["x-request-id"]]) == {"ok": 1}
    look.db.close()


def test_a_file_that_may_not_grow(home: Path, started: Callable[[Path | str], Gateway]) -> None:
    """A quota or RLIMIT_FSIZE: the kernel refuses writes of the running gateway, and later takes them again."""
    path = home / "ledger.db"
    secret = prepared(path)
    gateway = started(path)
    _, hard = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE)
    answered = [gateway.ask(secret).headers["x-request-id"]]
    wal = Path(f"{path}-wal").stat().st_size
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (wal + 40_000, hard))
    while (response := gateway.ask(secret)).status_code == 200:
        answered.append(response.headers["x-request-id"])
        assert len(answered) < 200
    for _ in range(3):
        refused(response, "its disk")
        response = gateway.ask(secret)
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    wait_until(lambda: gateway.ask(secret).status_code == 200, PATIENCE_S, "it answers again by itself")
    look = Look(path)
    settled(look)
    check(look, answered)
    look.db.close()


def test_a_full_disk(small_disk: Path, started: Callable[[Path | str], Gateway]) -> None:
    path = small_disk / "ledger.db"
    secret = prepared(path)
    gateway = started(path)
    answered = [gateway.ask(secret).headers["x-request-id"]]
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    callers = Callers(gateway.port, secret)
    wait_until(lambda: len(callers.refused) >= 5, PATIENCE_S, "the disk is full")
    filler.unlink()
    wait_until(lambda: len(callers.answered) >= 5, PATIENCE_S, "it answers again by itself")
    callers.stop()
    assert {status for status, _ in callers.refused} <= {503, 200}
    assert {error["code"] for _, error in callers.refused} == {"ledger_unavailable"}
    assert any("its disk is full; free space" in error["message"] for _, error in callers.refused)
    look = Look(path)
    settled(look)
    check(look, answered + callers.answered)
    look.db.close()


def test_a_read_only_disk_is_one_sentence_at_the_start(small_disk: Path, fake: FakeProcess) -> None:
    path = small_disk / "ledger.db"
    prepared(path)
    gateway = Gateway(fake, path)
    gateway.kill()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    log = Path(tempfile.mkdtemp(prefix="ap-"))
    argv, environment = [sys.executable, "-m", "appliance", "gateway"], _environment(small_disk, APPLIANCE_RUN=str(log))
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, cwd=log, timeout=60)
    shutil.rmtree(log)
    gateway.client.close()
    assert done.returncode == 1
    *before, last = done.stderr.splitlines()
    assert last.startswith("error: ") and "make APPLIANCE_HOME writable" in last
    assert all("gateway.log cannot be written" in line for line in before)  # the log says so for itself


def test_a_change_reaches_two_gateways_within_a_second(
    started: Callable[[Path | str], Gateway], postgres_server: PostgresServer
) -> None:
    url = postgres_server.create()
    prepared(url)
    made, actor = engine(url), Actor("test")
    new = keys.create(made, actor, "changing")
    both = [started(url), started(url)]

    def within_a_second(status: int) -> None:
        begun = time.monotonic()
        wait_until(lambda: [g.ask(new.secret).status_code for g in both] == [status] * 2, 5, f"both say {status}")
        assert time.monotonic() - begun < 1.5  # a second, and the asking itself

    within_a_second(200)
    keys.configure(made, actor, new.key.id, cap_nusd=0)
    within_a_second(402)
    keys.configure(made, actor, new.key.id, cap_nusd=None)
    within_a_second(200)
    keys.revoke(made, actor, new.key.id)
    within_a_second(401)
    made.dispose()


def test_a_key_revoked_during_an_upload_is_not_served(home: Path, started: Callable[[Path | str], Gateway]) -> None:
    path = home / "ledger.db"
    secret = prepared(path)
    gateway = started(path)
    made = engine(path)
    body = b'{"model": "fake", "messages": [{"role": "user", "content": "hello"}]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {secret}\r\n"
    with closing(socket.create_connection(("127.0.0.1", gateway.port), timeout=10)) as slow:
        slow.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body[:20])
        assert gateway.ask(secret).status_code == 200
        keys.revoke(made, Actor("test"), keys.listed(made)[0].id)
        wait_until(lambda: gateway.ask(secret).status_code == 401, 1.5, "the revocation is seen")
        slow.sendall(body[20:])
        assert slow.recv(4096).startswith(b"HTTP/1.1 401 ")
    made.dispose()
    look = Look(path)
    assert look.counts()["ok"] == look.totals()[0]
    look.db.close()


def test_a_limit_of_two_gateways_is_one_limit(
    started: Callable[[Path | str], Gateway], postgres_server: PostgresServer
) -> None:
    url = postgres_server.create()
    secret = prepared(url, requests_per_minute=100)
    both = [started(url), started(url)]
    passed: list[int] = []
    begun = time.monotonic()

    def burst(gateway: Gateway) -> None:
        passed.extend(gateway.ask(secret).status_code for _ in range(20))

    threads = [threading.Thread(target=burst, args=(g,)) for g in both for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refilled = (time.monotonic() - begun) * 100 / 60
    assert set(passed) == {200, 429}
    assert 100 <= passed.count(200) <= 101 + refilled
