"""Places for decoders: who goes first, what bulk may take, and callers that leave."""

from __future__ import annotations

import asyncio

from appliance.hosts.audio_places import Places

LIVE, INTERACTIVE, BULK = 0, 1, 2


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_live_before_interactive_before_bulk_then_in_the_order_of_arrival() -> None:
    places: Places[str] = Places()
    places.add("only")
    held = await places.take(INTERACTIVE)
    served: list[str] = []

    async def one(name: str, rank: int) -> None:
        thing = await places.take(rank)
        served.append(name)
        places.give(thing, rank)

    tasks = [
        asyncio.ensure_future(one(name, rank))
        for name, rank in (("bulk", BULK), ("first", INTERACTIVE), ("second", INTERACTIVE), ("live", LIVE))
    ]
    await settle()
    places.give(held, INTERACTIVE)
    await asyncio.gather(*tasks)
    assert served == ["live", "first", "second", "bulk"]


async def test_bulk_leaves_the_last_place_to_others() -> None:
    places: Places[str] = Places()
    for name in "abc":
        places.add(name)
    held = [await places.take(BULK), await places.take(BULK)]
    third = asyncio.ensure_future(places.take(BULK))
    await settle()
    assert not third.done()
    soon = await places.take(INTERACTIVE)
    places.give(soon, INTERACTIVE)
    await settle()
    assert not third.done()
    places.give(held[0], BULK)
    assert await third == held[0]


async def test_bulk_alone_has_the_only_place() -> None:
    places: Places[str] = Places()
    places.add("only")
    assert await places.take(BULK) == "only"


async def test_a_caller_that_leaves_takes_no_place_along() -> None:
    places: Places[str] = Places()
    places.add("only")
    held = await places.take(BULK)
    waiting = [asyncio.ensure_future(places.take(BULK)) for _ in range(3)]
    await settle()
    waiting[0].cancel()
    await settle()
    places.give(held, BULK)
    waiting[1].cancel()  # it has been handed the place, and has not woken up yet
    assert await waiting[2] == "only"
    places.give("only", BULK)
    assert await places.take(LIVE) == "only"
