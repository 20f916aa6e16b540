"""Pieces of one upload back in order: what the speech hosts share behind their batchers.

What it is: ``in_order`` runs a few windows at a time and gives their results in order; ``Written`` joins segments.
What it refuses to be: acquainted with a model.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from itertools import islice
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.hosts.whisper_wire import Result, Segment

V = TypeVar("V")


_PIECE = 512 * 1875
"""A minute at 16 kHz: 0.2 s of one core, after which whoever else waits for the features' threads has a turn."""


def nobody_asked(_: float) -> None:
    """Progress that nobody wants to know."""


# of the work, finding who speaks where: 2 ms a second of audio, against some 20 ms for its words
_FINDING = 0.1


async def heard_in_pieces(
    hear: Callable[[NDArray[np.int16]], Coroutine[None, None, NDArray[np.float32]]],
    samples: NDArray[np.int16],
    on_progress: Callable[[float], None] = nobody_asked,
) -> NDArray[np.float32]:
    """The detector's probabilities over ``samples``, a minute a call: three hours at once would be 30 s of a thread."""
    parts = [np.zeros(0, np.float32)]
    for begin in range(0, len(samples), _PIECE):
        parts.append(await hear(samples[begin : begin + _PIECE]))
        on_progress(_FINDING * min(1.0, (begin + _PIECE) / len(samples)))
    return np.concatenate(parts)


def share_done(reached_s: float, duration_s: float) -> float:
    """Progress once the words up to ``reached_s`` are written."""
    return _FINDING + (1 - _FINDING) * min(1.0, reached_s / duration_s) if duration_s else 1.0


class Written:
    """The transcript so far: segments numbered in order, each reported once."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text = on_text
        self.segments: list[Segment] = []
        self.text = ""

    def add(self, segments: Sequence[Segment]) -> None:
        """Append ``segments`` and report their text; all that is reported, joined, is ``text``."""
        for segment in segments:
            self.segments.append(msgspec.structs.replace(segment, id=len(self.segments)))
            text = segment.text if self.text else segment.text.lstrip()
            self.text += text
            self._on_text(text)


async def in_order(jobs: Iterable[Callable[[], Coroutine[None, None, V]]], at_once: int) -> AsyncGenerator[V, None]:
    """Results in order, ``at_once`` running; whatever runs is cancelled when one fails or the reader leaves."""
    running: deque[asyncio.Task[V]] = deque()
    todo = iter(jobs)
    try:
        while True:
            for job in islice(todo, at_once - len(running)):
                running.append(asyncio.ensure_future(job()))
            if not running:
                return
            yield await running[0]
            running.popleft()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def by_turns(channels: Sequence[Result]) -> Result:
    """One transcript of several channels, its segments in the order in which they begin.

    The language is that of the channel whose segments hold the most text.
    """
    segments = sorted(
        (
            msgspec.structs.replace(segment, channel=number)
            for number, result in enumerate(channels)
            for segment in result.segments
        ),
        key=lambda s: (s.start, s.channel or 0),
    )
    longest = max(channels, key=lambda result: len(result.text))
    words = [word for result in channels for word in result.words or ()]
    return Result(
        language=longest.language,
        language_probability=longest.language_probability,
        duration_s=max(result.duration_s for result in channels),
        text=" ".join(segment.text.strip() for segment in segments),
        segments=[msgspec.structs.replace(segment, id=n) for n, segment in enumerate(segments)],
        words=sorted(words, key=lambda w: w.start) if longest.words is not None else None,
    )
