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
from ledger.conftest import AT_MS
from support import wait_until

from appliance.errors import LedgerUnavailable
from appliance.ledger import Ledger, Rejected, gateways
from appliance.ledger.entries import Entering, Settlement
from appliance.types import Admission, Admitted, Key


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Another connection holds the write lock, until the block ends or it commits."""
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield holder


@pytest.fixture
def where(path: Path) -> Path:
    """SQLite's own troubles; PostgreSQL's are in test_postgres.py."""
    return path


async def answer(ledger: Ledger, values: Any, admission: Any, **fields: Any) -> None:
    admitted = await ledger.admit(admission)
    await ledger.settle(admission, admitted, values.outcome(admission.request.id, **fields))


def check(path: Path) -> dict[str, int]:
    """The counts, after SQLite found its file sound and every reference kept."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        return dict(connection.execute("SELECT status, count(*) FROM requests GROUP BY status"))


async def outcomes(*coroutines: Any) -> list[Any]:
    return await asyncio.gather(*coroutines, return_exceptions=True)


async def test_bad_entries_fail_alone(ledger: Ledger, key: Key, path: Path, values: Any) -> None:
    stranger = msgspec.structs.replace(key, id="key_unknown")
    unknown = values.admission(key, "req_unknown")
    old, first, good = values.admission(key), values.admission(key), values.admission(key)
    twin = values.admission(key, first.request.id)
    ledger._journal.write([Entering(old, 202311)])
    was = Admitted("conv_old", True)
    group = [
        ledger.admit(first),
        ledger.admit(twin),
        ledger.admit(values.admission(stranger)),
        ledger.settle(unknown, was, values.outcome("req_unknown")),
        ledger.admit(good),
        ledger.settle(old, was, values.outcome(old.request.id)),
        ledger.settle(old, was, values.outcome(old.request.id)),
    ]
    waiting = asyncio.ensure_future(outcomes(*group))
    await asyncio.sleep(0)  # all in one group
    ledger.start(asyncio.get_running_loop())
    results = await waiting
    assert [type(result) for result in results] == [
        Admitted, Rejected, Rejected, Rejected, Admitted, type(None), Rejected,
    ]  # fmt: skip
    assert "fresh id" in results[1].message
    assert "not open" in results[3].message
    assert results[3].status == 500
    assert check(path) == {"ok": 1, "open": 2}


async def test_an_outcome_that_does_not_fit_leaves_nothing_half_written(
    ledger: Ledger, key: Key, path: Path, values: Any, look: Any
) -> None:
    admission, bystander = values.admission(key, reserve_nusd=5), values.admission(key, reserve_nusd=5)
    ledger.start(asyncio.get_running_loop())
    admitted, other = await outcomes(ledger.admit(admission), ledger.admit(bystander))
    good = values.outcome(admission.request.id, attempts=2)
    # found out when all else of it is written already
    bad_call = msgspec.structs.replace(good.attempts[1].calls[0], engine=None)
    bad = msgspec.structs.replace(
        good, attempts=(good.attempts[0], msgspec.structs.replace(good.attempts[1], calls=(bad_call,)))
    )
    for one, its in ((admission, admitted), (bystander, other)):
        with pytest.raises(Rejected, match="cannot be recorded"):
            await ledger.settle(one, its, msgspec.structs.replace(bad, request_id=one.request.id))
    wait_until(lambda: look.counts() == {"lost": 2}, 5, "the requests are settled as lost")
    assert look.totals() == (2, 0, 0)
    assert look("SELECT reserved_nusd, spent_nusd FROM budgets") == [(0, 0), (0, 0)]


