"""Who asks the speech engine when, over all sessions of the live process.

What it is: places. A turn's last pass always has one; a look at a turn that goes on is begun only where one is free,
and is cut off where a last pass needs its place. How many there are is found by trying: a look answered within
``quick_s`` widens them by a fraction, so that an engine that batches is given many at once; a slower one halves them,
down to one, which is what two cores have. After a look the places rest for as long as it took beyond that.
What it refuses to be: a queue. A look that has no place is not made later; the next piece of audio asks again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol

QUICK_S = 0.2
_MOST = 64.0


class _Transcribe(Protocol):
    def __call__(self, audio: bytes, fields: dict[str, str], final: bool) -> AsyncIterator[tuple[str, str]]: ...


class Pace:
    """Shared by sessions. ``quick_s``: how long a look may take before it is too many."""

    def __init__(self, quick_s: float = QUICK_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._quick_s = quick_s
        self._clock = clock
        self._places = 1.0
        self._finals = 0
        self._looks: dict[asyncio.Task[object], None] = {}  # oldest first
        self._rests_until = 0.0

    @property
    def places(self) -> int:
        """How many requests are known to go well beside each other."""
        return int(self._places)

    def free(self) -> bool:
        """Whether a look may begin now."""
        return self._finals + len(self._looks) < self.places and self._clock() >= self._rests_until

    def paced(self, transcribe: _Transcribe) -> _Transcribe:
        """``transcribe``, whose last passes cut looks off, and whose looks say how long they took."""

        async def run(audio: bytes, fields: dict[str, str], final: bool) -> AsyncIterator[tuple[str, str]]:
            begun = self._clock()
            task = asyncio.current_task()
            if final:
                self._finals += 1
                self._make_room()
            elif task is not None:
                self._looks[task] = None
            try:
                async for event in transcribe(audio, fields, final):
                    yield event
                if not final:
                    self._took(self._clock() - begun)
            finally:
                if final:
                    self._finals -= 1
                elif task is not None:
                    self._looks.pop(task, None)

        return run

    def _make_room(self) -> None:
        """The looks that heard longest ago go on; the newest are cut off."""
        while self._looks and self._finals + len(self._looks) > self.places:
            newest, _ = self._looks.popitem()
            newest.cancel()

    def _took(self, seconds: float) -> None:
        if seconds <= self._quick_s:
            self._places = min(_MOST, self._places + 1 / self._places)
        else:
            self._places = max(1.0, self._places / 2)
            self._rests_until = self._clock() + seconds - self._quick_s
