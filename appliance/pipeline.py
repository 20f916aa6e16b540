"""The only composer: admit, plan, run, record.

What it is: one function that takes an admitted request through the rooms, in this order and no other:
the ledger row commits before dispatch, the outcome commits before the last byte leaves. Engines that fail
before their first byte are replaced by the next attempt of the plan.
What it refuses to be: HTTP. It writes into a ``Sink`` and raises ``ApplianceError``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from appliance.engines import Call
from appliance.engines.registry import Entry, Registry
from appliance.errors import ApplianceError, DeadlineExceeded, EngineFailed, EngineUnavailable, LedgerUnavailable
from appliance.ledger import Ledger
from appliance.metrics import Metrics
from appliance.policy import Candidate, plan
from appliance.types import (
    Attempt,
    AttemptRecord,
    CallRecord,
    End,
    Outcome,
    Plan,
    Reason,
    Request,
    Status,
    Usage,
)

CLIENT_LEFT = 499  # nginx's number for a client that closed the request; nobody ever sees it
# What a task is cancelled with when its client left. Any other cancellation is the appliance shutting down.
LEFT = "client left"


class Sink(Protocol):
    """Where an answer goes. ``begin`` comes once, before the first byte."""

    async def begin(self, attempt: Attempt) -> None:
        """The attempt that answers."""
        ...

    async def data(self, body: bytes) -> None:
        """A piece of the answer."""
        ...

    def render(self, body: bytes) -> bytes:
        """The closing bytes in the caller's format. Raises EngineFailed; the outcome is not written yet."""
        ...

    async def end(self, body: bytes) -> None:
        """The closing bytes, rendered; the outcome is durable by now."""
        ...


class Work(Struct, frozen=True):
    """What has to be done, independent of who does it.

    ``model`` is the resolved name, where ``Request.model`` is what the caller called it.
    ``body_for(model, cache_salt)`` gives the engine's request body; the salt is None where the engine does
    not know the parameter.
    """

    path: str
    model: str
    stream: bool
    deadline_s: float
    body_for: Callable[[str, str | None], bytes]
    choices: int = 1
    keep_usage: bool = False
    header: str = ""


class _Run:
    """What is known of one request while it runs."""

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.records: list[AttemptRecord] = []
        self.begun = False
        self.ttft_ms: float | None = None


