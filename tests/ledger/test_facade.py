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

from appliance.errors import BudgetExceeded, LedgerUnavailable
from appliance.ledger import Ledger
from appliance.ledger.core import engine
from appliance.ledger.journal import Journal
from appliance.ledger.stores import keys
from appliance.ledger.stores.changes import Actor
from appliance.types import Key


async def test_what_returned_is_what_others_read(ledger: Ledger, key: Key, look: Any, values: Any) -> None:
    ledger.start(asyncio.get_running_loop())
    admission = values.admission(key)
    admitted = await ledger.admit(admission)
    assert look("SELECT status, finished_ms, conversation_id FROM requests") == [
        ("open", None, admitted.conversation_id)
    ]
    outcome = values.outcome(admission.request.id, attempts=2, calls=3, hosted_nusd=7)
    await ledger.settle(admission, admitted, outcome)
    assert look.totals() == (1, 2, 6)
    ((tenant, key_id, endpoint, model, stream, at_ms),) = look(
        "SELECT tenant_id, key_id, endpoint, model, stream, at_ms FROM requests"
    )
    assert (tenant, key_id, endpoint, model) == ("default", key.id, "chat.completions", "default")
    assert (bool(stream), at_ms) == (True, 1_700_000_000_000)
    assert look("SELECT status, http_status, error_code, total_ms, ttft_ms, route, reason, month FROM requests") == [
        ("ok", 200, None, 12.5, 3.5, "local", "routine", 202311)
    ]
    sums = "prompt_tokens, cached_tokens, completion_tokens, audio_s, hosted_nusd, work_ns"
    assert look(f"SELECT {sums} FROM requests") == [(180, 48, 96, 3.0, 42, 6_000_000)]
    assert look("SELECT ordinal, engine, route, reason FROM attempts WHERE ordinal = 1") == [
        (1, "chat", "local", "routine")
    ]
    call = "prompt_tokens, cached_tokens, completion_tokens, audio_s, finish_reason, ttft_ms, total_ms, provider"
    assert look(f"SELECT {call} FROM calls WHERE attempt_ordinal = 1 AND ordinal = 2") == [
        (30, 8, 16, 0.5, "stop", 3.5, 11.0, "local")
    ]
    assert look("SELECT requests, escalated, hosted_nusd, work_ns FROM conversations")[0][0] == 1
    assert [bool(escalated) for escalated in look.column("SELECT escalated FROM conversations")] == [True]


async def test_a_refused_request_has_no_attempts(ledger: Ledger, key: Key, look: Any, values: Any) -> None:
    ledger.start(asyncio.get_running_loop())
    admission = values.admission(key)
    admitted = await ledger.admit(admission)
    await ledger.settle(admission, admitted, values.outcome(admission.request.id, attempts=0))
    assert look.totals() == (1, 0, 0)
    assert look.counts() == {"ok": 1}


def test_what_a_crash_left_open_is_lost_at_the_next_start(path: Path, secret: str, values: Any) -> None:
    async def leave_one_open() -> None:
        ledger = Ledger.open(path)
        ledger.start(asyncio.get_running_loop())
        key = ledger.authenticate(secret)
        assert key is not None
        for request_id in ("req_done", "req_left"):
            admission = values.admission(key, request_id, reserve_nusd=9)
            admitted = await ledger.admit(admission)
        done = values.admission(key, "req_done", reserve_nusd=9)
        await ledger.settle(done, admitted, values.outcome("req_done"))
        ledger.close()

    asyncio.run(leave_one_open())
    Ledger.open(path, clock=lambda: 1_800_000_000.5).close()
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT id, status, finished_ms, reserved_nusd FROM requests WHERE status <> 'ok'"
        assert connection.execute(query).fetchall() == [("req_left", "lost", 1_800_000_000_500, 0)]
        assert connection.execute("SELECT reserved_nusd FROM budgets").fetchall() == [(0,), (0,)]


def test_a_second_gateway_on_one_file_is_refused_until_the_first_is_gone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ledger.facade._OPEN_WAIT_S", 0.0)
    ledger = Ledger.open(path)
    with pytest.raises(LedgerUnavailable, match=r"another appliance \(process \d+\)") as caught:
        Ledger.open(path)
    assert caught.value.code == "ledger_in_use"
    ledger.close()
    Ledger.open(path).close()


