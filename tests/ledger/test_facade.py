"""The facade: durable on return, grouped, never blocking, one gateway a file."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import wait_until

from appliance.errors import LedgerUnavailable
from appliance.ledger import KeyStore, Ledger, Reader
from appliance.types import Key


async def test_what_returned_is_what_others_read(ledger: Ledger, key: Key, path: Path, values: Any) -> None:
    ledger.start(asyncio.get_running_loop())
    request = values.request(key)
    with closing(Reader.open(path)) as reader:
        await ledger.admit(request)
        opened = reader.request(request.id)
        await ledger.settle(values.outcome(request.id, attempts=2, calls=3))
        row = reader.request(request.id)
        assert reader.totals() == (1, 2, 6)
    assert opened is not None and row is not None
    assert (opened.status, opened.finished_ms, opened.attempts) == ("open", None, ())
    assert (row.tenant_id, row.key_id, row.endpoint, row.model) == ("default", key.id, "chat.completions", "default")
    assert (row.stream, row.at_ms, row.status, row.http_status) == (True, 1_700_000_000_000, "ok", 200)
    assert (row.total_ms, row.ttft_ms, row.error_code) == (12.5, 3.5, None)
    assert row.finished_ms is not None and row.finished_ms > row.at_ms
    attempt = row.attempts[1]
    assert (attempt.ordinal, attempt.engine, attempt.route, attempt.reason) == (1, "chat", "local", "routine")
    call = attempt.calls[2]
    assert (call.ordinal, call.prompt_tokens, call.cached_tokens, call.completion_tokens) == (2, 30, 8, 16)
    assert (call.audio_s, call.finish_reason, call.ttft_ms, call.total_ms) == (0.5, "stop", 3.5, 11.0)


async def test_a_refused_request_has_no_attempts(ledger: Ledger, key: Key, path: Path, values: Any) -> None:
    ledger.start(asyncio.get_running_loop())
    request = values.request(key)
    await ledger.admit(request)
    await ledger.settle(values.outcome(request.id, attempts=0))
    with closing(Reader.open(path)) as reader:
        assert reader.totals() == (1, 0, 0)
        assert reader.counts() == {"ok": 1}


def test_what_a_crash_left_open_is_lost_at_the_next_start(path: Path, secret: str, values: Any) -> None:
    async def leave_one_open() -> None:
        ledger = Ledger.open(path)
        ledger.start(asyncio.get_running_loop())
        key = ledger.authenticate(secret)
        assert key is not None
        for request_id in ("req_done", "req_left"):
            await ledger.admit(values.request(key, request_id))
        await ledger.settle(values.outcome("req_done"))
        ledger.close()

    asyncio.run(leave_one_open())
    Ledger.open(path, clock=lambda: 1_800_000_000.5).close()
    with closing(Reader.open(path)) as reader:
        left = reader.request("req_left")
        assert left is not None
        assert (left.status, left.finished_ms) == ("lost", 1_800_000_000_500)
        assert reader.counts() == {"ok": 1, "lost": 1}


def test_a_second_gateway_is_refused_until_the_first_is_gone(
    path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ledger.facade._OPEN_WAIT_S", 0.0)
    with pytest.raises(LedgerUnavailable, match=r"another appliance \(process \d+\)") as caught:
        Ledger.open(path)
    assert caught.value.code == "ledger_in_use"
    ledger.close()
    Ledger.open(path).close()


async def test_everything_that_waits_shares_a_commit(ledger: Ledger, key: Key, path: Path, values: Any) -> None:
    commits: list[str] = []
    ledger._journal.connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    requests = [values.request(key) for _ in range(300)]
    admits = [asyncio.ensure_future(ledger.admit(request)) for request in requests]
    await asyncio.sleep(0)  # all are queued before the thread starts
    ledger.start(asyncio.get_running_loop())
    await asyncio.gather(*admits)
    assert len(commits) == 1
    with closing(Reader.open(path)) as reader:
        assert reader.ids() == [request.id for request in requests]


async def test_a_slow_disk_delays_the_waiter_and_not_the_loop(path: Path, secret: str, values: Any) -> None:
    ledger = Ledger.open(path, commit_delay_s=0.3)
    ledger.start(asyncio.get_running_loop())
    key = ledger.authenticate(secret)
    assert key is not None
    loop = asyncio.get_running_loop()
    started = loop.time()
    admit = asyncio.ensure_future(ledger.admit(values.request(key)))
    turns = 0
    while not admit.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert loop.time() - started >= 0.3
    assert turns > 10
    await asyncio.to_thread(ledger.close)


@pytest.mark.parametrize("what", ["admit", "settle"])
async def test_cancelling_the_waiter_does_not_cancel_the_row(what: str, path: Path, secret: str, values: Any) -> None:
    ledger = Ledger.open(path, commit_delay_s=0.05)
    ledger.start(asyncio.get_running_loop())
    key = ledger.authenticate(secret)
    assert key is not None
    request = values.request(key)
    if what == "admit":
        task = asyncio.ensure_future(ledger.admit(request))
    else:
        await ledger.admit(request)
        task = asyncio.ensure_future(ledger.settle(values.outcome(request.id)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if what == "admit":  # as the pipeline does: the row is there or will be, so its end must follow
        await ledger.settle(values.outcome(request.id))
    await asyncio.to_thread(ledger.close)
    with closing(Reader.open(path)) as reader:
        assert reader.counts() == {"ok": 1}
        assert reader.totals() == (1, 1, 1)


async def test_close_writes_what_is_queued_and_then_refuses(ledger: Ledger, key: Key, path: Path, values: Any) -> None:
    ledger.start(asyncio.get_running_loop())
    admits = [asyncio.ensure_future(ledger.admit(values.request(key))) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.to_thread(ledger.close)
    await asyncio.gather(*admits)
    with pytest.raises(LedgerUnavailable, match="shutting down"):
        await ledger.admit(values.request(key))
    with closing(Reader.open(path)) as reader:
        assert reader.counts() == {"open": 50}


async def test_only_a_live_secret_authenticates(ledger: Ledger, secret: str) -> None:
    key = ledger.authenticate(secret)
    assert key is not None
    assert (key.name, key.role, key.tenant.id) == ("web", "client", "default")
    assert len(key.tenant.cache_salt) >= 32
    for wrong in ("", secret[:-1], secret + "x", "ak-", "ключ", "\udcff"):
        assert ledger.authenticate(wrong) is None


_MANAGE_KEYS = """
import sys
from pathlib import Path
from appliance.ledger import KeyStore
store = KeyStore.open(Path(sys.argv[1]))
key, secret = store.create("other")
print(key.id, secret)
sys.stdin.readline()
store.revoke(key.id)
print("revoked")
sys.stdin.readline()
"""


async def test_another_process_creates_and_revokes_within_a_second(
    ledger: Ledger, path: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    ledger.start(asyncio.get_running_loop())
    other = spawn(_MANAGE_KEYS, path)
    assert other.stdout is not None and other.stdin is not None
    key_id, secret = other.stdout.readline().split()
    wait_until(lambda: ledger.authenticate(secret), 1.0, "a new key is seen")
    found = ledger.authenticate(secret)
    assert found is not None and found.id == key_id
    other.stdin.write("\n")
    other.stdin.flush()
    assert other.stdout.readline() == "revoked\n"
    wait_until(lambda: ledger.authenticate(secret) is None, 1.0, "a revocation is seen")


async def test_a_revocation_is_seen_while_the_writer_waits_for_a_lock(
    ledger: Ledger, key: Key, secret: str, path: Path, values: Any
) -> None:
    with closing(KeyStore.open(path)) as store, closing(sqlite3.connect(path, isolation_level=None)) as holder:
        store.revoke(key.id)
        holder.execute("BEGIN IMMEDIATE")
        ledger.start(asyncio.get_running_loop())
        admit = asyncio.ensure_future(ledger.admit(values.request(key)))
        await asyncio.sleep(0)
        wait_until(lambda: ledger.authenticate(secret) is None, 1.0, "a revocation is seen")
        assert not admit.done()
        holder.execute("ROLLBACK")
        await admit


_CHURN_KEYS = """
import sys
from pathlib import Path
from appliance.ledger import KeyStore
store = KeyStore.open(Path(sys.argv[1]))
for n in range(200):
    store.revoke(store.create(f"key {n}")[0].id)
