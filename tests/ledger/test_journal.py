"""When the store cannot take a group, and when an entry is bad in itself."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import wait_until

from appliance.errors import LedgerUnavailable
from appliance.ledger import Ledger, Reader, Rejected
from appliance.types import Key


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Another connection holds the write lock, until the block ends or it commits."""
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield holder


def check(path: Path) -> dict[str, int]:
    """The counts, after SQLite found its file sound and every reference kept."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    with closing(Reader.open(path)) as reader:
        return reader.counts()


async def outcomes(*coroutines: Any) -> list[Any]:
    return await asyncio.gather(*coroutines, return_exceptions=True)


async def test_bad_entries_fail_alone(ledger: Ledger, key: Key, path: Path, values: Any) -> None:
    stranger = msgspec.structs.replace(key, id="key_unknown")
    first, twin, good = values.request(key), values.request(key, "req_000000"), values.request(key)
    group = [
        ledger.admit(first),
        ledger.admit(twin),
        ledger.admit(values.request(stranger)),
        ledger.settle(values.outcome("req_unknown")),
        ledger.admit(good),
        ledger.settle(values.outcome(good.id)),
        ledger.settle(values.outcome(good.id)),
        ledger.settle(values.outcome(first.id, total_ms="long")),
    ]
    waiting = asyncio.ensure_future(outcomes(*group))
    await asyncio.sleep(0)  # all in one group
    ledger.start(asyncio.get_running_loop())
    results = await waiting
    assert [type(result) for result in results] == [
        type(None), Rejected, Rejected, Rejected, type(None), type(None), Rejected, type(None),
    ]  # fmt: skip
    assert "fresh id" in results[1].message
    assert "not open" in results[3].message
    assert results[3].status == 500
    assert check(path) == {"ok": 2}


async def test_an_outcome_that_does_not_fit_leaves_nothing_half_written(
    ledger: Ledger, key: Key, path: Path, values: Any
) -> None:
    request, bystander = values.request(key), values.request(key)
    good = values.outcome(request.id, attempts=2)
    # found out when all else of it is written already
    bad_call = msgspec.structs.replace(good.attempts[1].calls[0], engine=None)
    bad = msgspec.structs.replace(
        good, attempts=(good.attempts[0], msgspec.structs.replace(good.attempts[1], calls=(bad_call,)))
    )
    group = [ledger.admit(request), ledger.admit(bystander), ledger.settle(bad)]
    waiting = asyncio.ensure_future(outcomes(*group))
    await asyncio.sleep(0)  # all in one group
    ledger.start(asyncio.get_running_loop())
    assert [type(result) for result in await waiting] == [type(None), type(None), Rejected]
    with pytest.raises(Rejected, match="does not fit"):  # and alone
        await ledger.settle(msgspec.structs.replace(bad, request_id=bystander.id))
    with closing(Reader.open(path)) as reader:
        wait_until(lambda: reader.counts() == {"lost": 2}, 5, "the requests are settled as lost")
        assert reader.totals() == (2, 0, 0)


async def test_a_lock_held_too_long_is_a_503_and_then_passes(
    ledger: Ledger, key: Key, path: Path, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ledger.journal.LOCK_WAIT_S", 0.1)
    ledger.start(asyncio.get_running_loop())
    with locked(path):
        refused = values.request(key)
        with pytest.raises(LedgerUnavailable, match="write lock") as caught:
            await ledger.admit(refused)
    assert caught.value.status == 503
    assert caught.value.headers["retry-after"] == "5"
    request = values.request(key)
    await ledger.admit(request)
    await ledger.settle(values.outcome(request.id))
    assert check(path) == {"ok": 1}


async def test_a_lock_held_for_a_moment_is_waited_for(ledger: Ledger, key: Key, path: Path, values: Any) -> None:
    ledger.start(asyncio.get_running_loop())
    with locked(path) as holder:
        admit = asyncio.ensure_future(ledger.admit(values.request(key)))
        done, _ = await asyncio.wait([admit], timeout=0.4)  # longer than one slice of the wait
        assert not done
        holder.execute("COMMIT")
        await admit
    assert check(path) == {"open": 1}


async def test_an_outcome_that_could_not_be_written_is_lost_without_a_restart(
    ledger: Ledger, key: Key, path: Path, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ledger.journal.LOCK_WAIT_S", 0.1)
    ledger.start(asyncio.get_running_loop())
    request = values.request(key)
    await ledger.admit(request)
    with locked(path), pytest.raises(LedgerUnavailable):
        await ledger.settle(values.outcome(request.id))
    with closing(Reader.open(path)) as reader:
        wait_until(lambda: reader.counts() == {"lost": 1}, 5, "the request is settled as lost")
        row = reader.request(request.id)
    assert row is not None
    assert row.error_code == "ledger_unavailable"
    assert row.finished_ms is not None


async def test_an_outcome_may_be_tried_again(
    ledger: Ledger, key: Key, path: Path, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ledger.journal.LOCK_WAIT_S", 0.1)
    ledger.start(asyncio.get_running_loop())
    request = values.request(key)
    await ledger.admit(request)
    with locked(path):
        with pytest.raises(LedgerUnavailable):
            await ledger.settle(values.outcome(request.id))
        again = asyncio.ensure_future(ledger.settle(values.outcome(request.id)))
        await asyncio.sleep(0)  # queued before the lock is gone
    await again
    assert check(path) == {"ok": 1}


async def test_a_full_disk_loses_nothing_that_was_confirmed(ledger: Ledger, key: Key, path: Path, values: Any) -> None:
    connection = ledger._journal.connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages + 4}")
    ledger.start(asyncio.get_running_loop())
    confirmed: set[str] = set()

    async def fill() -> None:
        while True:
            request = values.request(key)
            await ledger.admit(request)
            confirmed.add(request.id)

    results = await outcomes(*(fill() for _ in range(8)))
    assert all(isinstance(result, LedgerUnavailable) and "disk is full" in result.message for result in results)
    with closing(Reader.open(path)) as reader:
        assert set(reader.ids()) == confirmed
    with pytest.raises(LedgerUnavailable, match="disk is full"):
        await asyncio.gather(*(ledger.settle(values.outcome(request_id)) for request_id in confirmed))
    connection.execute(f"PRAGMA max_page_count={pages + 4000}")
    with closing(Reader.open(path)) as reader:
        wait_until(lambda: "open" not in reader.counts(), 5, "what could not be settled is lost")
    request = values.request(key)
    await ledger.admit(request)
    await ledger.settle(values.outcome(request.id))
    counts = check(path)
    assert sum(counts.values()) == len(confirmed) + 1
    assert set(counts) == {"ok", "lost"}


_WRITE_TO_A_LIMIT = """
import asyncio, os, resource, sys
from pathlib import Path
from appliance.errors import LedgerUnavailable
from appliance.ledger import Ledger
from appliance.types import Request
path, secret = Path(sys.argv[1]), sys.argv[2]

