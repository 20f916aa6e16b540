"""The last pass of a turn begins in its last silence, and is the answer only where it heard all of the turn."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from appliance.hosts.live_session import Limits, Refused, Session

RATE = 24000
PIECE_MS = 100
LOUD = (np.sin(np.arange(RATE * PIECE_MS // 1000)) * 9000).astype("<i2")
QUIET = np.zeros_like(LOUD)


class Detector:
    def frame(self, samples: np.ndarray) -> float:
        return float(np.abs(samples).max() > 1000)


class Talk:
    """A session, what it asked of the gateway (ms of audio), and its events. ``answer`` gives a pass its text."""

    def __init__(self, answer: Callable[[int], str] = lambda number: f"pass {number}", ahead_ms: float = 200.0) -> None:
        self.asked: list[float] = []
        self.dropped = 0
        self.events: list[dict[str, Any]] = []
        self.go = asyncio.Event()
        self.go.set()
        self._answer = answer
        limits = Limits(partial_s=0.0, ahead_ms=ahead_ms)
        self.session = Session(self._said, self._transcribe, Detector, limits)

    async def _said(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    async def _transcribe(self, audio: bytes, fields: dict[str, str], final: bool) -> AsyncIterator[tuple[str, str]]:
        assert final
        self.asked.append(len(audio) / 2 / RATE * 1000)
        number = len(self.asked)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.dropped += 1
            raise
        text = self._answer(number)
        yield "delta", text
        yield "done", text

    async def hear(self, *spans: tuple[np.ndarray, int]) -> None:
        """Spans of sound, in pieces of 100 ms; between two, whatever else is to be done is done."""
        for samples, ms in spans:
            for _ in range(ms // PIECE_MS):
                audio = base64.b64encode(samples.tobytes()).decode()
                await self.session.receive(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
                for _ in range(5):
                    await asyncio.sleep(0)

    def kinds(self) -> list[str]:
        return [event["type"].rpartition(".")[2] for event in self.events]

    @property
    def texts(self) -> list[str]:
        return [event["transcript"] for event in self.events if "transcript" in event]


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[Talk]:
    working = asyncio.create_task(talk.session.work())
    async with asyncio.timeout(10):
        yield talk
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_the_pass_begins_in_the_silence_and_is_the_answer_once_it_has_lasted() -> None:
    async with talking(Talk()) as talk:
        await talk.hear((QUIET, 500), (LOUD, 1000), (QUIET, 200))
        assert not talk.asked
        await talk.hear((QUIET, 200))
        assert len(talk.asked) == 1
        assert talk.kinds() == ["speech_started"]  # nothing is told before the turn is over
        await talk.hear((QUIET, 300))
        assert talk.kinds() == ["speech_started", "speech_stopped", "committed", "delta", "completed"]
        assert talk.texts == ["pass 1"]
        assert len(talk.asked) == 1
        assert 1400 < talk.asked[0] < 1700  # the padding, what was said, 200 ms of silence and a piece


async def test_a_voice_that_comes_back_drops_it_and_the_whole_turn_is_heard() -> None:
    async with talking(Talk()) as talk:
        talk.go.clear()
        await talk.hear((LOUD, 1000), (QUIET, 400))
        assert len(talk.asked) == 1
        await talk.hear((LOUD, 1000))
        assert talk.dropped == 1
        talk.go.set()
        await talk.hear((QUIET, 800))
        assert talk.texts == ["pass 2"]
        assert len(talk.asked) == 2
        assert talk.asked[1] > talk.asked[0] + 1000


async def test_a_stammerer_costs_no_more_than_three_and_a_half_times_his_turn() -> None:
    async with talking(Talk()) as talk:
        talk.go.clear()
        await talk.hear(*[(LOUD, 300), (QUIET, 300)] * 40)
        begun = sum(talk.asked)
        assert len(talk.asked) > 5
        assert begun <= 3.5 * 40 * 600
        talk.go.set()
        await talk.hear((QUIET, 800))
        assert len(talk.texts) == 1


async def test_one_that_was_refused_is_asked_again_when_the_turn_is_over_and_ends_them() -> None:
    def answer(number: int) -> str:
        if number == 1:
            raise Refused("one at a time", code="too_many_requests", status=429)
        return f"pass {number}"

    async with talking(Talk(answer)) as talk:
        await talk.hear((LOUD, 1000), (QUIET, 800))
        assert talk.texts == ["pass 2"]
        await talk.hear((LOUD, 1000), (QUIET, 400))
        assert len(talk.asked) == 2
        await talk.hear((QUIET, 400))
        assert talk.texts == ["pass 2", "pass 3"]


@pytest.mark.parametrize("ahead_ms", [0.0, 900.0])
async def test_without_it_a_turn_is_asked_about_once_it_is_over(ahead_ms: float) -> None:
    async with talking(Talk(ahead_ms=ahead_ms)) as talk:
        await talk.hear((LOUD, 1000), (QUIET, 400))
        assert not talk.asked
        await talk.hear((QUIET, 400))
        assert talk.texts == ["pass 1"]


@pytest.mark.parametrize("how", ["cleared", "ended", "another format"])
async def test_nobody_is_left_listening_to_a_turn_that_was_given_up(how: str) -> None:
    async with talking(Talk()) as talk:
        talk.go.clear()
        await talk.hear((LOUD, 1000), (QUIET, 400))
        if how == "cleared":
            await talk.session.receive(b'{"type": "input_audio_buffer.clear"}')
        elif how == "another format":
            update = {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}
            await talk.session.receive(json.dumps({"type": "session.update", "session": update}))
    for _ in range(5):
        await asyncio.sleep(0)
    assert (len(talk.asked), talk.dropped, talk.texts) == (1, 1, [])


async def test_a_manual_commit_in_the_silence_takes_it_too() -> None:
    async with talking(Talk()) as talk:
        await talk.hear((LOUD, 1000), (QUIET, 400))
        await talk.session.receive(b'{"type": "input_audio_buffer.commit"}')
        for _ in range(5):
            await asyncio.sleep(0)
        assert (talk.texts, len(talk.asked)) == (["pass 1"], 1)
