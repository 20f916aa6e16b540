"""The last pass of a turn, begun while its last silence still lasts.

What it is: a turn is over once nobody has spoken for ``silence_duration_ms`` (500 by default), and most of that time is
lost to the caller. So once it has been quiet for ``after_ms``, the turn is transcribed as if it were over; where the
silence goes on to the end, that pass is the turn's answer, and where the voice comes back it is dropped.
What it refuses to be: boundless. In a turn each one waits until two fifths more was heard than by the one before, so
that what is dropped heard at most three and a half times the turn; the first that the gateway refuses (a limit, a
budget) ends them for the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from appliance.hosts.live_settings import Refused

_GROWTH = 1.4
Transcribe = Callable[[bytes, dict[str, str], bool], AsyncIterator[tuple[str, str]]]


class Pass:
    """One request, its events kept until somebody reads them."""

    def __init__(self, transcribe: Transcribe, audio: bytes, fields: dict[str, str], spoken_ms: float) -> None:
        self.spoken_ms = spoken_ms
        self._events: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._run(transcribe(audio, fields, True)))

    async def _run(self, source: AsyncIterator[tuple[str, str]]) -> Refused | None:
        try:
            async for event in source:
                self._events.put_nowait(event)
        except Refused as e:
            return e
        finally:
            self._events.put_nowait(None)
        return None

    async def events(self) -> AsyncIterator[tuple[str, str]]:
        """As they come. Raises Refused."""
        try:
            while (event := await self._events.get()) is not None:
                yield event
            refused = await self._task
            if refused is not None:
                raise refused
        finally:
            self._task.cancel()

    async def drop(self) -> Refused | None:
        """Nobody will read it. What the gateway had said, where it had refused already."""
        self._task.cancel()
        (found,) = await asyncio.gather(self._task, return_exceptions=True)
        return found if isinstance(found, Refused) else None


class Ahead:
    """Passes of one session. ``after_ms`` of quiet begin one; 0: none."""

    def __init__(self, transcribe: Transcribe, after_ms: float) -> None:
        self._transcribe = transcribe
        self._after_ms = after_ms
        self._pass: Pass | None = None
        self._next_s = 0.0

    async def heard(
        self, quiet_ms: float, spoken_ms: float, heard_s: float, audio: Callable[[], tuple[bytes, dict[str, str]]]
    ) -> bool:
        """More of the turn has come; whether a pass is under way.

        ``spoken_ms``: when somebody last spoke. ``heard_s``: the turn's length so far. ``audio`` gives it, with its
        form's fields.
        """
        if self._pass is not None and self._pass.spoken_ms != spoken_ms:
            await self._drop()
        if self._pass is None and 0 < self._after_ms <= quiet_ms and heard_s >= self._next_s:
            self._next_s = heard_s * _GROWTH
            self._pass = Pass(self._transcribe, *audio(), spoken_ms)
        return self._pass is not None

    async def end(self, spoken_ms: float | None) -> Pass | None:
        """The turn is over: the pass that heard all of it, where there is one. None: the turn is given up."""
        if self._pass is not None and self._pass.spoken_ms != spoken_ms:
            await self._drop()
        found, self._pass, self._next_s = self._pass, None, 0.0
        return found

    def refused(self, e: Refused) -> None:
        """What the gateway said of one."""
        if e.status < 500:
            self._after_ms = 0.0

    async def _drop(self) -> None:
        dropped, self._pass = self._pass, None
        if dropped is not None and (e := await dropped.drop()) is not None:
            self.refused(e)
