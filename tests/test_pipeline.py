"""The composer: admitted before dispatch, recorded before the last byte, one row each, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.engines import Call
from appliance.engines.registry import Entry, Registry
from appliance.errors import (
    ApplianceError,
    BadRequest,
    DeadlineExceeded,
    EngineFailed,
    EngineUnavailable,
    LedgerUnavailable,
)
from appliance.metrics import Metrics
from appliance.pipeline import LEFT, Pipeline, Work
from appliance.settings import Settings
from appliance.types import Attempt, Data, End, EngineState, Event, Key, Outcome, Request, Status, Tenant, Usage

KEY = Key("k", "test", "client", Tenant("t", "default", "salt-of-t"))
END = End(Usage(prompt_tokens=3, completion_tokens=2), "stop", b"[end]")


class Journal:
    """Ledger, sink and engines write into one list, so that their order can be asserted."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.outcomes: list[Outcome] = []
        self.fail: set[str] = set()

    async def admit(self, request: Request) -> None:
        if "admit" in self.fail:
            raise LedgerUnavailable("disk full")
        self.lines.append("admit")

    async def settle(self, outcome: Outcome) -> None:
        if "settle" in self.fail:
            raise LedgerUnavailable("disk full")
        self.lines.append("settle")
        self.outcomes.append(outcome)

    async def begin(self, attempt: Attempt) -> None:
        self.lines.append(f"begin {attempt.engine}")

    async def data(self, body: bytes) -> None:
        self.lines.append(f"data {body.decode()}")

    def render(self, body: bytes) -> bytes:
        if "render" in self.fail:
            raise EngineFailed("no transcript")
        return body

    async def end(self, body: bytes) -> None:
        self.lines.append(f"end {body.decode()}")


Step = Event | ApplianceError | Callable[[], Any]


class Scripted:
    """An engine that does what its list says."""

    def __init__(self, journal: Journal, name: str, steps: list[Step]) -> None:
        self.journal, self.name, self.steps = journal, name, steps
        self.calls: list[Call] = []
        self.closed = False

    async def stream(self, call: Call) -> AsyncIterator[Event]:
        self.journal.lines.append(f"call {self.name}")
        self.calls.append(call)
        try:
            for step in self.steps:
                if isinstance(step, ApplianceError):
                    raise step
                if isinstance(step, Data | End):
                    yield step
                else:
                    await step()
        finally:
            self.closed = True


def build(journal: Journal, *engines: Scripted, phase: str = "ready", salted: bool = True) -> Pipeline:
    registry = Registry(Settings(home=Path("/h"), run=Path("/r"), engines={}), lambda: 0.0)
    for e in engines:
        state = EngineState(e.name, "fake", "chat", phase, "/s", ("m",), "out of memory", 0.0, 0, 0)  # type: ignore[arg-type]
        registry.entries[e.name] = Entry(state, e, SimpleNamespace(close=lambda: None), salted)  # type: ignore[arg-type]
    ticks = iter(range(10**6))
    return Pipeline(journal, registry, Metrics(), lambda: next(ticks) / 1000.0)  # type: ignore[arg-type]


def body_for(model: str, salt: str | None) -> bytes:
    return f"{model} {salt}".encode()


async def run(pipeline: Pipeline, journal: Journal, stream: bool = True, deadline_s: float = 5.0) -> None:
    request = Request("req_1", KEY, "chat.completions", "default", stream, 0)
    await pipeline.run(request, Work("/v1/chat/completions", "m", stream, deadline_s, body_for), journal)


async def test_the_row_comes_first_and_the_outcome_before_the_last_byte() -> None:
    journal = Journal()
    engine = Scripted(journal, "a", [Data(b"x"), Data(b"y"), END])
    await run(build(journal, engine), journal)
    assert journal.lines == ["admit", "call a", "begin a", "data x", "data y", "settle", "end [end]"]
    (outcome,) = journal.outcomes
    assert (outcome.status, outcome.http_status, outcome.error_code) == (Status.OK, 200, None)
    (attempt,) = outcome.attempts
    assert attempt.calls[0].usage.completion_tokens == 2
    assert outcome.ttft_ms is not None
    assert engine.calls[0].body == b"m salt-of-t"
    assert engine.closed


async def test_an_engine_without_salts_gets_none() -> None:
    journal = Journal()
    engine = Scripted(journal, "a", [END])
    await run(build(journal, engine, salted=False), journal)
    assert engine.calls[0].body == b"m None"


