"""The time limit of the hot path: what it ends, what it lets through, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from appliance.within import Within


def left_clean() -> bool:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling() == 0


async def test_a_block_in_time_gives_what_it_gives() -> None:
    with Within(0.02):
        await asyncio.sleep(0)
    await asyncio.sleep(0.04)  # the limit ended with its block
    assert left_clean()


async def test_a_block_too_late_is_a_timeout_and_the_task_goes_on() -> None:
    with pytest.raises(TimeoutError), Within(0.01):
        await asyncio.sleep(30)
    assert left_clean()
    await asyncio.sleep(0)


async def test_an_error_of_the_block_is_that_error() -> None:
    with pytest.raises(KeyError), Within(30):
        raise KeyError("x")
    with pytest.raises(KeyError), Within(0.01):
        try:
            await asyncio.sleep(30)
        finally:
            raise KeyError("x")
    assert left_clean()


async def test_the_inner_of_two_ends_alone() -> None:
    with Within(30):
        with pytest.raises(TimeoutError), Within(0.01):
            await asyncio.sleep(30)
        await asyncio.sleep(0)
    assert left_clean()


async def test_the_outer_of_two_goes_through_the_inner_as_a_cancellation() -> None:
    seen: list[type[BaseException]] = []
    with pytest.raises(TimeoutError), Within(0.01):
        try:
            with Within(30):
                await asyncio.sleep(30)
        except BaseException as e:
            seen.append(type(e))
            raise
    assert seen == [asyncio.CancelledError]
    assert left_clean()


async def test_a_cancellation_by_somebody_else_is_one() -> None:
    async def work(seconds: float) -> None:
        with Within(seconds):
            await asyncio.sleep(30)

    waiting = asyncio.ensure_future(work(30))
    await asyncio.sleep(0)
    waiting.cancel("left")
    with pytest.raises(asyncio.CancelledError, match="left"):
        await waiting


async def test_a_cancellation_in_the_same_turn_as_the_limit_goes_first() -> None:
    limit = Within(30)

    async def work() -> None:
        with limit:
            await asyncio.sleep(30)

    waiting = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    limit._give_up()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_nothing_waits_for_the_limit_after_its_block() -> None:
    class Held:
        pass

    async def work() -> weakref.ref[Held]:
        held = Held()
        with Within(3600):
            await asyncio.sleep(0)
        return weakref.ref(held)

    seen = await asyncio.create_task(work())
    gc.collect()
    assert seen() is None


def test_outside_a_task_it_says_what_it_needs() -> None:
    async def nothing() -> None: ...

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(nothing())
        with pytest.raises(RuntimeError), Within(1):
            pass
    finally:
        loop.close()
