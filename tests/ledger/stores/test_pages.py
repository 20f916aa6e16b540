"""Cursors: every row once, in order, also while rows come; and nothing else passes for one."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from ledger.conftest import Where
from sqlalchemy import Engine, insert, select

from appliance.ledger import schema
from appliance.ledger.core import engine, transaction
from appliance.ledger.ids import new_id
from appliance.ledger.stores import conversations, keys, prices, tenants, watching
from appliance.ledger.stores.changes import Actor
from appliance.ledger.stores.pages import Page

T0 = 1_700_000_000_000
_CLOCK = Actor("test", lambda: 1_700_000_000.0)


@pytest.fixture
def made(where: Where) -> Iterator[Engine]:
    opened = engine(where)
    yield opened
    opened.dispose()


def walked(read: Any, limit: int) -> list[Any]:
    found: list[Any] = []
    at = None
    while True:
        page: Page[Any] = read(at=at, limit=limit)
        assert len(page.items) <= limit
        found += page.items
        at = page.next
        if at is None:
            return found


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_pages_are_the_whole_list(made: Engine, limit: int) -> None:
    for n in range(7):
        tenants.create(made, _CLOCK, f"t{n}")  # all within one millisecond: the audit's order falls back on ids
    prices.set_defaults(made, _CLOCK)
    everything = prices.listed(made)
    assert walked(lambda **page: prices.prices_page(made, **page), limit) == everything
    assert len(everything) > 10 and {p.batch for p in everything} == {True, False}
    assert walked(lambda **page: tenants.page(made, **page), limit) == tenants.listed(made)
    assert walked(lambda **page: keys.page(made, **page), limit) == keys.listed(made)
    lines = walked(lambda **page: watching.audited(made, None, **page), limit)
    assert len({line.id for line in lines}) == len(lines) == len(everything) + 8
    assert [(line.at_ms, line.id) for line in lines] == sorted(((line.at_ms, line.id) for line in lines), reverse=True)


def test_rows_that_come_between_two_pages_neither_repeat_nor_hide_others(made: Engine) -> None:
    for name in ("b", "d"):
        tenants.create(made, _CLOCK, name)
    first = tenants.page(made, limit=1)
    tenants.create(made, _CLOCK, "a")
    tenants.create(made, _CLOCK, "c")
    rest = walked(lambda at, limit: tenants.page(made, at=at or first.next, limit=limit), 1)
    assert [t.id for t in (*first.items, *rest)] == ["b", "c", "d", "default"]


def cursor(*values: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


@pytest.mark.parametrize(
    "at",
    ["", "x", "é", "[]", cursor(), cursor(1, 2), cursor("a\0"), cursor(["a"]), cursor(2**70), cursor(None), "A" * 9999,
     base64.urlsafe_b64encode(b"[" * 5000).decode(), cursor("' OR 1=1 --", "x")],
)  # fmt: skip
def test_what_is_no_cursor_is_refused(made: Engine, at: str) -> None:
    with pytest.raises(ValueError, match="leave it out to begin again"):
        tenants.page(made, at=at)
    with pytest.raises(ValueError, match="leave it out to begin again"):
        watching.audited(made, None, at=at)


def test_a_forged_cursor_is_refused_or_harmless(made: Engine) -> None:
    for number in (-(2**61), 0, 2**31, 2**61):
        for read, at in (
            (lambda at: watching.spent(made, None, at=at), cursor(number, "key", "x")),
            (lambda at: prices.prices_page(made, at=at), cursor("a", "b", "c", number, number)),
            (lambda at: prices.servers_page(made, at=at), cursor(number)),
            (lambda at: watching.audited(made, None, at=at), cursor(number, "x")),
        ):
            try:
                read(at)
            except ValueError as e:
                assert "leave it out to begin again" in str(e)


@pytest.mark.parametrize("limit", [0, -1, 1001, 2**70])
def test_a_limit_is_a_limit(made: Engine, limit: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 1000"):
        tenants.page(made, limit=limit)


def test_a_search_looks_at_so_many_rows_and_goes_on_from_there(made: Engine) -> None:
    """What no index finds is found all the same, in more parts: none of them reads the whole table."""
    with transaction(made) as connection:
        key_id = connection.execute(select(schema.keys.c.id)).scalar()
        rows = [
            {
                "id": new_id("req", T0 + n), "tenant_id": "default", "key_id": key_id, "endpoint": "completions",
                "model": "m", "stream": False, "at_ms": T0 + n, "status": "ok" if n % 10 else "failed",
                "conversation_id": "old" if n == 25 else "new",
            }
            for n in range(100)
        ]  # fmt: skip
        connection.execute(insert(schema.requests), rows)
        talk = {"tenant_id": "default", "key_id": key_id, "channel": "api", "state": "open", "state_ms": T0}
        connection.execute(
            insert(schema.conversations),
            [{"id": f"c{n}", **talk, "opened_ms": T0 + n, "last_seen_ms": T0, "intent": f"i{n % 7}"} for n in range(50)]
            + [{"id": "old", **talk, "opened_ms": T0 + 25, "last_seen_ms": T0 + 25, "intent": None}],
        )

    def ids(read: Any, most: int | None, limit: int = 3, **fields: Any) -> list[str]:
        found = walked(lambda **page: read(made, "default", most=most, **fields, **page), limit)
        assert len(found) == len({one.id for one in found})
        return [one.id for one in found]

    for fields in ({"status": "failed"}, {"status": "ok"}, {"conversation_id": "old"}, {"status": "lost"}):
        whole = ids(conversations.requests_listed, None, **fields)
        expected = [r["id"] for r in rows[::-1] if all(r[name] == value for name, value in fields.items())]
        assert whole == expected
        for most in (1, 7, 99, 100, 101):
            assert ids(conversations.requests_listed, most, **fields) == whole
    assert ids(conversations.requests_listed, 7, since_ms=T0 + 90, status="ok") == [r["id"] for r in rows[:90:-1]]
    for intent in ("i3", "none"):
        whole = ids(conversations.listed, None, intent=intent)
        assert len(whole) == (7 if intent == "i3" else 0)
        assert all(ids(conversations.listed, most, intent=intent) == whole for most in (1, 7, 51, 52))
    first = conversations.requests_listed(made, "default", status="lost", most=10)
    assert first.items == [] and first.next is not None
