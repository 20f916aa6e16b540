"""Requests that the gateway answers by itself, without an engine: recorded like every other one.

What it is: admit, compute, settle, send, for answers that take milliseconds of one core. The ledger gets a request, one
attempt on ``gateway`` and one call with the characters that were read; keys, limits, budgets, conversations and
Idempotency-Key work as everywhere.
What it refuses to be: a second pipeline. There is nothing to plan, to try again or to stream here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from msgspec.structs import replace

from appliance.api.http import Exchange
from appliance.api.idempotency import Copy, idempotency_of
from appliance.api.service import Service
from appliance.api.sinks import WholeSink
from appliance.api.turns import turn_of
from appliance.errors import ApplianceError, LedgerUnavailable
from appliance.types import (
    Admission,
    Admitted,
    Attempt,
    AttemptRecord,
    CallRecord,
    Endpoint,
    Key,
    Outcome,
    Reason,
    Status,
    Usage,
)

ENGINE = "gateway"
Compute = Callable[[], Awaitable[bytes]]


async def answer_inside(
    service: Service, exchange: Exchange, key: Key, endpoint: Endpoint, what: str, body: bytes, size: int, work: Compute
) -> None:
    """Answer with what ``work`` makes. ``what`` is the ledger's model, ``body`` the request's, ``size`` its characters.

    Raises ApplianceError after it was recorded.
    """
    idempotency = idempotency_of(exchange, f"/v1/{endpoint}", body)
    request = service.request(exchange, key, endpoint, what, False)
    turn = replace(turn_of(exchange, key), opens=False)  # a text that was looked at is no conversation
    admission = service.admission(request, turn, 0, 0, idempotency)
    sink = WholeSink(exchange, None if idempotency is None else Copy())
    run = _Run(service, admission, Attempt(0, ENGINE, what, "local", Reason.ROUTINE), size)
    await run.answer(work, sink)


class _Run:
    """One request while it runs."""

    def __init__(self, service: Service, admission: Admission, attempt: Attempt, size: int) -> None:
        self._service, self._admission, self._attempt, self._size = service, admission, attempt, size
        self._began_s = service.monotonic()
        self._admitted: Admitted | None = None

    async def answer(self, work: Compute, sink: WholeSink) -> None:
        try:
            self._admitted = admitted = await self._service.ledger.admit(self._admission)
            if admitted.kept is not None:
                await sink.replay(admitted.kept)
                return
            began_s = self._service.monotonic()
            body = await work()
        except asyncio.CancelledError:
            # nobody is left to be told of a ledger that fails; it settles the row as lost when it recovers
            with suppress(LedgerUnavailable):
                await self._settle(Status.CANCELLED, 503, "shutting_down")
            raise
        except ApplianceError as e:
            if self._admitted is not None:  # what admission refused, it has recorded
                if self._admitted.conversation_id:
                    e.headers.setdefault("x-conversation-id", self._admitted.conversation_id)
                await self._settle(Status.REFUSED, e.status, e.code)
            raise
        except Exception:
            await self._settle(Status.FAILED, 500, "internal_error")
            raise
        await sink.begin(self._attempt, admitted)
        took_ms = (self._service.monotonic() - began_s) * 1000.0
        usage = Usage(characters=self._size)
        call = CallRecord(0, ENGINE, self._attempt.model, Status.OK, usage, "stop", None, took_ms)
        record = AttemptRecord(self._attempt, Status.OK, None, (call,), took_ms)
        await self._settle(Status.OK, 200, None, (record,), sink, body)
        await sink.end(body)

    async def _settle(
        self,
        status: Status,
        http: int,
        code: str | None,
        records: tuple[AttemptRecord, ...] = (),
        sink: WholeSink | None = None,
        body: bytes = b"",
    ) -> None:
        total_ms = (self._service.monotonic() - self._began_s) * 1000.0
        kept = None if sink is None else sink.kept(body)
        outcome = Outcome(self._admission.request.id, status, http, code, total_ms, None, records, kept=kept)
        await self._service.ledger.settle(self._admission, self._admitted, outcome)
