"""Clocks that jump, and months that end at the site's midnight: caps, buckets, kept answers, keys that expire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from support import wait_until

from appliance.errors import BudgetExceeded, Conflict, RateLimited
from appliance.ledger import Ledger
from appliance.ledger.core import engine
from appliance.ledger.housekeeping import Housekeeper
from appliance.ledger.stores import keys, retention
from appliance.ledger.stores.changes import Actor
from appliance.types import Admitted, Idempotency, Kept, Key

MINUTE_S, HOUR_S, MONTH_S = 60.0, 3600.0, 31 * 86400.0
KOLKATA = ZoneInfo("Asia/Kolkata")


class Clock:
    """Wall time of one gateway, in Unix seconds."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 30, 23, 59, 50, tzinfo=KOLKATA).timestamp()

    def __call__(self) -> float:
        return self.now

    @property
    def ms(self) -> int:
        return int(self.now * 1000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def ledger(where: Path | str, clock: Clock) -> Any:
    opened = Ledger.open(where, clock=clock)
    opened.start(asyncio.get_running_loop())
    yield opened
    await asyncio.to_thread(opened.close)


@pytest.fixture
def made(where: Path | str, ledger: Ledger) -> Callable[..., Key]:
    """A key with limits, as the gateway sees it."""

    def make(**fields: Any) -> Key:
        opened = engine(where)
        secret = keys.create(opened, Actor("test"), "limited", **fields).secret
        opened.dispose()
        wait_until(lambda: ledger.authenticate(secret), 2, "the gateway sees the key")
        found = ledger.authenticate(secret)
        assert found is not None
        return found

    return make


async def try_it(ledger: Ledger, values: Any, key: Key, clock: Clock, **fields: Any) -> Any:
    try:
        return await ledger.admit(values.admission(key, at_ms=clock.ms, **fields))
    except (BudgetExceeded, RateLimited, Conflict) as e:
        return e


async def done(ledger: Ledger, values: Any, key: Key, clock: Clock, nusd: int = 0, **fields: Any) -> None:
    admission = values.admission(key, at_ms=clock.ms, reserve_nusd=nusd)
    admitted = await ledger.admit(admission)
    await ledger.settle(admission, admitted, values.outcome(admission.request.id, hosted_nusd=nusd, **fields))


async def test_a_month_ends_at_midnight_in_kolkata(
    ledger: Ledger, made: Any, clock: Clock, values: Any, look: Any
) -> None:
    key = made(cap_nusd=10)
    late = values.admission(key, at_ms=clock.ms, reserve_nusd=10)
    admitted = await ledger.admit(late)
    assert isinstance(await try_it(ledger, values, key, clock, reserve_nusd=1), BudgetExceeded)
    clock.now += 9.999
    assert isinstance(await try_it(ledger, values, key, clock, reserve_nusd=1), BudgetExceeded)
    clock.now += 0.001  # midnight; 18:30 UTC of the same day
    await done(ledger, values, key, clock, nusd=4)
    # what began in November and ends in December is November's
    await ledger.settle(late, admitted, values.outcome(late.request.id, hosted_nusd=7))
    assert look("SELECT month, spent_nusd, reserved_nusd FROM budgets WHERE scope = 'key' ORDER BY month") == [
        (202611, 7, 0),
        (202612, 4, 0),
    ]


@pytest.fixture
def own_clock(where: Path | str) -> None:
    if isinstance(where, str):
        pytest.skip("on PostgreSQL the server's clock fills buckets, see the next test")


@pytest.mark.usefixtures("own_clock")
async def test_a_clock_set_back_an_hour_neither_blocks_nor_floods(
    ledger: Ledger, made: Any, clock: Clock, values: Any
) -> None:
    key = made(requests_per_minute=3)
    passed = [isinstance(await try_it(ledger, values, key, clock), Admitted) for _ in range(4)]
    assert passed == [True, True, True, False]
    clock.now -= HOUR_S
    assert isinstance(await try_it(ledger, values, key, clock), RateLimited)
    clock.now += MINUTE_S / 3 + 0.001  # one flows in a third of a minute, by the new time
    assert isinstance(await try_it(ledger, values, key, clock), Admitted)
    assert isinstance(await try_it(ledger, values, key, clock), RateLimited)


async def test_a_gateways_clock_fills_no_bucket_that_others_share(
    ledger: Ledger, made: Any, clock: Clock, values: Any, where: Path | str
) -> None:
    if isinstance(where, Path):
        pytest.skip("a SQLite ledger has one gateway")
    key = made(requests_per_minute=3)
    assert [isinstance(await try_it(ledger, values, key, clock), Admitted) for _ in range(4)] == [True] * 3 + [False]
    for jump_s in (HOUR_S, -2 * HOUR_S, MONTH_S):
        clock.now += jump_s
        assert isinstance(await try_it(ledger, values, key, clock), RateLimited)


@pytest.mark.usefixtures("own_clock")
async def test_a_clock_a_month_ahead_and_back_fills_a_bucket_once(
    ledger: Ledger, made: Any, clock: Clock, values: Any
) -> None:
    key = made(requests_per_minute=3)

    async def burst() -> int:
        return sum([isinstance(await try_it(ledger, values, key, clock), Admitted) for _ in range(6)])

    assert await burst() == 3
    clock.now += MONTH_S
    assert await burst() == 3
    clock.now -= MONTH_S
    assert await burst() == 0
    clock.now += MINUTE_S
    assert await burst() == 3


async def test_a_clock_back_over_the_months_edge_finds_what_was_spent(
    ledger: Ledger, made: Any, clock: Clock, values: Any
) -> None:
    key = made(cap_nusd=10)
    await done(ledger, values, key, clock, nusd=10)
    clock.now += HOUR_S  # December
    await done(ledger, values, key, clock, nusd=10)
    clock.now -= HOUR_S
    assert isinstance(await try_it(ledger, values, key, clock, reserve_nusd=1), BudgetExceeded)


def named(digest: bytes = b"body") -> Idempotency:
    return Idempotency("order-1", digest)


def kept(request_id: str) -> Kept:
    return Kept(request_id, 200, "application/json", {}, b"{}")


async def test_an_answer_is_kept_ten_minutes_from_when_it_was_given(
    ledger: Ledger, key: Key, clock: Clock, values: Any, look: Any, where: Any
) -> None:
    first = values.admission(key, at_ms=clock.ms, idempotency=named())
    admitted = await ledger.admit(first)
    opened = engine(where)
    clock.now += 30 * MINUTE_S  # it runs for half an hour
    assert retention.expire_answers(opened, clock.ms) == 0
    conflict = await try_it(ledger, values, key, clock, idempotency=named())
    assert isinstance(conflict, Conflict) and conflict.code == "idempotency_in_progress"
    await ledger.settle(first, admitted, values.outcome(first.request.id, kept=kept(first.request.id)))
    clock.now += 9 * MINUTE_S
    assert (await try_it(ledger, values, key, clock, idempotency=named())).kept == kept(first.request.id)
    assert retention.expire_answers(opened, clock.ms) == 0
    clock.now += 2 * MINUTE_S
    again = await try_it(ledger, values, key, clock, idempotency=named())
    assert isinstance(again, Admitted) and again.kept is None
    assert look.counts() == {"ok": 1, "open": 1}
    opened.dispose()


@pytest.mark.parametrize("jump_s", [-HOUR_S, MONTH_S])
async def test_no_jump_runs_what_still_runs_a_second_time(
    jump_s: float, ledger: Ledger, key: Key, clock: Clock, values: Any, look: Any
) -> None:
    first = values.admission(key, at_ms=clock.ms, idempotency=named())
    await ledger.admit(first)
    clock.now += jump_s
    assert isinstance(await try_it(ledger, values, key, clock, idempotency=named()), Conflict)
    assert look.counts() == {"open": 1}


async def test_a_clock_set_back_keeps_an_answer_rather_longer(
    ledger: Ledger, key: Key, clock: Clock, values: Any
) -> None:
    first = values.admission(key, at_ms=clock.ms, idempotency=named())
    admitted = await ledger.admit(first)
    await ledger.settle(first, admitted, values.outcome(first.request.id, kept=kept(first.request.id)))
    clock.now -= HOUR_S
    assert (await try_it(ledger, values, key, clock, idempotency=named())).kept == kept(first.request.id)


async def test_a_key_expires_by_the_clock_whichever_way_it_jumps(ledger: Ledger, where: Any, clock: Clock) -> None:
    opened = engine(where)
    secret = keys.create(opened, Actor("test"), "expiring", expires_ms=clock.ms + 1000).secret
    opened.dispose()
    wait_until(lambda: ledger.authenticate(secret), 2, "the gateway sees the key")
    clock.now += 1.0
    assert ledger.authenticate(secret) is None
    clock.now += MONTH_S
    assert ledger.authenticate(secret) is None
    clock.now -= MONTH_S + 2.0
    assert ledger.authenticate(secret) is not None


def test_a_clock_set_back_does_not_stop_housekeeping(where: Any, clock: Clock) -> None:
    keeper = Housekeeper(where, "Asia/Kolkata", clock)
    assert len(keeper.round()) == 4
    assert keeper.round() == []
    clock.now -= HOUR_S
    assert len(keeper.round()) == 4
    clock.now += MONTH_S
    assert len(keeper.round()) == 4
