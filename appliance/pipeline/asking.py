"""Calls that are made beside an answer: a detection before a transcript, a translation around a model.

What it is: ``ask``, one whole call on the least busy engine of a model, bounded by what is left of the request's time.
What it refuses to be: an attempt. Its record belongs to the attempt that follows, or to that which it is part of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Protocol

from appliance.engines import Call
from appliance.errors import ApplianceError, DeadlineExceeded, EngineFailed
from appliance.pipeline.sources import Calling, Rooms
from appliance.pipeline.work import Run, why_cancelled
from appliance.types import Attempt, AttemptRecord, CallRecord, End, Reason, Status


class Planning(Rooms, Protocol):
    """Rooms that can say who answers."""

    def local(self, model: str) -> Attempt:
        """The least busy engine of a model. Raises EngineUnavailable."""
        ...


async def ask(
    rooms: Planning,
    run: Run,
    deadline_s: float,
    model: str,
    path: str,
    header: str,
    body: bytes,
    keep: Callable[[CallRecord], None] | None = None,
) -> bytes:
    """One whole call. Its record is kept for the attempt that follows, where ``keep`` does not take it.

    Raises ApplianceError; what was asked before is then on record as an attempt that failed, unless ``keep`` has it.
    """
    attempt = rooms.local(model)
    entry = rooms.registry.entries[attempt.engine]
    call = Call(path, model, body, False, header=header, request_id=run.admission.request.id)
    status, code, end = Status.FAILED, "internal_error", None
    calling = Calling(rooms, run, entry, model)
    try:
        async with asyncio.timeout(run.remaining_s(deadline_s)), aclosing(rooms.stream(entry, call)) as events:
            async for event in events:
                end = event if isinstance(event, End) else None
        if end is None:
            raise EngineFailed("the engine's answer ended without an end", code="stream_cut")
        calling.ended(end)
        status = Status.OK
        return end.body
    except ApplianceError as e:
        code = e.code
        raise
    except TimeoutError:
        code = DeadlineExceeded.code
        raise DeadlineExceeded(f"no answer within {deadline_s:g} s; send less, or try again") from None
    except asyncio.CancelledError as e:
        status, code = Status.CANCELLED, why_cancelled(e)[1]
        raise
    finally:
        if keep is not None:
            keep(calling.over(status, 0))
        else:
            run.before.append(calling.over(status, len(run.before)))
            if status is not Status.OK:
                _failed(run, attempt, status, code)


def led_nowhere(run: Run, error: ApplianceError) -> None:
    """Calls were made, and nothing came of them: an attempt that failed."""
    if run.before:
        first = run.before[0]
        _failed(run, Attempt(0, first.engine, first.model, "local", Reason.ROUTINE), Status.FAILED, error.code)


def _failed(run: Run, attempt: Attempt, status: Status, code: str) -> None:
    calls, run.before = tuple(run.before), []
    numbered = Attempt(run.next_ordinal(), attempt.engine, attempt.model, attempt.route, attempt.reason)
    run.records.append(AttemptRecord(numbered, status, code, calls, sum(call.total_ms for call in calls)))