class Pipeline:
    """Holds the rooms; keeps no state of its own about requests."""

    def __init__(self, ledger: Ledger, registry: Registry, metrics: Metrics, monotonic: Callable[[], float]) -> None:
        self._ledger = ledger
        self._registry = registry
        self._metrics = metrics
        self._monotonic = monotonic

    async def run(self, request: Request, work: Work, sink: Sink) -> None:
        """Answer ``request`` into ``sink``.

        Raises ApplianceError after it was recorded; bytes may have left before. Cancelling records the
        request as cancelled and stops the engine's work.
        """
        run = _Run(self._monotonic())
        try:
            await self._ledger.admit(request)
        except asyncio.CancelledError as e:  # the row is queued all the same, so its end must be too
            await self._settle_cancelled(request, run, e)
            raise
        try:
            end = await self._work(request, work, sink, run)
        except ApplianceError as e:
            status = Status.FAILED if run.records else Status.REFUSED
            await self._settle(request, run, status, 200 if run.begun else e.status, e.code)
            raise
        except asyncio.CancelledError as e:
            await self._settle_cancelled(request, run, e)
            raise
        except Exception:
            await self._settle(request, run, Status.FAILED, 200 if run.begun else 500, "internal_error")
            raise
        await self._settle(request, run, Status.OK, 200, None)
        await sink.end(end.body)

    async def _work(self, request: Request, work: Work, sink: Sink, run: _Run) -> End:
        entries = self._registry.entries
        chosen = self._plan(work.model)
        if not chosen.attempts:
            raise self._refusal(work.model, chosen.refusal)
        for attempt in chosen.attempts:
            last = attempt.ordinal == len(chosen.attempts) - 1
            try:
                return await self._attempt(attempt, entries[attempt.engine], request, work, sink, run)
            except (EngineUnavailable, EngineFailed):
                if last or run.begun:
                    raise
        raise AssertionError("a plan with attempts always returns or raises")

    def _plan(self, model: str) -> Plan:
        return plan(
            model,
            [
                Candidate(name, entry.state.phase == "ready", entry.in_flight)
                for name, entry in self._registry.entries.items()
                if model in entry.state.models
            ],
        )

    def _refusal(self, model: str, reason: Reason | None) -> ApplianceError:
        details = "; ".join(
            f"engine {e.state.name} is {e.state.phase}"
            for e in self._registry.entries.values()
            if model in e.state.models
        )
        return EngineUnavailable(
            f"no engine can answer for model {model!r} now ({details or 'its engine has not started yet'});"
            " try again shortly, GET /health/ready tells when",
            headers={"retry-after": "5", "x-appliance-reason": str(reason)},
        )

    async def _attempt(
        self, attempt: Attempt, entry: Entry, request: Request, work: Work, sink: Sink, run: _Run
    ) -> End:
        started_s = self._monotonic()
        usage, finish_reason, first_ms = Usage(), None, None
        status = Status.FAILED
        code: str | None = "internal_error"
        salt = request.key.tenant.cache_salt if entry.salted else None
        remaining_s = max(work.deadline_s - (started_s - run.started_s), 0.001)
        body = work.body_for(attempt.model, salt)
        call = Call(work.path, attempt.model, body, work.stream, work.choices, work.keep_usage, work.header)
        entry.in_flight += 1
        try:
            # here and not in the engine: while a slow caller is written to, an engine's generator is suspended,
            # and a time-out inside it would look like a cancellation
            async with asyncio.timeout(remaining_s), aclosing(entry.engine.stream(call)) as events:
                async for event in events:
                    if not run.begun:
                        run.begun = True
                        if work.stream:
                            first_ms = self._ms_since(started_s)
                            run.ttft_ms = self._ms_since(run.started_s)
                        await sink.begin(attempt)
                    if isinstance(event, End):
                        usage, finish_reason = event.usage, event.finish_reason
                        end = replace(event, body=sink.render(event.body))
                        status, code = Status.OK, None
                        return end
                    await sink.data(event.body)
            raise EngineFailed("the engine's answer ended without an end", code="stream_cut")
        except ApplianceError as e:
            code = e.code
            raise
        except TimeoutError:
            code = DeadlineExceeded.code
            raise DeadlineExceeded(
                f"no complete answer within {work.deadline_s:g} s; ask for less, or raise server.request_deadline_s"
            ) from None
        except asyncio.CancelledError as e:
            status, code = Status.CANCELLED, _why_cancelled(e)[1]
            raise
        finally:
            entry.in_flight -= 1
            total_ms = self._ms_since(started_s)
            call_record = CallRecord(0, attempt.engine, attempt.model, status, usage, finish_reason, first_ms, total_ms)
            run.records.append(AttemptRecord(attempt, status, code, (call_record,), total_ms))

    def _ms_since(self, start_s: float) -> float:
        return (self._monotonic() - start_s) * 1000.0

    async def _settle_cancelled(self, request: Request, run: _Run, why: asyncio.CancelledError) -> None:
        http, code = _why_cancelled(why)
        # nobody is left to be told of a ledger that fails; it settles the row as lost when it recovers
        with suppress(LedgerUnavailable):
            await self._settle(request, run, Status.CANCELLED, 200 if run.begun and http != CLIENT_LEFT else http, code)

    async def _settle(self, request: Request, run: _Run, status: Status, http: int, code: str | None) -> None:
        total_ms = self._ms_since(run.started_s)
        outcome = Outcome(request.id, status, http, code, total_ms, run.ttft_ms, tuple(run.records))
        await self._ledger.settle(outcome)
        if status is Status.OK:
            tokens = run.records[-1].calls[-1].usage.completion_tokens
            ttft_s = run.ttft_ms / 1000.0 if run.ttft_ms is not None else None
            self._metrics.answer(request.endpoint, ttft_s, total_ms / 1000.0, tokens)


def _why_cancelled(error: asyncio.CancelledError) -> tuple[int, str]:
    """HTTP status and code of a cancellation."""
    return (CLIENT_LEFT, "client_left") if LEFT in error.args else (503, "shutting_down")