print("done")
"""


async def test_two_processes_write_one_file(
    ledger: Ledger, key: Key, path: Path, values: Any, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    ledger.start(asyncio.get_running_loop())
    other = spawn(_CHURN_KEYS, path)

    async def caller() -> None:
        while other.poll() is None:
            request = values.request(key)
            await ledger.admit(request)
            await ledger.settle(values.outcome(request.id))

    await asyncio.gather(*(caller() for _ in range(4)))
    assert other.returncode == 0
    with closing(Reader.open(path)) as reader, closing(KeyStore.open(path)) as store:
        requests, attempts, calls = reader.totals()
        assert reader.counts() == {"ok": requests}
        assert requests == attempts == calls > 0
        assert len(store.list()) == 201
        assert [info.name for info in store.list() if info.revoked_ms is None] == ["web"]


_START = """
import sys
from pathlib import Path
from appliance.ledger import Ledger, ensure_admin_key
path = Path(sys.argv[1])
print(ensure_admin_key(path, path.with_name("admin.key"))[0])
Ledger.open(path).close()
print(sorted({"sqlalchemy", "alembic", "pydantic"} & sys.modules.keys()))
"""


def test_only_a_first_start_loads_sqlalchemy(tmp_path: Path, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    home = tmp_path / "home"
    first, _ = spawn(_START, home / "ledger.db").communicate()
    second, _ = spawn(_START, home / "ledger.db").communicate()
    assert first.splitlines() == ["True", "['alembic', 'sqlalchemy']"]
    assert second.splitlines() == ["False", "[]"]
