"""One attempt while it is made: its calls, what is held back of it, and its record.

What it is: ``Trial.run`` passes an answer on as it comes and gives its ``End``, or gives ``Held``: the answer was heard
(whole, or its start), nothing of it has left, and something better may be tried. ``go_on`` lets a held answer out
after all. Whatever happens leaves one ``AttemptRecord``.
What it refuses to be: a chooser. What comes after it is the chain's business; no trial ever starts another.
What it costs: 3 µs a request beside the engine's own work, nothing a piece where nothing is held back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from appliance.errors import ApplianceError, DeadlineExceeded, EngineFailed
from appliance.pipeline.sources import Source
from appliance.pipeline.work import Run, Sink, Work, why_cancelled
from appliance.types import Attempt, AttemptRecord, End, Reason, Status
from appliance.within import Within


class Verdict(Struct, frozen=True):
    """What was made of an answer. Without ``reason`` it may leave as ``end``; ``work`` is what to try instead of it.

    ``pieces`` are what a held stream has to leave as, where it is not to leave as it came.
    """

    end: End | None = None
    reason: Reason | None = None
    work: Work | None = None
    pieces: tuple[bytes, ...] | None = None


class Hold(Protocol):
    """Holds an answer back until it is known whether it will do."""

    def heard(self, body: bytes) -> Verdict | None:
        """A piece of a stream; None: not known yet."""
        ...

    def ended(self, end: End) -> Verdict:
        """The whole answer."""
        ...

    def shown(self, body: bytes) -> bytes:
        """A piece as its caller may see it."""
        ...


class Held(Struct, frozen=True):
    """An answer that could be better: ``trial`` has it still; ``reason`` is why, ``work`` what to do instead."""

    trial: Trial
    reason: Reason
    work: Work | None = None


class Trial:
    """Make it, ``run`` it, and ``close`` what it left held."""

    def __init__(
        self, run: Run, attempt: Attempt, work: Work, sink: Sink, source: Source, hold: Hold | None = None
    ) -> None:
        self.attempt = attempt
        self.work = work
        self._run = run
        self._sink = sink
        self._source = source
        self._hold = hold
        self._events = source.events()
        self._started_s = run.now()
        self._pieces: list[bytes] = []
        self._end: End | None = None
        self._reason: Reason | None = None
        self._plain = hold is None  # pieces may be seen as they are
        self._recorded = False

    async def run(self) -> End | Held:
        """The end of the answer, all but its closing bytes having left; or the answer held. Raises ApplianceError."""
        return await self._bounded(self._hear)

    async def go_on(self) -> End:
        """The answer that was held, after all. Raises ApplianceError."""
        done = await self._bounded(self._let_out)
        assert isinstance(done, End), "nothing is held twice"
        return done

    async def close(self) -> None:
        """Let go of a stream that stayed held: its engine stops, and the reason is on record as its code."""
        await self._over(Status.CANCELLED, None if self._reason is None else self._reason.value)

    async def _bounded(self, step: Callable[[], Awaitable[End | Held]]) -> End | Held:
        work, run = self.work, self._run
        try:
            # here and not in the engine: while a slow caller is written to, an engine's generator is suspended,
            # and a time-out inside it would look like a cancellation
            with Within(run.remaining_s(work.deadline_s)):
                done = await step()
        except ApplianceError as e:
            if e.usage is not None:
                self._source.used(e.usage)
            await self._over(Status.FAILED, e.code)
            raise
        except TimeoutError:
            await self._over(Status.FAILED, DeadlineExceeded.code)
            raise DeadlineExceeded(
                f"no complete answer within {work.deadline_s:g} s; ask for less, or raise server.request_deadline_s"
            ) from None
        except asyncio.CancelledError as e:
            await self._over(Status.CANCELLED, why_cancelled(e)[1])
            raise
        except BaseException:
            await self._over(Status.FAILED, "internal_error")
            raise
        if isinstance(done, End) or self._end is not None:  # the start of a stream is held open
            await self._over(Status.OK, None)
        return done

    async def _hear(self) -> End | Held:
        hold = self._hold
        async for event in self._events:
            if isinstance(event, End):
                return await self._ended(event, hold)
            if hold is None:
                await self._pass(event.body)
                continue
            self._pieces.append(event.body)
            verdict = hold.heard(event.body)
            if verdict is None:
                continue
            if verdict.reason is not None:
                return self._held(verdict.reason, verdict.work)
            hold = None
            await self._release()
        raise EngineFailed("the engine's answer ended without an end", code="stream_cut")

    async def _ended(self, end: End, hold: Hold | None) -> End | Held:
        self._source.ended(end)
        if hold is not None and not self._run.begun:
            verdict = hold.ended(end)
            end = verdict.end or end
            if verdict.pieces is not None:
                self._pieces, self._plain = list(verdict.pieces), True
            if verdict.reason is not None:
                self._end = end
                return self._held(verdict.reason, verdict.work)
        await self._release()
        return await self._finish(end)

    def _held(self, reason: Reason, work: Work | None) -> Held:
        self._reason = reason
        return Held(self, reason, work)

    async def _let_out(self) -> End:
        await self._release()
        if self._end is not None:
            return await self._finish(self._end)
        async for event in self._events:
            if isinstance(event, End):
                self._source.ended(event)
                return await self._finish(event)
            await self._pass(event.body)
        raise EngineFailed("the engine's answer ended without an end", code="stream_cut")

    async def _release(self) -> None:
        for piece in self._pieces:
            await self._pass(piece)
        self._pieces.clear()
        self._plain = self._hold is None

    async def _pass(self, body: bytes) -> None:
        if not self._run.begun:
            await self._begin()
        if not self._plain and self._hold is not None:
            body = self._hold.shown(body)
        await self._sink.data(body)

    async def _finish(self, end: End) -> End:
        if not self._run.begun:
            await self._begin()
        return replace(end, body=self._sink.render(end.body))

    async def _begin(self) -> None:
        run = self._run
        run.begun = True
        self._source.first()
        if self.work.stream:
            run.ttft_ms = run.ms_since(run.started_s)
        assert run.admitted is not None
        await self._sink.begin(self.attempt, run.admitted)

    async def _over(self, status: Status, code: str | None) -> None:
        """Stop what still runs, and record it, once."""
        if self._recorded:
            return
        self._recorded = True
        try:
            await self._events.aclose()
        finally:
            total_ms = self._run.ms_since(self._started_s)
            self._run.records.append(AttemptRecord(self.attempt, status, code, self._source.over(status), total_ms))