async def test_an_engine_that_fails_before_its_first_byte_is_replaced() -> None:
    journal = Journal()
    broken = Scripted(journal, "a", [EngineUnavailable("refused")])
    await run(build(journal, broken, Scripted(journal, "b", [Data(b"x"), END])), journal)
    assert journal.lines == ["admit", "call a", "call b", "begin b", "data x", "settle", "end [end]"]
    first, second = journal.outcomes[0].attempts
    assert (first.status, first.error_code, first.attempt.reason) == (Status.FAILED, "engine_unavailable", "routine")
    assert (second.status, second.attempt.reason) == (Status.OK, "engine_unhealthy")


async def test_an_engine_that_breaks_off_later_is_not_replaced() -> None:
    journal = Journal()
    broken = Scripted(journal, "a", [Data(b"x"), EngineFailed("cut", code="stream_cut")])
    with pytest.raises(EngineFailed):
        await run(build(journal, broken, Scripted(journal, "b", [END])), journal)
    assert journal.lines == ["admit", "call a", "begin a", "data x", "settle"]
    outcome = journal.outcomes[0]
    assert (outcome.status, outcome.http_status, outcome.error_code) == (Status.FAILED, 200, "stream_cut")


async def test_what_the_caller_got_wrong_is_not_tried_elsewhere() -> None:
    journal = Journal()
    strict = Scripted(journal, "a", [BadRequest("too long", code="context_length_exceeded")])
    with pytest.raises(BadRequest):
        await run(build(journal, strict, Scripted(journal, "b", [END])), journal)
    assert "call b" not in journal.lines
    assert journal.outcomes[0].http_status == 400


async def test_no_ready_engine_is_a_recorded_refusal_that_says_why() -> None:
    journal = Journal()
    pipeline = build(journal, Scripted(journal, "a", [END]), phase="failed")
    with pytest.raises(EngineUnavailable, match="engine a is failed"):
        await run(pipeline, journal)
    outcome = journal.outcomes[0]
    assert (outcome.status, outcome.http_status, outcome.attempts) == (Status.REFUSED, 503, ())


async def test_without_a_ledger_nothing_is_dispatched() -> None:
    journal = Journal()
    journal.fail.add("admit")
    with pytest.raises(LedgerUnavailable):
        await run(build(journal, Scripted(journal, "a", [END])), journal)
    assert journal.lines == []


async def test_an_outcome_that_cannot_be_written_holds_the_last_byte_back() -> None:
    journal = Journal()
    journal.fail.add("settle")
    with pytest.raises(LedgerUnavailable):
        await run(build(journal, Scripted(journal, "a", [Data(b"x"), END])), journal)
    assert "end [end]" not in journal.lines


@pytest.mark.parametrize(
    ("why", "http", "code"), [((LEFT,), 499, "client_left"), ((), 200, "shutting_down")], ids=["left", "shutdown"]
)
async def test_a_cancellation_stops_the_engine_and_is_recorded_with_its_reason(
    why: tuple[str, ...], http: int, code: str
) -> None:
    journal = Journal()
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    engine = Scripted(journal, "a", [Data(b"x"), hang])
    task = asyncio.create_task(run(build(journal, engine), journal))
    await reached.wait()
    task.cancel(*why)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.closed
    outcome = journal.outcomes[0]
    assert (outcome.status, outcome.http_status, outcome.error_code) == (Status.CANCELLED, http, code)
    assert (outcome.attempts[0].status, outcome.attempts[0].error_code) == (Status.CANCELLED, code)


async def test_a_deadline_that_passes_while_the_caller_reads_slowly_is_no_caller_who_left() -> None:
    journal = Journal()

    async def slow(body: bytes) -> None:
        await asyncio.Event().wait()

    journal.data = slow  # type: ignore[method-assign]
    engine = Scripted(journal, "a", [Data(b"x"), END])
    with pytest.raises(DeadlineExceeded):
        await run(build(journal, engine), journal, deadline_s=0.05)
    assert engine.closed
    outcome = journal.outcomes[0]
    assert (outcome.status, outcome.http_status, outcome.error_code) == (Status.FAILED, 200, "deadline_exceeded")


async def test_an_answer_that_cannot_be_rendered_is_recorded_as_failed() -> None:
    journal = Journal()
    journal.fail.add("render")
    with pytest.raises(EngineFailed):
        await run(build(journal, Scripted(journal, "a", [END])), journal, stream=False)
    assert journal.outcomes[0].status is Status.FAILED
    assert "end [end]" not in journal.lines


async def test_an_engine_that_ends_without_an_end_has_failed() -> None:
    journal = Journal()
    with pytest.raises(EngineFailed):
        await run(build(journal, Scripted(journal, "a", [Data(b"x")])), journal)
    assert journal.outcomes[0].error_code == "stream_cut"
