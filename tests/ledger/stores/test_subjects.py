"""Export, erasure and what stays: DPDP Act 2023, and the periods and holds that win over it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from ledger.conftest import Look, Values, Where
from sqlalchemy import Engine

from appliance.ledger import Ledger
from appliance.ledger.check import check
from appliance.ledger.core import engine
from appliance.ledger.housekeeping import Housekeeper
from appliance.ledger.ids import new_id
from appliance.ledger.pseudonyms import subject_of
from appliance.ledger.said import Said
from appliance.ledger.stores import keys, memory, outcomes, subjects, tenants, watching
from appliance.ledger.stores.changes import Actor
from appliance.types import Idempotency, Kept, Turn

DAY_MS = 86_400_000
START_MS = 1_790_000_000_000


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> float:
        return self.now_ms / 1000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def actor(clock: Clock) -> Actor:
    return Actor("cli:test", clock)


@pytest.fixture
def made(where: Where) -> Iterator[Engine]:
    opened = engine(where)
    yield opened
    opened.dispose()


@pytest.fixture
def talked(where: Where, made: Engine, actor: Actor, clock: Clock) -> dict[str, str]:
    """Two tenants; in each, asha and bilal have talked once, with text, a history, a kept answer and a note."""
    secrets = {}
    for tenant in ("acme", "bodega"):
        tenants.create(made, actor, tenant, store_text=True)
        secrets[tenant] = keys.create(made, actor, "web", tenant=tenant).secret

    async def run() -> None:
        ledger = Ledger.open(where, clock=clock)
        ledger.start(asyncio.get_running_loop())
        values, n = Values(), 0
        for tenant, secret in secrets.items():
            key = ledger.authenticate(secret)
            assert key is not None
            for user in ("asha", "bilal"):
                n += 1
                request_id = new_id("req", clock.now_ms + n)
                admission = values.admission(
                    key,
                    request_id,
                    clock.now_ms + n,
                    turn=Turn(conversation_id=f"{user}-1", subject=subject_of(key.tenant.secret, user)),
                    reserve_nusd=9,
                    idempotency=Idempotency(user, user.encode()),
                )
                admitted = await ledger.admit(admission)
                done = values.outcome(
                    request_id,
                    hosted_nusd=7,
                    thread=f"{tenant}{user}".encode(),
                    prompt=f"{user} of {tenant} asks",
                    answer="an answer",
                    kept=Kept(request_id, 200, "application/json", {}, b"an answer"),
                )
                await ledger.settle(admission, admitted, done)
                outcomes.record(made, tenant, f"{user}-1", key.id, Said(True, note="called"), clock.now_ms)
        ledger.close()

    asyncio.run(run())
    return secrets


def test_an_export_holds_all_of_one_person_and_nothing_else(
    made: Engine, actor: Actor, talked: dict[str, str], look: Look
) -> None:
    found = subjects.export(made, actor, "acme", "asha")
    (one,) = found.conversations
    assert (one.conversation.id, one.conversation.tenant_id, one.conversation.hosted_nusd) == ("asha-1", "acme", 7)
    assert [text.prompt for text in one.texts] == ["asha of acme asks"]
    assert [said.note for said in one.outcomes] == ["called"]
    assert "asha" not in found.subject
    assert subjects.export(made, actor, "acme", "nobody").conversations == []
    lines = watching.audited(made, "acme", action="subject.export").items
    assert {line.actor for line in lines} == {"cli:test"}
    assert sorted(line.after["conversations"] for line in lines if line.after) == [0, 1]


def test_text_goes_at_once_and_the_link_when_the_law_allows(
    where: Where, made: Engine, actor: Actor, clock: Clock, talked: dict[str, str], look: Look
) -> None:
    first = subjects.erase(made, actor, "acme", "asha")
    assert first.erased == {"texts": 1, "translations": 0, "notes": 1, "histories": 1, "answers": 1, "links": 0}
    link, money = first.kept
    assert link.until_ms is not None and START_MS + 365 * DAY_MS <= link.until_ms < START_MS + 366 * DAY_MS
    assert "rule 6" in link.why and money.until_ms is None and "accounts" in money.why
    assert look("SELECT count(*) FROM texts") == [(3,)]
    assert sorted(look.column("SELECT prompt FROM texts WHERE tenant_id = 'acme'")) == ["bilal of acme asks"]
    assert look("SELECT count(*) FROM idempotency") == [(3,)]
    assert look("SELECT hosted_nusd FROM conversations WHERE tenant_id = 'acme' AND id = 'asha-1'") == [(7,)]
    clock.now_ms = link.until_ms + 1
    second = subjects.erase(made, actor, "acme", "asha")
    assert second.erased["links"] == 1
    assert [kept.what for kept in second.kept] == ["costs and times of its conversations"]
    assert subjects.export(made, actor, "acme", "asha").conversations == []
    assert len(subjects.export(made, actor, "acme", "bilal").conversations) == 1
    assert len(subjects.export(made, actor, "bodega", "asha").conversations) == 1
    assert check(where, lambda: START_MS / 1000).ok  # no money went with it


def test_a_legal_hold_wins_over_erasure_and_retention(
    made: Engine, actor: Actor, clock: Clock, talked: dict[str, str], look: Look
) -> None:
    tenants.configure(made, actor, "acme", legal_hold=True)
    done = subjects.erase(made, actor, "acme", "asha")
    assert (done.erased, done.kept[0].what) == ({}, "everything")
    assert "legal hold" in done.kept[0].why
    clock.now_ms += 4000 * DAY_MS
    housekeeper = Housekeeper(look.where, "Asia/Kolkata", clock)
    assert "retention" in housekeeper.round()
    kept = "SELECT tenant_id, count(*) FROM texts GROUP BY tenant_id"
    assert look(kept) == [("acme", 2)]
    details = "SELECT r.tenant_id, count(*) FROM attempts AS a JOIN requests AS r ON r.id = a.request_id GROUP BY 1"
    assert look(details) == [("acme", 2)]
    (line,) = watching.audited(made, "acme", action="subject.erase").items
    assert line.after is not None and "legal hold" in line.after["kept"][0]


def test_retention_runs_by_itself_and_money_stays(
    where: Where, made: Engine, actor: Actor, clock: Clock, talked: dict[str, str], look: Look
) -> None:
    tenants.configure(made, actor, "bodega", text_days=30, log_days=500)
    before = look("SELECT scope_id, spent_nusd FROM budgets ORDER BY scope_id")
    totals = {}
    for days in (29, 31, 91, 366, 501):
        clock.now_ms = START_MS + days * DAY_MS
        assert "retention" in Housekeeper(where, "Asia/Kolkata", clock).round()
        totals[days] = tuple(
            look(f"SELECT count(*) FROM {table}")[0][0] for table in ("texts", "threads", "attempts", "calls")
        )
    assert totals == {29: (4, 4, 4, 4), 31: (2, 4, 4, 4), 91: (0, 0, 4, 4), 366: (0, 0, 2, 2), 501: (0, 0, 0, 0)}
    assert look("SELECT count(*), sum(hosted_nusd) FROM requests")[0] == (4, 28)
    assert look("SELECT scope_id, spent_nusd FROM budgets ORDER BY scope_id") == before
    assert check(where, clock).ok
    (job,) = [j for j in watching.jobs_page(made).items if j.name == "retention"]
    assert job.ran_ms == clock.now_ms and job.detail is not None and "deleted" in job.detail


def test_a_hold_that_is_set_while_retention_runs_stops_it(
    made: Engine, actor: Actor, talked: dict[str, str], look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.ledger.stores import retention

    monkeypatch.setattr(retention, "_BATCH", 1)
    real, opened = retention.transaction, []

    def transaction(bound: Engine) -> Any:
        opened.append(bound)
        if len(opened) == 3:  # kept answers, the first text, and now the second
            tenants.configure(bound, actor, "acme", legal_hold=True)
        return real(bound)

    monkeypatch.setattr(retention, "transaction", transaction)
    gone = retention.run(made, START_MS + 91 * DAY_MS)
    assert look("SELECT count(*) FROM texts WHERE tenant_id = 'acme'") == [(1,)]
    assert look("SELECT count(*) FROM threads WHERE tenant_id = 'acme'") == [(2,)]
    assert (gone.texts, gone.threads) == (3, 2)


def test_links_are_cut_conversation_by_conversation(
    made: Engine, actor: Actor, clock: Clock, talked: dict[str, str], look: Look
) -> None:
    """An old conversation need not wait for a newer one of the same person."""
    (subject,) = look.column("SELECT subject FROM conversations WHERE tenant_id = 'acme' AND id = 'asha-1'")
    clock.now_ms = START_MS + 400 * DAY_MS
    look.db.run(
        "UPDATE conversations SET subject = ?, last_seen_ms = ? WHERE tenant_id = 'acme' AND id = 'bilal-1'",
        [(subject, START_MS + 300 * DAY_MS)],
    )
    done = subjects.erase(made, actor, "acme", "asha")
    assert (done.conversations, done.erased["links"], done.erased["texts"]) == (2, 1, 2)
    assert (done.kept[0].rows, done.kept[0].until_ms) == (1, START_MS + 665 * DAY_MS)
    assert look("SELECT id FROM conversations WHERE subject = ?", (subject,)) == [("bilal-1",)]


@pytest.mark.parametrize("user", ["", "x" * 513])
def test_a_user_that_nobody_can_have_is_refused(path: Any, user: str) -> None:
    opened = engine(path)
    with pytest.raises(ValueError, match="1 to 512"):
        subjects.erase(opened, Actor("x"), "default", user)
    with pytest.raises(LookupError, match="no tenant"):
        subjects.export(opened, Actor("x"), "nobody", "asha")
    opened.dispose()


def test_a_job_that_fails_holds_up_no_other(
    where: Where, clock: Clock, monkeypatch: pytest.MonkeyPatch, made: Engine
) -> None:
    from appliance.ledger.stores import silence

    def broken(*_: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(silence, "presume", broken)
    assert Housekeeper(where, "Asia/Kolkata", clock).round() == ["answers", "reconcile", "retention"]
    details = {job.name: job.detail for job in watching.jobs_page(made).items}
    assert details["silence"] == "failed (ZeroDivisionError); the gateway's log says why"


def test_silence_is_presumed_and_kept_apart(
    made: Engine, actor: Actor, clock: Clock, talked: dict[str, str], look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.ledger.stores import silence

    monkeypatch.setattr(silence, "_BATCH", 1)  # it goes on from the last of each
    look.db.run("UPDATE conversations SET state = 'open'", [()])
    tenants.configure(made, actor, "bodega", presume_after_h=100)
    assert silence.presume(made, START_MS + 72 * 3_600_000) == 0
    assert silence.presume(made, START_MS + 73 * 3_600_000) == 2
    assert silence.presume(made, START_MS + 101 * 3_600_000) == 2
    assert set(look.column("SELECT state FROM conversations")) == {"presumed_resolved"}
    assert look("SELECT count(*) FROM outcomes WHERE source = 'silence'") == [(4,)]


def test_the_newest_outcome_counts_also_when_the_clock_goes_back(
    made: Engine, talked: dict[str, str], look: Look
) -> None:
    for n, resolved in enumerate((False, True, False)):
        said = Said(resolved, csat=3)
        assert outcomes.record(made, "acme", "asha-1", None, said, START_MS - 1000 * n) is not None
        again = outcomes.record(made, "acme", "asha-1", None, said, START_MS - 5000)
        assert again is not None and again.resolved is resolved
    history = outcomes.history(made, "acme", "asha-1")
    assert [one.resolved for one in history] == [True, False, True, False]
    assert look("SELECT state FROM conversations WHERE tenant_id = 'acme' AND id = 'asha-1'") == [("unresolved",)]


def test_translations_of_what_a_person_said_are_exported_and_erased(
    made: Engine, actor: Actor, clock: Clock, talked: dict[str, str], look: Look
) -> None:
    for tenant in ("acme", "bodega"):
        tenants.configure(made, actor, tenant, translation_memory=True)
        for user in ("asha", "bilal"):
            pair = [(f"{user} asks", "पूछती है")]
            memory.keep(made, tenant, "eng_Latn", "hin_Deva", pair, clock.now_ms, conversation_id=f"{user}-1")
    (one,) = subjects.export(made, actor, "acme", "asha").conversations
    assert [(t.text, t.translation) for t in one.translations] == [("asha asks", "पूछती है")]
    assert subjects.erase(made, actor, "acme", "asha").erased["translations"] == 1
    left = look("SELECT tenant_id, text FROM translations ORDER BY tenant_id, text")
    assert left == [("acme", "bilal asks"), ("bodega", "asha asks"), ("bodega", "bilal asks")]
