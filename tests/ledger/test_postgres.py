"""PostgreSQL's own troubles, and several gateways on one database."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from ledger.postgres_server import PostgresServer
from sqlalchemy import text
from support import wait_until

from appliance.errors import LedgerUnavailable, RateLimited
from appliance.ledger import Ledger, Rejected, gateways
from appliance.ledger.core import engine, transaction
from appliance.ledger.postgres import PostgresDb, open_connection, take_your_time
from appliance.ledger.stores import keys, prices
from appliance.ledger.stores.changes import Actor
from appliance.types import Admitted, Key, Turn

MINUTE_MS = 60_000
T0 = 1_700_000_000_000


@pytest.fixture
def where(url: str) -> str:
    """The other database's troubles are in test_journal.py."""
    return url


@pytest.fixture
def second(url: str) -> Any:
    """Another gateway on the same database."""
    opened = Ledger.open(url)
    yield opened
    opened.close()


def start(*ledgers: Ledger) -> None:
    for ledger in ledgers:
        ledger.start(asyncio.get_running_loop())


def key_named(ledger: Ledger, url: str, name: str, **fields: Any) -> Key:
    made = engine(url)
    secret = keys.create(made, Actor("test"), name, **fields).secret
    made.dispose()
    wait_until(lambda: ledger.authenticate(secret), 2, "the gateway knows the key")
    found = ledger.authenticate(secret)
    assert found is not None
    return found


async def test_a_restart_costs_no_confirmed_request(
    ledger: Ledger, key: Key, look: Any, values: Any, postgres_server: PostgresServer
) -> None:
    start(ledger)
    confirmed: set[str] = set()
    refused: list[Exception] = []
    stop = asyncio.Event()

    async def caller() -> None:
        while not stop.is_set():
            admission = values.admission(key, reserve_nusd=5)
            try:
                admitted = await ledger.admit(admission)
                await ledger.settle(admission, admitted, values.outcome(admission.request.id, hosted_nusd=3))
                confirmed.add(admission.request.id)
            except LedgerUnavailable as e:
                refused.append(e)
                await asyncio.sleep(0.01)

    callers = [asyncio.ensure_future(caller()) for _ in range(8)]
    await until(lambda: len(confirmed) >= 50)
    await asyncio.to_thread(postgres_server.restart)
    before = len(confirmed)
    await until(lambda: len(confirmed) >= before + 50)  # by itself
    stop.set()
    await asyncio.gather(*callers)
    look.db.rollback()
    wait_until(lambda: "open" not in sane(look).counts(), 5, "nothing is left open")
    assert all(type(e) is LedgerUnavailable and e.status == 503 and e.headers["retry-after"] for e in refused)
    assert all("PostgreSQL" in str(e) or "stopping" in str(e) for e in refused)
    whole = look(
        "SELECT r.id FROM requests r JOIN attempts a ON a.request_id = r.id JOIN calls c ON c.request_id = r.id"
        " WHERE r.status = 'ok'"
    )
    assert confirmed <= {name for (name,) in whole}
    assert len(whole) == len(set(whole)) == look.counts()["ok"]
    assert look("SELECT spent_nusd, reserved_nusd FROM budgets") == [(3 * len(whole), 0)] * 2


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def sane(look: Any) -> Any:
    """The eyes, after their own connection broke."""
    try:
        look("SELECT 1")
    except LedgerUnavailable:
        pass
    return look


async def test_missing_tables_are_the_stores_trouble_and_not_the_callers(
    ledger: Ledger, key: Key, look: Any, values: Any, caplog: pytest.LogCaptureFixture
) -> None:
    start(ledger)
    first = values.admission(key)
    admitted = await ledger.admit(first)
    look.db.run("ALTER TABLE requests RENAME TO elsewhere", [()])
    look.db.run("ALTER TABLE keys RENAME TO nowhere", [()])
    look.db.run("UPDATE meta SET value = '77' WHERE name = 'auth_version'", [()])
    with pytest.raises(LedgerUnavailable, match="tables are missing") as caught:
        await ledger.admit(values.admission(key))
    assert not isinstance(caught.value, Rejected)
    assert caught.value.status == 503
    wait_until(lambda: "keys could not be read" in caplog.text, 2, "the thread has looked at the keys")
    look.db.run("ALTER TABLE elsewhere RENAME TO requests", [()])
    look.db.run("ALTER TABLE nowhere RENAME TO keys", [()])
    await ledger.settle(first, admitted, values.outcome(first.request.id))
    assert look.counts() == {"ok": 1}
    assert caplog.text.count("keys could not be read") == 1  # not four times a second


