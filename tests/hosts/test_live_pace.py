"""Looks at turns give way to last passes, over all sessions, and are made as often as the engine is quick."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from appliance.hosts.live_pace import Pace


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Engine:
    """Passes that last until they are let go; which ran to their end, which were cut off."""

    def __init__(self, pace: Pace) -> None:
        self.go = {False: asyncio.Event(), True: asyncio.Event()}
        self.done: list[bytes] = []
        self.cut: list[bytes] = []
        self._run = pace.paced(self._pass)

    async def _pass(self, audio: bytes, fields: dict[str, str], final: bool) -> AsyncIterator[tuple[str, str]]:
        try:
            await self.go[final].wait()
        except asyncio.CancelledError:
            self.cut.append(audio)
            raise
        yield "done", "text"

    async def begin(self, name: bytes, final: bool = False) -> asyncio.Task[None]:
        async def whole() -> None:
            async for _ in self._run(name, {}, final):
                self.done.append(name)

        task = asyncio.create_task(whole())
        await asyncio.sleep(0)
        return task


async def look(pace: Pace, clock: Clock, seconds: float) -> None:
    engine = Engine(pace)
    task = await engine.begin(b"look")
    clock.now += seconds
    engine.go[False].set()
    await task


async def test_a_last_pass_cuts_off_the_look_of_another_session() -> None:
    pace = Pace()
    engine = Engine(pace)
    other = await engine.begin(b"look")
    assert not pace.free()
    last = await engine.begin(b"last", final=True)
    await asyncio.gather(other, return_exceptions=True)
    assert engine.cut == [b"look"]
    assert not pace.free()  # nobody looks while the last pass is under way
    engine.go[True].set()
    await last
    assert engine.done == [b"last"] and pace.free()


async def test_last_passes_do_not_cut_each_other_off() -> None:
    engine = Engine(Pace())
    tasks = [await engine.begin(bytes([n]), final=True) for n in range(4)]
    engine.go[True].set()
    await asyncio.gather(*tasks)
    assert len(engine.done) == 4 and not engine.cut


async def test_after_a_slow_look_the_next_waits_for_as_long() -> None:
    clock = Clock()
    pace = Pace(0.2, clock)
    await look(pace, clock, 0.7)
    assert pace.places == 1 and not pace.free()
    clock.now += 0.49
    assert not pace.free()
    clock.now += 0.02
    assert pace.free()


async def test_a_quick_engine_is_given_more_at_once_and_a_slow_one_less() -> None:
    clock = Clock()
    pace = Pace(0.2, clock)
    for _ in range(12):
        await look(pace, clock, 0.05)
    assert pace.places == 5  # 1 + 1/1 + 1/2 + 1/2.5 + …
    engine = Engine(pace)
    looks = [await engine.begin(bytes([n])) for n in range(4)]
    assert pace.free()
    last = [await engine.begin(b"last", final=True), await engine.begin(b"last", final=True)]
    await asyncio.sleep(0)
    assert engine.cut == [bytes([3])]  # the one that has heard least
    for event in engine.go.values():
        event.set()
    await asyncio.gather(*looks, *last, return_exceptions=True)
    await look(pace, clock, 3.0)
    assert pace.places == 2


async def test_a_pass_that_fails_gives_its_place_back() -> None:
    async def fails(audio: bytes, fields: dict[str, str], final: bool) -> AsyncIterator[tuple[str, str]]:
        raise OSError
        yield "", ""

    pace = Pace()
    for final in (False, True):
        with pytest.raises(OSError):
            async for _ in pace.paced(fails)(b"", {}, final):
                pass
    assert pace.free()