def test_postgresql_takes_several_gateways(url: str, secret: str) -> None:
    ledgers = [Ledger.open(url) for _ in range(3)]
    assert all(ledger.authenticate(secret) is not None for ledger in ledgers)
    for ledger in ledgers:
        ledger.close()


async def test_everything_that_waits_shares_a_commit(
    ledger: Ledger, key: Key, look: Any, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    real = Journal.write

    def write(self: Journal, group: Any, *rest: Any) -> Any:
        groups.append(len(group))
        return real(self, group, *rest)

    monkeypatch.setattr(Journal, "write", write)
    admissions = [values.admission(key) for _ in range(300)]
    admits = [asyncio.ensure_future(ledger.admit(admission)) for admission in admissions]
    await asyncio.sleep(0)  # all are queued before the thread starts
    ledger.start(asyncio.get_running_loop())
    await asyncio.gather(*admits)
    assert groups == [300]
    assert look.ids() == [admission.request.id for admission in admissions]


async def test_a_slow_disk_delays_the_waiter_and_not_the_loop(where: Any, secret: str, values: Any) -> None:
    ledger = Ledger.open(where, commit_delay_s=0.3)
    ledger.start(asyncio.get_running_loop())
    key = ledger.authenticate(secret)
    assert key is not None
    loop = asyncio.get_running_loop()
    started = loop.time()
    admit = asyncio.ensure_future(ledger.admit(values.admission(key)))
    turns = 0
    while not admit.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert loop.time() - started >= 0.3
    assert turns > 10
    await asyncio.to_thread(ledger.close)


@pytest.mark.parametrize("what", ["admit", "settle"])
async def test_cancelling_the_waiter_does_not_cancel_the_row(
    what: str, where: Any, secret: str, look: Any, values: Any
) -> None:
    ledger = Ledger.open(where, commit_delay_s=0.05)
    ledger.start(asyncio.get_running_loop())
    key = ledger.authenticate(secret)
    assert key is not None
    admission = values.admission(key, reserve_nusd=5)
    outcome = values.outcome(admission.request.id)
    if what == "admit":
        task: asyncio.Future[Any] = asyncio.ensure_future(ledger.admit(admission))
    else:
        admitted = await ledger.admit(admission)
        task = asyncio.ensure_future(ledger.settle(admission, admitted, outcome))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if what == "admit":  # as the pipeline does: the row is there or will be, so its end must follow
        await ledger.settle(admission, None, outcome)
    await asyncio.to_thread(ledger.close)
    assert look.counts() == {"ok": 1}
    assert look.totals() == (1, 1, 1)
    assert look("SELECT reserved_nusd FROM budgets") == [(0,), (0,)]
    assert look("SELECT requests FROM conversations") == [(1,)]


async def test_a_caller_who_left_and_was_refused_leaves_the_refusal(
    ledger: Ledger, key: Key, look: Any, values: Any
) -> None:
    import msgspec

    poor = msgspec.structs.replace(key, cap_nusd=0)
    admission = values.admission(poor)
    task = asyncio.ensure_future(ledger.admit(admission))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    ledger.start(asyncio.get_running_loop())
    await ledger.settle(admission, None, values.outcome(admission.request.id))
    assert look.counts() == {"refused": 1}
    assert look.totals() == (1, 0, 0)
    with pytest.raises(BudgetExceeded):
        await ledger.admit(values.admission(poor))


async def test_close_writes_what_is_queued_and_then_refuses(ledger: Ledger, key: Key, look: Any, values: Any) -> None:
    ledger.start(asyncio.get_running_loop())
    admits = [asyncio.ensure_future(ledger.admit(values.admission(key))) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.to_thread(ledger.close)
    await asyncio.gather(*admits)
    with pytest.raises(LedgerUnavailable, match="shutting down"):
        await ledger.admit(values.admission(key))
    assert look.counts() == {"open": 50}


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
from appliance.ledger.core import engine
from appliance.ledger.stores import keys
from appliance.ledger.stores.changes import Actor
where = sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])
made, actor = engine(where), Actor("test")
new = keys.create(made, actor, "other")
print(new.key.id, new.secret)
sys.stdin.readline()
keys.revoke(made, actor, new.key.id)
print("revoked")
sys.stdin.readline()
"""


async def test_another_process_creates_and_revokes_within_a_second(
    ledger: Ledger, where: Any, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    ledger.start(asyncio.get_running_loop())
    other = spawn(_MANAGE_KEYS, where)
    assert other.stdout is not None and other.stdin is not None
    key_id, secret = other.stdout.readline().split()
    wait_until(lambda: ledger.authenticate(secret), 1.0, "a new key is seen")
    found = ledger.authenticate(secret)
    assert found is not None and found.id == key_id
    other.stdin.write("\n")
    other.stdin.flush()
    assert other.stdout.readline() == "revoked\n"
    wait_until(lambda: ledger.authenticate(secret) is None, 1.0, "a revocation is seen")


async def test_a_revocation_is_seen_while_the_writer_waits_for_a_lock(path: Path, secret: str, values: Any) -> None:
    ledger = Ledger.open(path)
    key = ledger.authenticate(secret)
    assert key is not None
    made = engine(path)
    keys.revoke(made, Actor("test"), key.id)
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        ledger.start(asyncio.get_running_loop())
        admit = asyncio.ensure_future(ledger.admit(values.admission(key)))
        await asyncio.sleep(0)
        wait_until(lambda: ledger.authenticate(secret) is None, 1.0, "a revocation is seen")
        assert not admit.done()
        holder.execute("ROLLBACK")
        await admit
    await asyncio.to_thread(ledger.close)


async def test_an_expired_key_and_a_disabled_tenant_are_refused(path: Path, secret: str) -> None:
    from appliance.ledger.stores import tenants

    made = engine(path)
    expiring = keys.create(made, Actor("test", lambda: 900.0), "expiring", expires_ms=1_000_000).secret
    now = 999.0
    ledger = Ledger.open(path, clock=lambda: now)
    assert ledger.authenticate(expiring) is not None
    now = 1000.0
    assert ledger.authenticate(expiring) is None
    ledger.close()
    tenants.disable(made, Actor("test"), "default")
    ledger = Ledger.open(path)
    assert ledger.authenticate(secret) is None
    ledger.close()


_CHURN_KEYS = """
import sys
from pathlib import Path
from appliance.ledger.core import engine
from appliance.ledger.stores import keys
from appliance.ledger.stores.changes import Actor
where = sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])
made, actor = engine(where), Actor("test")
for n in range(200):
    keys.revoke(made, actor, keys.create(made, actor, f"key {n}").key.id)
