"""The composer: admitted before dispatch, recorded before the last byte, one row each, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from appliance.engines import Call
from appliance.engines.entry import Entry
from appliance.engines.registry import Registry
from appliance.errors import (
    ApplianceError,
    BadRequest,
    DeadlineExceeded,
    EngineFailed,
    EngineUnavailable,
    LedgerUnavailable,
)
from appliance.ledger.tariff import Tariff
from appliance.metrics import Metrics
from appliance.pipeline import LEFT, Pipeline, Work
from appliance.policy.plan import plan
from appliance.policy.values import BUILT_IN, Candidate, Seen
from appliance.settings import Settings
from appliance.types import (
    Admission,
    Admitted,
    Answer,
    Attempt,
    Data,
    End,
    EngineState,
    Event,
    Kept,
    Key,
    Outcome,
    Request,
    Status,
    Tenant,
    Turn,
    Usage,
)

KEY = Key("k", "test", "client", Tenant("t", "default", "salt-of-t"))
END = End(Usage(prompt_tokens=3, completion_tokens=2), "stop", b"[end]")


class Journal:
    """Ledger, sink and engines write into one list, so that their order can be asserted."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.outcomes: list[Outcome] = []
        self.fail: set[str] = set()
        self.answer: Kept | None = None

    tariff = Tariff()

    async def admit(self, admission: Admission) -> Admitted:
        if "admit" in self.fail:
            raise LedgerUnavailable("disk full")
        self.lines.append("admit")
        return Admitted("conv_1", True, kept=self.answer)

    async def settle(self, admission: Admission, admitted: Admitted | None, outcome: Outcome) -> None:
        if "settle" in self.fail:
            raise LedgerUnavailable("disk full")
        self.lines.append("settle")
        self.outcomes.append(outcome)

    async def begin(self, attempt: Attempt, admitted: Admitted) -> None:
        self.lines.append(f"begin {attempt.engine}")

    def kept(self, body: bytes) -> Kept | None:
        return None

    async def replay(self, kept: Kept) -> None:
        self.lines.append(f"replay {kept.body.decode()}")

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
    admission = Admission(request, Turn(), "conv_1")
    await pipeline.run(admission, Work("/v1/chat/completions", "m", stream, deadline_s, body_for), journal)


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


async def test_a_kept_answer_is_given_again_and_nothing_runs() -> None:
    journal = Journal()
    journal.answer = Kept("req_0", 200, "application/json", {}, b"[kept]")
    await run(build(journal, Scripted(journal, "a", [END])), journal)
    assert journal.lines == ["admit", "replay [kept]"]


async def test_history_and_text_are_recorded_with_the_answer() -> None:
    journal = Journal()
    end = End(Usage(), "stop", b"[end]", Answer("नमस्ते"))
    opted_in = msgspec.structs.replace(KEY, tenant=msgspec.structs.replace(KEY.tenant, store_text=True))
    for key, text in ((KEY, None), (opted_in, "नमस्ते")):
        admission = Admission(Request("req_1", key, "chat.completions", "default", False, 0), Turn(), "conv_1")
        work = Work("/v1/chat/completions", "m", False, 5.0, body_for, thread=lambda a: a.content.encode(), prompt=str)
        await build(journal, Scripted(journal, "a", [end])).run(admission, work, journal)
        outcome = journal.outcomes[-1]
        assert (outcome.thread, outcome.answer, outcome.prompt) == ("नमस्ते".encode(), text, None if text is None else "")


# more than one call for an answer


def judging(journal: Journal, more: Work | None) -> Callable[[End], tuple[End, Work | None]]:
    def judge(end: End) -> tuple[End, Work | None]:
        journal.lines.append(f"judge {end.body.decode()}")
        return msgspec.structs.replace(end, body=end.body + b"!"), more

    return judge


async def run_work(pipeline: Pipeline, journal: Journal, work: Work) -> None:
    request = Request("req_1", KEY, "audio.transcriptions", "default", work.stream, 0)
    await pipeline.run(Admission(request, Turn(), "conv_1"), work, journal)


def two_models(journal: Journal, second: list[Step], first: list[Step] | None = None) -> Pipeline:
    pipeline = build(journal, Scripted(journal, "a", first or [END]), Scripted(journal, "b", second))
    entry = pipeline.registry.entries["b"]
    entry.state = msgspec.structs.replace(entry.state, models=("n",))
    return pipeline