async def main():
    ledger = Ledger.open(path)
    ledger.start(asyncio.get_running_loop())
    key = ledger.authenticate(secret)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    number = 0
    try:
        while True:
            await ledger.admit(Request(f"req_{number:06d}", key, "completions", "m", False, 1))
            print(f"req_{number:06d}")
            number += 1
    except LedgerUnavailable as e:
        print("error", e.message)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await ledger.admit(Request("req_after", key, "completions", "m", False, 1))
    print("req_after")
    ledger.close()

asyncio.run(main())
"""


def test_writes_that_the_kernel_refuses_are_a_503_and_then_pass(
    path: Path, secret: str, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    output, _ = spawn(_WRITE_TO_A_LIMIT, path, secret).communicate(timeout=60)
    *confirmed, error, after = output.splitlines()
    assert len(confirmed) > 5
    assert error.startswith("error the ledger cannot be used: its disk")
    assert after == "req_after"
    assert check(path) == {"open": len(confirmed) + 1}
    with closing(Reader.open(path)) as reader:
        assert set(reader.ids()) == {*confirmed, after}


async def test_a_read_only_ledger_is_a_503_and_then_passes(ledger: Ledger, key: Key, path: Path, values: Any) -> None:
    ledger._journal.connection.execute("PRAGMA query_only=ON")
    ledger.start(asyncio.get_running_loop())
    with pytest.raises(LedgerUnavailable, match="read-only"):
        await ledger.admit(values.request(key))
    ledger._journal.connection.execute("PRAGMA query_only=OFF")
    await ledger.admit(values.request(key))
    assert check(path) == {"open": 1}


async def test_a_broken_connection_is_opened_afresh(ledger: Ledger, key: Key, path: Path, values: Any) -> None:
    ledger._journal.connection.close()
    ledger.start(asyncio.get_running_loop())
    with pytest.raises(LedgerUnavailable):
        await ledger.admit(values.request(key))
    await ledger.admit(values.request(key))
    assert check(path) == {"open": 1}


async def test_a_fault_of_ours_does_not_end_the_writer(
    ledger: Ledger, key: Key, path: Path, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    ledger.start(asyncio.get_running_loop())
    with monkeypatch.context() as patch:
        patch.setattr(ledger._journal, "_begin", broken)
        with pytest.raises(LedgerUnavailable, match="ZeroDivisionError"):
            await ledger.admit(values.request(key))
    await ledger.admit(values.request(key))
    assert check(path) == {"open": 1}