async def test_a_lock_held_too_long_is_a_503_and_then_passes(
    ledger: Ledger, key: Key, path: Path, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ledger.sqlite.LOCK_WAIT_S", 0.1)
    ledger.start(asyncio.get_running_loop())
    with locked(path), pytest.raises(LedgerUnavailable, match="write lock") as caught:
        await ledger.admit(values.admission(key))
    assert caught.value.status == 503
    assert caught.value.headers["retry-after"] == "5"
    await answer(ledger, values, values.admission(key))
    assert check(path) == {"ok": 1}


async def test_a_lock_held_for_a_moment_is_waited_for(ledger: Ledger, key: Key, path: Path, values: Any) -> None:
    ledger.start(asyncio.get_running_loop())
    with locked(path) as holder:
        admit = asyncio.ensure_future(ledger.admit(values.admission(key)))
        done, _ = await asyncio.wait([admit], timeout=0.4)  # longer than one slice of the wait
        assert not done
        holder.execute("COMMIT")
        await admit
    assert check(path) == {"open": 1}


async def test_an_outcome_that_could_not_be_written_is_lost_without_a_restart(
    ledger: Ledger, key: Key, path: Path, values: Any, look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ledger.sqlite.LOCK_WAIT_S", 0.1)
    ledger.start(asyncio.get_running_loop())
    admission = values.admission(key, reserve_nusd=5)
    admitted = await ledger.admit(admission)
    with locked(path), pytest.raises(LedgerUnavailable):
        await ledger.settle(admission, admitted, values.outcome(admission.request.id))
    wait_until(lambda: look.counts() == {"lost": 1}, 5, "the request is settled as lost")
    ((code, finished_ms, reserved),) = look("SELECT error_code, finished_ms, reserved_nusd FROM requests")
    assert (code, reserved) == ("ledger_unavailable", 0)
    assert finished_ms is not None
    assert look("SELECT reserved_nusd FROM budgets") == [(0,), (0,)]


async def test_an_outcome_may_be_tried_again(
    ledger: Ledger, key: Key, path: Path, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ledger.sqlite.LOCK_WAIT_S", 0.1)
    ledger.start(asyncio.get_running_loop())
    admission = values.admission(key)
    admitted = await ledger.admit(admission)
    outcome = values.outcome(admission.request.id)
    with locked(path):
        with pytest.raises(LedgerUnavailable):
            await ledger.settle(admission, admitted, outcome)
        again = asyncio.ensure_future(ledger.settle(admission, admitted, outcome))
        await asyncio.sleep(0)  # queued before the lock is gone
    await again
    assert check(path) == {"ok": 1}


async def test_a_gateway_that_was_taken_for_dead_may_still_settle(
    ledger: Ledger, key: Key, values: Any, look: Any
) -> None:
    """It was stopped for so long that another settled its requests as lost and released their reservations."""
    ledger.start(asyncio.get_running_loop())
    admission = values.admission(key, reserve_nusd=100)
    admitted = await ledger.admit(admission)
    gateways.reap_all(look.db, 1_700_000_000_500)
    assert look("SELECT reserved_nusd FROM budgets") == [(0,), (0,)]
    await ledger.settle(admission, admitted, values.outcome(admission.request.id, hosted_nusd=30))
    assert look.counts() == {"ok": 1}
    assert look("SELECT spent_nusd, reserved_nusd FROM budgets") == [(30, 0), (30, 0)]


async def test_a_full_disk_loses_nothing_that_was_confirmed(
    ledger: Ledger, key: Key, path: Path, values: Any, look: Any
) -> None:
    connection = ledger._journal.db.connection  # type: ignore[attr-defined]
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages + 8}")
    ledger.start(asyncio.get_running_loop())
    confirmed: dict[str, Any] = {}

    async def fill() -> None:
        while True:
            admission = values.admission(key)
            confirmed[admission.request.id] = (admission, await ledger.admit(admission))

    results = await outcomes(*(fill() for _ in range(8)))
    assert all(isinstance(result, LedgerUnavailable) and "disk is full" in result.message for result in results)
    assert set(look.ids()) == set(confirmed)
    with pytest.raises(LedgerUnavailable, match="disk is full"):
        await asyncio.gather(*(ledger.settle(*both, values.outcome(name)) for name, both in confirmed.items()))
    connection.execute(f"PRAGMA max_page_count={pages + 4000}")
    wait_until(lambda: "open" not in look.counts(), 5, "what could not be settled is lost")
    await answer(ledger, values, values.admission(key))
    counts = check(path)
    assert sum(counts.values()) == len(confirmed) + 1
    assert set(counts) == {"ok", "lost"}


_WRITE_TO_A_LIMIT = """
import asyncio, os, resource, sys
from pathlib import Path
from appliance.errors import LedgerUnavailable
from appliance.ledger import Ledger
from appliance.types import Admission, Request, Turn
path, secret = Path(sys.argv[1]), sys.argv[2]

def asks(name, key):
    return Admission(Request(name, key, "completions", "m", False, 1), Turn(), "conv_" + name)

async def main():
    ledger = Ledger.open(path)
    ledger.start(asyncio.get_running_loop())
    key = ledger.authenticate(secret)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    number = 0
    try:
        while True:
            await ledger.admit(asks(f"req_{number:06d}", key))
            print(f"req_{number:06d}")
            number += 1
    except LedgerUnavailable as e:
        print("error", e.message)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await ledger.admit(asks("req_after", key))
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
    with closing(sqlite3.connect(path)) as connection:
        assert {name for (name,) in connection.execute("SELECT id FROM requests")} == {*confirmed, after}


async def test_a_read_only_ledger_is_a_503_and_then_passes(ledger: Ledger, key: Key, path: Path, values: Any) -> None:
    ledger._journal.db.connection.execute("PRAGMA query_only=ON")
    ledger.start(asyncio.get_running_loop())
    with pytest.raises(LedgerUnavailable, match="read-only"):
        await ledger.admit(values.admission(key))
    ledger._journal.db.connection.execute("PRAGMA query_only=OFF")
    await ledger.admit(values.admission(key))
    assert check(path) == {"open": 1}


async def test_a_broken_connection_is_opened_afresh(ledger: Ledger, key: Key, path: Path, values: Any) -> None:
    ledger._journal.db.connection.close()
    ledger.start(asyncio.get_running_loop())
    with pytest.raises(LedgerUnavailable):
        await ledger.admit(values.admission(key))
    await ledger.admit(values.admission(key))
    assert check(path) == {"open": 1}


async def test_a_fault_of_ours_does_not_end_the_writer(
    ledger: Ledger, key: Key, path: Path, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    ledger.start(asyncio.get_running_loop())
    with monkeypatch.context() as patch:
        patch.setattr(ledger._journal, "_put", broken)
        with pytest.raises(LedgerUnavailable, match="ZeroDivisionError"):
            await ledger.admit(values.admission(key))
    await ledger.admit(values.admission(key))
    assert check(path) == {"open": 1}


async def test_only_what_somebody_was_told_of_waits_for_the_disk(
    ledger: Ledger, key: Key, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, synced = ledger._journal, []
    ask = "PRAGMA synchronous" if journal.db.dialect == "sqlite" else "SHOW synchronous_commit"
    commit = journal.db.commit

    def look_and_commit() -> None:
        synced.extend(journal.db.query(ask)[0])
        commit()

    monkeypatch.setattr(journal.db, "commit", look_and_commit)

    def made(stream: bool = False, **fields: Any) -> Admission:
        admission = values.admission(key, **fields)
        return msgspec.structs.replace(admission, request=msgspec.structs.replace(admission.request, stream=stream))

    whole = made()
    (admitted,) = journal.write([Entering(whole, 202311)])
    assert isinstance(admitted, Admitted)
    outcome = values.outcome(whole.request.id)
    journal.write([Settlement(Entering(whole, 202311, admitted), outcome, AT_MS)])
    journal.write([Entering(made(), 202311)])
    journal.write([Entering(made(), 202311), Entering(made(stream=True), 202311)])
    journal.write([Entering(made(hosted_nusd=7), 202311)])
    light, full = (1, 2) if journal.db.dialect == "sqlite" else ("off", "on")
    assert synced == [light, full, light, full, full]