print("done")
"""


async def test_two_processes_write_one_ledger(
    ledger: Ledger, key: Key, where: Any, look: Any, values: Any, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    ledger.start(asyncio.get_running_loop())
    other = spawn(_CHURN_KEYS, where)

    async def caller() -> None:
        while other.poll() is None:
            admission = values.admission(key)
            admitted = await ledger.admit(admission)
            await ledger.settle(admission, admitted, values.outcome(admission.request.id))

    await asyncio.gather(*(caller() for _ in range(4)))
    assert other.returncode == 0
    requests, attempts, calls = look.totals()
    assert look.counts() == {"ok": requests}
    assert requests == attempts == calls > 0
    assert look("SELECT count(*) FROM keys") == [(201,)]
    assert look("SELECT name FROM keys WHERE revoked_ms IS NULL") == [("web",)]


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


async def test_callers_at_a_slow_disk_share_its_commits(
    where: Any, secret: str, look: Any, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in two halves that wait for each other's commit, which would be twice as many."""
    groups: list[int] = []
    real = Journal.write

    def write(self: Journal, group: Any, *rest: Any) -> Any:
        groups.append(len(group))
        return real(self, group, *rest)

    monkeypatch.setattr(Journal, "write", write)
    ledger = Ledger.open(where, commit_delay_s=0.01)
    ledger.start(asyncio.get_running_loop())
    key = ledger.authenticate(secret)
    assert key is not None

    async def caller(n: int) -> None:
        for _ in range(6):
            admission = values.admission(key)
            admitted = await ledger.admit(admission)
            await asyncio.sleep(0.0002 * n)  # the engine
            await ledger.settle(admission, admitted, values.outcome(admission.request.id))

    await asyncio.gather(*(caller(n) for n in range(16)))
    await asyncio.to_thread(ledger.close)
    assert look.counts() == {"ok": 96}
    assert len(groups) <= 16  # 12 rounds; 18 where who is back first does not wait