async def test_a_judged_answer_is_replaced_before_anything_has_left() -> None:
    journal = Journal()
    other = Work("/x", "n", False, 5.0, body_for, judge=judging(journal, Work("/x", "m", False, 5.0, body_for)))
    work = Work("/x", "m", False, 5.0, body_for, judge=judging(journal, other))
    better = End(Usage(), "stop", b"[better]")
    await run_work(two_models(journal, [better]), journal, work)
    # the second answer is judged as well, and what its judge would try is not tried: once is enough
    assert journal.lines == [
        *("admit", "call a", "judge [end]", "call b", "judge [better]", "begin b", "settle", "end [better]!"),
    ]
    first, second = journal.outcomes[0].attempts
    assert (first.status, first.attempt.ordinal, first.attempt.reason) == (Status.OK, 0, "routine")
    assert (second.status, second.attempt.ordinal, second.attempt.reason) == (Status.OK, 1, "wrong_language")


async def test_where_the_other_engine_fails_the_first_answer_stands() -> None:
    journal = Journal()
    work = Work("/x", "m", False, 5.0, body_for, judge=judging(journal, Work("/x", "n", False, 5.0, body_for)))
    await run_work(two_models(journal, [EngineFailed("broken")]), journal, work)
    assert journal.lines[-3:] == ["begin a", "settle", "end [end]!"]
    assert [a.status for a in journal.outcomes[0].attempts] == [Status.OK, Status.FAILED]
    assert journal.outcomes[0].status is Status.OK


async def test_what_was_asked_first_is_a_call_of_the_attempt_that_follows() -> None:
    journal = Journal()
    asked: list[bytes] = []

    async def prepare(ask: Any) -> Work:
        asked.append(await ask("n", "/v1/detect", "{}", b"audio"))
        return Work("/x", "m", False, 5.0, body_for)

    work = Work("/x", "n", False, 5.0, body_for, prepare=prepare)
    await run_work(two_models(journal, [End(Usage(audio_s=2.0), "stop", b"hi")]), journal, work)
    assert asked == [b"hi"]
    assert journal.lines == ["admit", "call b", "call a", "begin a", "settle", "end [end]"]
    (attempt,) = journal.outcomes[0].attempts
    assert [(c.ordinal, c.engine, c.model, c.status) for c in attempt.calls] == [
        (0, "b", "n", Status.OK),
        (1, "a", "m", Status.OK),
    ]


@pytest.mark.parametrize("fails", ["asking", "afterwards"])
async def test_a_question_that_leads_nowhere_is_recorded(fails: str) -> None:
    journal = Journal()

    async def prepare(ask: Any) -> Work:
        await ask("n", "/v1/detect", "{}", b"audio")
        raise BadRequest("nobody hears that", code="language_not_installed")

    second: list[Step] = [EngineFailed("broken")] if fails == "asking" else [END]
    work = Work("/x", "n", False, 5.0, body_for, prepare=prepare)
    with pytest.raises(ApplianceError):
        await run_work(two_models(journal, second), journal, work)
    outcome = journal.outcomes[0]
    assert outcome.status is Status.FAILED
    (attempt,) = outcome.attempts
    assert attempt.attempt.engine == "b"
    assert attempt.error_code == ("engine_failed" if fails == "asking" else "language_not_installed")
    assert [c.status for c in attempt.calls] == [Status.FAILED if fails == "asking" else Status.OK]


@pytest.mark.parametrize("phases", [(), ("failed",), ("ready",), ("ready", "failed", "ready")])
def test_the_plan_without_a_policy_is_what_the_policy_layer_says_of_none(phases: tuple[str, ...]) -> None:
    journal = Journal()
    pipeline = build(journal, *(Scripted(journal, f"e{n}", []) for n in range(len(phases))))
    candidates = []
    for n, phase in enumerate(phases):
        entry = pipeline.registry.entries[f"e{n}"]
        entry.state = msgspec.structs.replace(entry.state, phase=phase)
        entry.in_flight = len(phases) - n
        candidates.append(Candidate(f"e{n}", phase == "ready", entry.in_flight))
    mine, theirs = pipeline._least_busy("m"), plan(BUILT_IN, Seen("m"), candidates)
    assert (mine.attempts, mine.refusal) == (theirs.attempts, theirs.refusal)
