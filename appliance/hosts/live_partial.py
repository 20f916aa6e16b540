"""What is said so far of a turn that still goes on.

What it is: passes over the turn's audio while it grows, each a request to the gateway on the caller's key; what two
passes in a row agree on, but for the last word, is said (LocalAgreement-2, Liu et al. 2020) and never taken back.
The next pass waits for ``every_s`` more audio and for two fifths of what was heard by the last, so that all passes of a
turn together hear at most three and a half times its length.
What it refuses to be: in the way. One pass at a time, where the engine has a place for it (``live_pace``); the turn's
end cuts it off, and the first one that the gateway refuses (a limit, a budget) ends them for the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from appliance.hosts.live_settings import Refused

_GROWTH = 1.4
Transcribe = Callable[[bytes, dict[str, str], bool], AsyncIterator[tuple[str, str]]]


class Partial:
    """Passes of one session, a turn at a time. ``say(item, piece)`` sends a delta. ``every_s`` 0: none.

    ``free``: whether the engine has a place for one now.
    """

    def __init__(
        self,
        transcribe: Transcribe,
        say: Callable[[str, str], Awaitable[None]],
        every_s: float,
        free: Callable[[], bool] = lambda: True,
    ) -> None:
        self._transcribe = transcribe
        self._say = say
        self._every_s = every_s
        self._free = free
        self._task: asyncio.Task[None] | None = None
        self._next_s = every_s
        self._before: list[str] = []
        self._said = ""

    def due(self, heard_s: float) -> bool:
        """Whether a turn of ``heard_s`` so far is worth another pass now."""
        idle = self._task is None or self._task.done()
        return self._every_s > 0 and heard_s >= self._next_s and idle and self._free()

    def start(self, item: str, audio: bytes, heard_s: float, fields: dict[str, str]) -> None:
        """One pass."""
        self._next_s = max(heard_s + self._every_s, heard_s * _GROWTH)
        self._task = asyncio.create_task(self._pass(item, audio, fields))

    async def pause(self) -> None:
        """A pass under way is cut off, as the last one of the turn has begun."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def end(self) -> str:
        """The turn is over: what was said of it. A pass under way is cut off."""
        task, said = self._task, self._said
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            said = self._said
        self._task, self._next_s, self._before, self._said = None, self._every_s, [], ""
        return said

    async def _pass(self, item: str, audio: bytes, fields: dict[str, str]) -> None:
        text = ""
        try:
            async for what, piece in self._transcribe(audio, fields, False):
                if what == "done":
                    text = piece
        except Refused as e:
            if e.status < 500:
                self._every_s = 0.0
            return
        words = text.split()
        sure = agreed(self._before, words)
        self._before = words
        if len(sure) > len(self._said) and sure.startswith(self._said):
            piece, self._said = sure[len(self._said) :], sure
            await self._say(item, piece)


def agreed(one: list[str], other: list[str]) -> str:
    """The words that both begin with, without the last of either, which may still be being spoken."""
    count = 0
    for a, b in zip(one[:-1], other[:-1], strict=False):
        if a != b:
            break
        count += 1
    return " ".join(other[:count])