async def test_a_fault_while_looking_after_the_keys_does_not_end_the_writer(
    ledger: Ledger, key: Key, values: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(ledger._keys, "refresh", broken)
    start(ledger)
    wait_until(lambda: "ZeroDivisionError" in caplog.text, 2, "it has failed once")
    assert isinstance(await ledger.admit(values.admission(key)), Admitted)


async def test_a_connection_that_broke_meanwhile_is_no_failure(
    ledger: Ledger, key: Key, look: Any, values: Any
) -> None:
    """Nothing was under way: the next group opens another one and passes."""
    ours = ledger._journal.db
    assert isinstance(ours, PostgresDb) and ours._connection is not None
    pid = ours._connection.info.backend_pid
    look("SELECT pg_terminate_backend(?)", (pid,))
    wait_until(lambda: look("SELECT count(*) FROM pg_stat_activity WHERE pid = ?", (pid,)) == [(0,)], 5, "it ended")
    start(ledger)
    assert isinstance(await ledger.admit(values.admission(key)), Admitted)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_connection_that_breaks_in_a_commit_leaves_nothing_open(
    when: str, ledger: Ledger, key: Key, look: Any, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the server had it or not: the caller is told no, so no money stays held."""
    db, real = ledger._journal.db, ledger._journal.db.commit

    def commit() -> None:
        monkeypatch.undo()
        if when == "after":
            real()
        assert isinstance(db, PostgresDb) and db._connection is not None
        db._connection.close()
        with db._errors():
            raise psycopg.OperationalError("gone")

    monkeypatch.setattr(db, "commit", commit)
    start(ledger)
    with pytest.raises(LedgerUnavailable, match="cannot be reached"):
        await ledger.admit(values.admission(key, "req_doubtful", reserve_nusd=50))
    wait_until(lambda: not ledger._journal.in_debt, 5, "the doubt is settled")
    assert look.counts() == ({"lost": 1} if when == "after" else {})
    assert all(row == (0,) for row in look("SELECT reserved_nusd FROM budgets"))
    assert isinstance(await ledger.admit(values.admission(key)), Admitted)


def test_a_transaction_that_was_cut_off_has_ended_before_anything_else_begins(url: str, look: Any) -> None:
    """A frozen server that wakes up may still take up the COMMIT of a connection that was given up."""
    db = PostgresDb(url)
    assert db._connection is not None
    with psycopg.connect(url, application_name=db._name) as left:  # its end on the server
        left.execute("UPDATE meta SET value = '7' WHERE name = 'auth_version'")
        db._connection.close()
        with pytest.raises(LedgerUnavailable), db._errors():
            raise psycopg.OperationalError("gone")
        assert db.query("SELECT value FROM meta WHERE name = 'auth_version'") != [("7",)]
        with pytest.raises(psycopg.OperationalError):
            left.commit()
    db.close()


def test_the_server_is_told_to_let_go_of_a_box_that_falls_silent(url: str) -> None:
    """What it does then, `make test-two-boxes` shows: a cable pulled in the middle of a transaction."""
    asked = "SELECT current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout')"
    with open_connection(url) as hot, open_connection(url, manual=True) as slow:
        assert hot.execute(asked).fetchone() == ("4s", "5s")
        assert slow.execute(asked).fetchone() == ("1min", "5s")
        take_your_time(slow)
        assert slow.execute(asked).fetchone() == ("0", "5s")


def test_who_waited_for_a_connection_in_vain_says_so_to_the_next_at_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def silent(*_: object) -> None:
        tried.append(1)
        raise psycopg.errors.ConnectionTimeout("connection timeout expired")

    db = PostgresDb(url)
    db.close()
    monkeypatch.setattr("appliance.ledger.postgres.open_connection", silent)
    for _ in range(3):
        with pytest.raises(LedgerUnavailable, match="PostgreSQL does not answer"):
            db.begin()
    assert tried == [1]


def test_a_silent_server_is_given_up_also_where_nobody_is_in_a_hurry(
    url: str, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ledger.postgres._MANUAL_SILENCE_S", 0.3)
    made = engine(url)
    with pytest.raises(LedgerUnavailable, match="PostgreSQL does not answer"), transaction(made) as connection:
        connection.execute(text("SELECT 1"))
        with postgres_server.frozen():
            connection.execute(text("SELECT 2"))
    with transaction(made) as connection:
        assert connection.execute(text("SELECT 3")).scalar() == 3
        # a backup, a check: longer than that, and the server may think for as long as it likes
        take_your_time(connection.connection.driver_connection)
        assert connection.execute(text("SELECT 4 FROM pg_sleep(0.5)")).scalar() == 4
    made.dispose()


_ASK = """
import asyncio, sys
from appliance.errors import BudgetExceeded
from appliance.ledger import Ledger
from appliance.types import Admission, Request, Turn
url, secret, me = sys.argv[1:]

async def ask(ledger, key, n):
    name = f"req_{me}_{n:04d}"
    try:
        await ledger.admit(Admission(Request(name, key, "completions", "m", False, 1), Turn(), "conv_" + name, 100))
        return 1
    except BudgetExceeded:
        return 0

async def main():
    ledger = Ledger.open(url)
    ledger.start(asyncio.get_running_loop())
    key = ledger.authenticate(secret)
    print("ready")
    sys.stdin.readline()
    print(sum(await asyncio.gather(*(ask(ledger, key, n) for n in range(50)))))
    sys.stdin.readline()

asyncio.run(main())
"""


def test_200_requests_of_four_processes_against_a_cap_for_ten(
    url: str, look: Any, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    made = engine(url)
    secret = keys.create(made, Actor("test"), "capped", cap_nusd=1_000).secret
    made.dispose()
    processes = [spawn(_ASK, url, secret, n) for n in range(4)]
    streams = [(process.stdin, process.stdout) for process in processes]
    for into, out in streams:
        assert into is not None and out is not None and out.readline() == "ready\n"
    for into, _ in streams:
        assert into is not None
        into.write("\n")
        into.flush()
    admitted = [int(out.readline()) for _, out in streams if out is not None]
    assert sum(admitted) == 10
    assert look.counts() == {"open": 10, "refused": 190}
    assert look("SELECT scope, spent_nusd, reserved_nusd FROM budgets ORDER BY scope") == [
        ("key", 0, 1_000),
        ("tenant", 0, 1_000),
    ]


async def test_100_a_minute_of_two_gateways_stay_100(
    ledger: Ledger, second: Ledger, url: str, values: Any, look: Any
) -> None:
    """Also when their clocks are an hour apart, which must not refill the bucket at every other request."""
    start(ledger, second)
    limited = key_named(ledger, url, "limited", requests_per_minute=100)
    begun = time.monotonic()

    def refilled() -> float:
        return (time.monotonic() - begun) * 100 / 60

    async def burst(each: int) -> int:
        passed = 0
        for n in range(each):
            for gateway, skew_ms in ((ledger, 0), (second, 3_600_000)):
                try:
                    await gateway.admit(values.admission(limited, at_ms=T0 + n + skew_ms))
                    passed += 1
                except RateLimited:
                    pass
        return passed

    passed = await burst(80)
    assert 100 <= passed <= 101 + refilled()
    look.db.run("UPDATE meters SET filled_ms = filled_ms - ?", [(MINUTE_MS // 2,)])
    passed += await burst(80)
    assert 149 <= passed <= 151 + refilled()
    look.db.run("UPDATE meters SET filled_ms = filled_ms - ?", [(3 * MINUTE_MS,)])
    together = await asyncio.gather(
        *(g.admit(values.admission(limited, at_ms=T0)) for g in (ledger, second) for _ in range(80)),
        return_exceptions=True,
    )
    assert 100 <= sum(isinstance(result, Admitted) for result in together) <= 101 + refilled()


async def test_revocation_caps_and_prices_reach_every_gateway_within_a_second(
    ledger: Ledger, second: Ledger, url: str
) -> None:
    start(ledger, second)
    made, actor = engine(url), Actor("test")
    new = keys.create(made, actor, "changing")

    def within(what: str, seen: Callable[[Ledger], object]) -> None:
        wait_until(lambda: seen(ledger) and seen(second), 1.0, what)

    within("a new key", lambda gateway: gateway.authenticate(new.secret))
    keys.configure(made, actor, new.key.id, cap_nusd=7)
    within("its cap", lambda gateway: getattr(gateway.authenticate(new.secret), "cap_nusd", None) == 7)
    prices.set_coefficients(made, actor, "m", effective_ms=1, prompt_token_ns=5.0)
    within("a coefficient", lambda gateway: gateway.tariff.coefficients("m", T0))
    keys.revoke(made, actor, new.key.id)
    within("a revocation", lambda gateway: gateway.authenticate(new.secret) is None)
    made.dispose()


async def test_gateways_that_share_conversations_do_not_wait_for_each_other(
    ledger: Ledger, second: Ledger, key: Key, look: Any, values: Any
) -> None:
    """A deadlock would cost the server's deadlock_timeout, a second each; all rows are locked in one order."""
    start(ledger, second)
    turns = [Turn(conversation_id=f"shared-{n}", subject="s", language="hin_Deva") for n in range(4)]

    async def caller(gateway: Ledger, n: int) -> None:
        for step in range(12):
            admission = values.admission(key, turn=turns[(n * 7 + step * 3) % 4], reserve_nusd=1)
            admitted = await gateway.admit(admission)
            await gateway.settle(admission, admitted, values.outcome(admission.request.id, hosted_nusd=1))

    await asyncio.gather(*(caller(g, n) for g in (ledger, second) for n in range(8)))
    assert look("SELECT sum(requests), sum(hosted_nusd) FROM conversations") == [(192, 192)]
    assert look("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]


async def test_a_dead_gateways_requests_are_lost_and_a_living_ones_are_not(
    ledger: Ledger, second: Ledger, key: Key, look: Any, values: Any
) -> None:
    start(ledger, second)
    mine, other = values.admission(key, reserve_nusd=5), values.admission(key, reserve_nusd=7)
    await ledger.admit(mine)
    await second.admit(other)
    look.db.run("UPDATE gateways SET beat_ms = 0 WHERE id = ?", [(second._journal.gateway_id,)])
    assert gateways.reap_dead(look.db, T0) == 1
    assert look("SELECT id, status FROM requests ORDER BY id") == [
        (mine.request.id, "open"),
        (other.request.id, "lost"),
    ]
    assert look("SELECT reserved_nusd FROM budgets") == [(5,), (5,)]


async def test_who_ended_with_something_open_is_reaped_too(url: str, secret: str, look: Any, values: Any) -> None:
    leaving = Ledger.open(url)
    start(leaving)
    key = leaving.authenticate(secret)
    assert key is not None
    await leaving.admit(values.admission(key, reserve_nusd=5))
    await asyncio.to_thread(leaving.close)
    assert look.column("SELECT ended_ms IS NULL FROM gateways WHERE id = ?", (leaving._journal.gateway_id,)) == [False]
    look.db.run("UPDATE gateways SET beat_ms = 0 WHERE id = ?", [(leaving._journal.gateway_id,)])
    assert gateways.reap_dead(look.db, T0) == 1
    assert gateways.reap_dead(look.db, T0) == 0


def test_after_an_outage_the_first_gateway_back_does_not_take_the_others_for_dead(
    url: str, look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, reaped = 0.0, []
    ledger = Ledger.open(url)
    ledger._monotonic, ledger._beat_at = lambda: now, 0.0
    monkeypatch.setattr(gateways, "reap_dead", lambda *_: reaped.append(now))
    for at in (10.0, 20.0, 26.0):
        now = at
        ledger._watch()
    assert reaped == [26.0]
    with monkeypatch.context() as outage:
        outage.setattr(gateways, "beat", lambda *_: (_ for _ in ()).throw(LedgerUnavailable("down")))
        now = 40.0
        ledger._watch()
    for at in (50.0, 60.0, 66.0):
        now = at
        ledger._watch()
    assert reaped == [26.0, 66.0]
    ledger.close()


def test_clocks_that_disagree_are_said_once(url: str, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger.open(url, clock=lambda: time.time() - 3600)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            ledger._beat(ledger._journal.db)
    assert caplog.text.count("3600.") == 1 and "NTP" in caplog.text
    ledger.close()


def test_a_url_without_a_server_is_one_sentence_without_secrets() -> None:
    with pytest.raises(LedgerUnavailable) as caught:
        Ledger.open("postgresql://someone:hush@127.0.0.1:1/ledger")
    assert "start it, or correct ledger.url" in caught.value.message
    for secret in ("hush", "someone", "127.0.0.1"):
        assert secret not in caught.value.message + str(caught.value.__cause__)
