"""Admission in both databases: conversations, caps, limits, kept answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.errors import ApplianceError, BudgetExceeded, Conflict, NotFound, RateLimited
from appliance.ledger import Ledger
from appliance.ledger.core import engine
from appliance.ledger.stores import keys
from appliance.ledger.stores.changes import Actor
from appliance.types import Admission, Admitted, Idempotency, Kept, Key, Turn

MINUTE_MS = 60_000
T0 = 1_700_000_000_000


@pytest.fixture
async def running(ledger: Ledger) -> Ledger:
    ledger.start(asyncio.get_running_loop())
    return ledger


@pytest.fixture
def limited(where: Path | str) -> Callable[..., str]:
    """Makes a key with limits; gives its secret."""

    def make(**fields: Any) -> str:
        made = engine(where)
        secret = keys.create(made, Actor("test"), f"limited {len(fields)}", **fields).secret
        made.dispose()
        return secret

    return make


def key_of(where: Path | str, secret: str) -> Key:
    """Read by a ledger of this moment, as a gateway would a quarter of a second later."""
    from appliance.ledger.db import connect
    from appliance.ledger.keytable import KeyTable

    db = connect(where)
    found = KeyTable(db).find(secret, T0)
    db.close()
    assert found is not None
    return found


async def together(ledger: Ledger, admissions: list[Admission]) -> list[Any]:
    return await asyncio.gather(*(ledger.admit(a) for a in admissions), return_exceptions=True)


async def done(ledger: Ledger, values: Any, admission: Admission, **fields: Any) -> Admitted:
    admitted = await ledger.admit(admission)
    await ledger.settle(admission, admitted, values.outcome(admission.request.id, **fields))
    return admitted


async def test_first_turns_always_open_a_conversation(running: Ledger, key: Key, values: Any, look: Any) -> None:
    first, second = await together(running, [values.admission(key), values.admission(key)])
    assert first.new_conversation and second.new_conversation
    assert first.conversation_id != second.conversation_id
    assert look.counts() == {"open": 2}
    assert look("SELECT count(*) FROM conversations WHERE state = 'open'") == [(2,)]


async def test_a_tools_call_belongs_to_a_conversation_only_where_its_caller_says_so(
    running: Ledger, key: Key, values: Any, look: Any
) -> None:
    alone = await done(running, values, values.admission(key, turn=Turn(opens=False)))
    assert (alone.conversation_id, alone.new_conversation) == ("", False)
    named = await done(running, values, values.admission(key, turn=Turn("ticket-9", opens=False)))
    assert (named.conversation_id, named.new_conversation) == ("ticket-9", True)
    assert [tuple(row) for row in look("SELECT id, requests FROM conversations")] == [("ticket-9", 1)]
    found = [row[0] for row in look("SELECT conversation_id FROM requests ORDER BY conversation_id IS NULL")]
    assert found == ["ticket-9", None]


async def test_a_callers_own_id_is_kept_and_found_again(running: Ledger, key: Key, values: Any, look: Any) -> None:
    turn = Turn(conversation_id="ticket-17", channel="whatsapp", language="hin_Deva")
    first = await done(running, values, values.admission(key, turn=turn))
    second = await done(running, values, values.admission(key, turn=Turn(conversation_id="ticket-17", intent="refund")))
    assert (first.conversation_id, first.new_conversation) == ("ticket-17", True)
    assert (second.conversation_id, second.new_conversation) == ("ticket-17", False)
    assert look("SELECT channel, language, intent, requests, answered_by FROM conversations") == [
        ("whatsapp", "hin_Deva", "refund", 2, "local")
    ]


async def test_two_requests_of_one_group_open_one_conversation(running: Ledger, key: Key, values: Any) -> None:
    turn = Turn(conversation_id="ticket-18")
    results = await together(running, [values.admission(key, turn=turn) for _ in range(5)])
    assert [result.new_conversation for result in results].count(True) == 1


async def test_a_recorded_history_goes_on(running: Ledger, key: Key, values: Any, look: Any) -> None:
    first = await done(running, values, values.admission(key), thread=b"h1")
    second = await done(running, values, values.admission(key, turn=Turn(thread=b"h1")), thread=b"h2")
    assert second.conversation_id == first.conversation_id
    other = await running.admit(values.admission(key, turn=Turn(thread=b"never recorded")))
    assert other.new_conversation
    assert look("SELECT requests FROM conversations ORDER BY requests") == [(0,), (2,)]


async def test_a_history_that_two_share_names_neither(running: Ledger, key: Key, values: Any) -> None:
    """Two customers say hi, get the same answer, and go on: they must not meet."""
    one = await done(running, values, values.admission(key), thread=b"hi")
    two = await done(running, values, values.admission(key), thread=b"hi")
    again = await running.admit(values.admission(key, turn=Turn(thread=b"hi")))
    assert again.new_conversation
    assert len({one.conversation_id, two.conversation_id, again.conversation_id}) == 3


async def test_a_regenerated_answer_stays_in_its_conversation(running: Ledger, key: Key, values: Any) -> None:
    turn = Turn(conversation_id="ticket-19")
    for _ in range(2):
        await done(running, values, values.admission(key, turn=turn), thread=b"same")
    assert (await running.admit(values.admission(key, turn=Turn(thread=b"same")))).conversation_id == "ticket-19"


async def test_an_earlier_answer_names_its_conversation(running: Ledger, key: Key, values: Any, look: Any) -> None:
    admission = values.admission(key)
    first = await done(running, values, admission)
    turn = Turn(previous_id=admission.request.id)
    assert (await running.admit(values.admission(key, turn=turn))).conversation_id == first.conversation_id
    with pytest.raises(NotFound, match="previous_response_id") as caught:
        await running.admit(values.admission(key, turn=Turn(previous_id="req_nobody")))
    assert caught.value.code == "previous_response_not_found"
    assert look.counts() == {"ok": 1, "open": 1, "refused": 1}


async def test_another_tenant_cannot_reach_a_conversation(running: Ledger, key: Key, values: Any, where: Any) -> None:
    from appliance.ledger.stores import tenants

    made = engine(where)
    tenants.create(made, Actor("test"), "other", "Other")
    stranger = key_of(where, keys.create(made, Actor("test"), "web", tenant="other").secret)
    made.dispose()
    admission = values.admission(key, turn=Turn(conversation_id="ticket-20"))
    await done(running, values, admission, thread=b"h")
    same_name = await running.admit(values.admission(stranger, turn=Turn(conversation_id="ticket-20")))
    same_history = await running.admit(values.admission(stranger, turn=Turn(thread=b"h")))
    assert same_name.new_conversation and same_history.new_conversation
    with pytest.raises(NotFound):
        await running.admit(values.admission(stranger, turn=Turn(previous_id=admission.request.id)))


async def test_a_new_turn_reopens(running: Ledger, key: Key, values: Any, look: Any) -> None:
    turn = Turn(conversation_id="ticket-21")
    await done(running, values, values.admission(key, turn=turn))
    running._journal.db.run("UPDATE conversations SET state = ?, state_ms = ?", [("resolved", 5)])
    await together(running, [values.admission(key, turn=turn) for _ in range(3)])
    assert look("SELECT state, reopened FROM conversations") == [("open", 1)]
    assert look("SELECT source, key_id FROM outcomes") == [("reopened", key.id)]


async def test_a_cap_for_ten_admits_exactly_ten_of_200(
    running: Ledger, values: Any, look: Any, where: Any, limited: Any
) -> None:
    capped = key_of(where, limited(cap_nusd=10_000))
    results = await together(running, [values.admission(capped, reserve_nusd=1_000) for _ in range(200)])
    admitted = [result for result in results if isinstance(result, Admitted)]
    refused = [result for result in results if isinstance(result, BudgetExceeded)]
    assert (len(admitted), len(refused)) == (10, 190)
    assert look("SELECT scope, spent_nusd, reserved_nusd FROM budgets ORDER BY scope") == [
        ("key", 0, 10_000),
        ("tenant", 0, 10_000),
    ]
    assert look("SELECT count(*), min(reason), min(http_status) FROM requests WHERE status = 'refused'") == [
        (190, "budget", 402)
    ]
    assert look("SELECT count(*) FROM conversations") == [(10,)]


async def test_what_was_reserved_is_settled_or_released(
    running: Ledger, values: Any, look: Any, where: Any, limited: Any
) -> None:
    capped = key_of(where, limited(cap_nusd=10_000))
    admission = values.admission(capped, reserve_nusd=9_000)
    await done(running, values, admission, hosted_nusd=2_500)
    assert look("SELECT spent_nusd, reserved_nusd FROM budgets") == [(2_500, 0)] * 2
    failed = values.admission(capped, reserve_nusd=7_500)
    await done(running, values, failed, attempts=0)
    assert look("SELECT spent_nusd, reserved_nusd FROM budgets") == [(2_500, 0)] * 2
    await done(running, values, values.admission(capped, reserve_nusd=7_500), hosted_nusd=9_999)  # dearer than thought
    with pytest.raises(BudgetExceeded):
        await running.admit(values.admission(capped))
    assert look("SELECT hosted_nusd FROM conversations ORDER BY hosted_nusd") == [(0,), (2_500,), (9_999,)]


async def test_a_tenants_cap_binds_all_its_keys(
    running: Ledger, key: Key, values: Any, where: Any, limited: Any
) -> None:
    tenant = msgspec.structs.replace(key.tenant, cap_nusd=3)
    own = msgspec.structs.replace(key, tenant=tenant)
    capped = msgspec.structs.replace(key_of(where, limited(cap_nusd=2)), tenant=tenant)
    results = await together(running, [values.admission(k, reserve_nusd=1) for k in (capped, capped, capped, own, own)])
    assert [type(result).__name__ for result in results] == [
        "Admitted",
        "Admitted",
        "BudgetExceeded",
        "Admitted",
        "BudgetExceeded",
    ]
    assert "this key's cap" in results[2].message
    assert "this tenant's cap" in results[4].message


async def test_a_new_month_starts_from_nothing(running: Ledger, values: Any, where: Any, limited: Any) -> None:
    capped = key_of(where, limited(cap_nusd=5))
    await done(running, values, values.admission(capped, reserve_nusd=5), hosted_nusd=5)
    with pytest.raises(BudgetExceeded):
        await running.admit(values.admission(capped, reserve_nusd=1))
    later = T0 + 40 * 24 * 3600 * 1000
    assert isinstance(await running.admit(values.admission(capped, at_ms=later, reserve_nusd=1)), Admitted)


async def test_requests_a_minute(running: Ledger, values: Any, where: Any, limited: Any, look: Any) -> None:
    slow = key_of(where, limited(requests_per_minute=3))
    results = await together(running, [values.admission(slow) for _ in range(5)])
    assert [type(result).__name__ for result in results] == ["Admitted"] * 3 + ["RateLimited"] * 2
    assert (results[0].requests.limit, results[0].requests.remaining) == (3, 2)
    assert results[3].headers["retry-after"] == "20"
    if look.db.dialect == "postgresql":  # whose own clock it is
        look.db.run("UPDATE meters SET filled_ms = filled_ms - ?", [(MINUTE_MS,)])
    assert isinstance(await running.admit(values.admission(slow, at_ms=T0 + MINUTE_MS)), Admitted)
    assert look("SELECT count(*), min(reason) FROM requests WHERE status = 'refused'") == [(2, "rate_limited")]


async def test_tokens_a_minute_are_corrected_by_what_was_computed(
    running: Ledger, values: Any, where: Any, limited: Any
) -> None:
    slow = key_of(where, limited(tokens_per_minute=1_000))
    first = values.admission(slow, reserve_tokens=900)
    admitted = await running.admit(first)
    with pytest.raises(RateLimited):
        await running.admit(values.admission(slow, reserve_tokens=900))
    await running.settle(first, admitted, values.outcome(first.request.id))  # 46 tokens
    assert isinstance(await running.admit(values.admission(slow, reserve_tokens=900)), Admitted)


async def test_concurrency(running: Ledger, values: Any, where: Any, limited: Any) -> None:
    narrow = key_of(where, limited(max_concurrent=2))
    admissions = [values.admission(narrow) for _ in range(3)]
    results = await together(running, admissions)
    assert [isinstance(result, Admitted) for result in results] == [True, True, False]
    await running.settle(admissions[0], results[0], values.outcome(admissions[0].request.id))
    assert isinstance(await running.admit(values.admission(narrow)), Admitted)


def named(name: str = "order-1", digest: bytes = b"body") -> Idempotency:
    return Idempotency(name, digest)


async def test_the_same_answer_once(running: Ledger, key: Key, values: Any, look: Any) -> None:
    first = values.admission(key, idempotency=named())
    admitted = await running.admit(first)
    with pytest.raises(Conflict, match="still running"):
        await running.admit(values.admission(key, idempotency=named()))
    kept = Kept(first.request.id, 200, "application/json", {"x-conversation-id": "c"}, b'{"answer": "\xe0"}')
    await running.settle(first, admitted, values.outcome(first.request.id, kept=kept))
    again = await running.admit(values.admission(key, idempotency=named()))
    assert again.kept == kept
    with pytest.raises(Conflict, match="another request") as caught:
        await running.admit(values.admission(key, idempotency=named(digest=b"other body")))
    assert caught.value.code == "idempotency_conflict"
    assert look.totals() == (1, 1, 1)
    later = int(time.time() * 1000) + 11 * MINUTE_MS
    assert (await running.admit(values.admission(key, at_ms=later, idempotency=named()))).kept is None


async def test_what_failed_or_was_refused_may_run_again(
    running: Ledger, key: Key, values: Any, where: Any, limited: Any
) -> None:
    failed = values.admission(key, idempotency=named())
    await done(running, values, failed)
    assert (await running.admit(values.admission(key, idempotency=named()))).kept is None
    capped = key_of(where, limited(cap_nusd=1))
    for _ in range(2):
        with pytest.raises(BudgetExceeded):
            await running.admit(values.admission(capped, reserve_nusd=2, idempotency=named("order-2")))


async def test_of_twenty_at_once_one_runs(running: Ledger, key: Key, values: Any) -> None:
    results = await together(running, [values.admission(key, idempotency=named()) for _ in range(20)])
    assert sorted(type(result).__name__ for result in results) == ["Admitted"] + ["Conflict"] * 19


async def test_text_is_kept_with_its_request(running: Ledger, key: Key, values: Any, look: Any) -> None:
    admission = values.admission(key)
    admitted = await done(running, values, admission, prompt='[{"role":"user"}]', answer="नमस्ते")
    assert look("SELECT request_id, tenant_id, conversation_id, prompt, answer FROM texts") == [
        (admission.request.id, "default", admitted.conversation_id, '[{"role":"user"}]', "नमस्ते")
    ]


async def test_an_answer_with_a_nul_character_is_kept_without_it(
    running: Ledger, key: Key, values: Any, look: Any
) -> None:
    await done(running, values, values.admission(key), prompt="[]", answer="a\0b")
    assert look("SELECT answer FROM texts") == [("a\ufffdb",)]
    assert look.counts() == {"ok": 1}


@pytest.mark.parametrize("text", ["'; DROP TABLE requests; --", '"', "\\", "%s ? {}", "x" * 100_000, "நன்றி"])
async def test_text_is_never_sql(running: Ledger, key: Key, values: Any, look: Any, text: str) -> None:
    turn = Turn(text, None, None, text, "api", text, text, text)
    await done(running, values, values.admission(key, turn=turn, idempotency=named(text)))
    await done(running, values, values.admission(key, turn=Turn(previous_id=None, conversation_id=text)))
    assert look("SELECT id, subject, language, intent, value_class, requests FROM conversations") == [
        (text, text, text, text, text, 2)
    ]


async def test_a_nul_character_is_the_entrys_own_fault_or_kept(
    running: Ledger, key: Key, values: Any, look: Any
) -> None:
    """PostgreSQL cannot store it; the api refuses it before. Here it must not take others with it."""
    results = await together(running, [values.admission(key, turn=Turn(conversation_id="a\0b")), values.admission(key)])
    assert isinstance(results[1], Admitted)
    assert isinstance(results[0], Admitted | ApplianceError)
