"""Where an attempt's events come from: one engine call as it is, or several that make one answer together.

What it is: ``Source``, what a trial needs of a route; ``Straight``, one call of one engine with nothing between it and
the caller; ``Several``, what routes of more calls share. Each call leaves one ``CallRecord``.
What it refuses to be: a route. ``pivoting`` and ``leaving`` are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

import msgspec
from msgspec.structs import replace

from appliance.engines import Call
from appliance.engines.entry import Entry
from appliance.engines.registry import Registry
from appliance.errors import ApplianceError
from appliance.ledger.tariff import LOCAL, Tariff
from appliance.pipeline.work import Run, Work
from appliance.types import Attempt, CallRecord, Data, End, Event, Status, Usage

_BYTES_A_TOKEN = 4


class Rooms(Protocol):
    """What attempts need of the pipeline."""

    registry: Registry

    @property
    def tariff(self) -> Tariff:
        """What work costs now."""
        ...

    def stream(self, entry: Entry, call: Call) -> AsyncGenerator[Event]:
        """The events of one engine call."""
        ...


class Calling:
    """One engine call while it runs: counted in its engine, then a record."""

    def __init__(self, rooms: Rooms, run: Run, entry: Entry, model: str, provider: str = LOCAL) -> None:
        self._rooms, self._run, self._entry, self._model = rooms, run, entry, model
        self._provider = provider
        self.started_s = run.now()
        self.usage = Usage()
        self.finish_reason: str | None = None
        self.first_ms: float | None = None
        entry.enter()

    def ended(self, end: End) -> None:
        """The engine said so."""
        self.usage, self.finish_reason = end.usage, end.finish_reason

    def used(self, usage: Usage) -> None:
        """So much, until it broke off."""
        self.usage = usage

    def over(self, status: Status, ordinal: int) -> CallRecord:
        """The engine is let go of."""
        self._entry.leave()
        at_ms = self._run.admission.request.at_ms
        rated = self._rooms.tariff.rate(self._provider, self._model, self.usage, at_ms)
        return CallRecord(
            ordinal,
            self._entry.state.name,
            self._model,
            status,
            self.usage,
            self.finish_reason,
            self.first_ms,
            self._run.ms_since(self.started_s),
            self._provider,
            rated.hosted_nusd,
            rated.work_ns,
        )


class Source(Protocol):
    """Where a trial's events come from, and the calls that were made for them."""

    def events(self) -> AsyncGenerator[Event]:
        """Events until ``End``. Closing it stops the engines' work."""
        ...

    def first(self) -> None:
        """The first byte is about to leave."""
        ...

    def ended(self, end: End) -> None:
        """The end was heard."""
        ...

    def used(self, usage: Usage) -> None:
        """What had been computed of an answer that broke off."""
        ...

    def over(self, status: Status) -> tuple[CallRecord, ...]:
        """The calls, once the events are closed; ``status`` is the attempt's."""
        ...


class Straight:
    """One call of one engine, its events as they come."""

    def __init__(self, rooms: Rooms, run: Run, attempt: Attempt, work: Work, body: bytes | None = None) -> None:
        self._rooms = rooms
        self._entry = rooms.registry.entries[attempt.engine]
        request = run.admission.request
        salt = request.key.tenant.cache_salt if self._entry.salted else None
        self._call = Call(
            work.path,
            attempt.model,
            work.body_for(attempt.model, salt) if body is None else body,
            work.stream,
            work.choices,
            work.keep_usage,
            work.header,
            request.id,
            progress=work.progress,
        )
        self._before, run.before = run.before, []
        self._calling = Calling(rooms, run, self._entry, attempt.model)
        self._run = run

    def events(self) -> AsyncGenerator[Event]:
        """The engine's own."""
        return self._rooms.stream(self._entry, self._call)

    def first(self) -> None:
        """Of a stream, which is when its first token came."""
        if self._call.stream:
            self._calling.first_ms = self._run.ms_since(self._calling.started_s)

    def ended(self, end: End) -> None:
        """What the engine counted."""
        self._calling.ended(end)

    def used(self, usage: Usage) -> None:
        """What the engine said, or its pieces say."""
        self._calling.used(usage)

    def over(self, status: Status) -> tuple[CallRecord, ...]:
        """What was asked before, and the call itself."""
        return (*self._before, self._calling.over(status, len(self._before)))


class Several:
    """A source that makes several calls for one answer. Subclasses say what comes of them."""

    def __init__(self, rooms: Rooms, run: Run) -> None:
        self.rooms, self.run = rooms, run
        self.calls, run.before = run.before, []

    async def streamed(self, entry: Entry, call: Call, provider: str = LOCAL) -> AsyncGenerator[Event]:
        """The events of one of them, on record once they are over."""
        calling = Calling(self.rooms, self.run, entry, call.model, provider)
        status = Status.FAILED
        said = bytearray() if provider != LOCAL else None
        try:
            async with aclosing(self.rooms.stream(entry, call)) as events:
                async for event in events:
                    if said is not None and isinstance(event, Data):
                        said += event.body
                    if calling.first_ms is None and call.stream:
                        calling.first_ms = self.run.ms_since(calling.started_s)
                    if isinstance(event, End):
                        calling.ended(event)
                        status = Status.OK
                    yield event
        except ApplianceError as e:
            if said is not None and (said or e.code == "stream_cut"):
                calling.used(charged(call.body, bytes(said), e.usage))
            elif e.usage is not None:
                calling.used(e.usage)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            if status is not Status.OK:
                status = Status.CANCELLED
                if said is not None:
                    calling.used(charged(call.body, bytes(said), None))
            raise
        finally:
            self.calls.append(calling.over(status, 0))

    def first(self) -> None:
        """Its calls know by themselves."""

    def ended(self, end: End) -> None:
        """So they do of this."""

    def used(self, usage: Usage) -> None:
        """And of this."""

    def over(self, status: Status) -> tuple[CallRecord, ...]:
        """All calls in the order in which they ended."""
        return tuple(replace(call, ordinal=n) for n, call in enumerate(self.calls))


def charged(body: bytes, said: bytes, known: Usage | None) -> Usage:
    """What a hosted answer that broke off is booked as: what its engine counted, and at least what was seen of it.

    Google charges for what it has generated, whoever left. Four bytes are a token of English, and more than one of
    Indian scripts, so where nobody counted this is rather too much than too little.
    """
    words = sum(
        len(((choice.get("delta") or {}).get("content") or "").encode())
        for event in said.split(b"\n\n")
        if event.startswith(b"data: {")
        for choice in msgspec.json.decode(event[5:]).get("choices") or ()
    )
    if known is not None and known.prompt_tokens:
        return known
    return Usage(prompt_tokens=-(-len(body) // _BYTES_A_TOKEN), completion_tokens=-(-words // _BYTES_A_TOKEN))
