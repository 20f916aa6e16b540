"""The attempts of one request, one after the other, under one deadline, one retry budget and one cost cap.

What it is: ``Chain.answer`` tries a plan's steps until one gives an end. One that fails before its first byte is
replaced by the next; one whose answer is held (``Held``) by the step a judge may go on to, and where nobody can do
better the held answer leaves after all. A plain text that breaks off in the middle is taken up by another engine that
can, under the same stream; where none can, the stream ends in an error.
What it refuses to be: recursive. Attempts are never nested, so a request's records are a list and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from appliance.engines.entry import Entry
from appliance.errors import (
    ApplianceError,
    BadRequest,
    DeadlineExceeded,
    EngineFailed,
    EngineUnavailable,
    NotBuilt,
    RateLimited,
)
from appliance.pipeline.asking import ask, led_nowhere
from appliance.pipeline.bodies import fields_of, is_plain
from appliance.pipeline.continuing import Continued
from appliance.pipeline.leaving import Leaving, Offering
from appliance.pipeline.sources import Source, Straight
from appliance.pipeline.trial import Held, Hold, Trial, Verdict
from appliance.pipeline.vocabulary import Vocabulary
from appliance.pipeline.work import Run, Sink, Work
from appliance.policy.parameters import Parameters
from appliance.policy.values import Decision, Step
from appliance.translation.crossing import Crossing
from appliance.translation.recent import Recent
from appliance.types import End, Partial, Reason


class Trying(Offering, Protocol):
    """Rooms in which attempts are planned and made."""

    translated: Recent
    vocabulary: Vocabulary | None

    @property
    def parameters(self) -> Parameters:
        """What turns signals into P(unresolved)."""
        ...

    def plan(self, work: Work, run: Run) -> Decision:
        """Attempts in order, or a refusal."""
        ...

    async def swapped_in(self, work: Work) -> None:
        """Wait for a model that is being loaded in another's place; at once where none is."""
        ...

    def refusal(self, model: str, decision: Decision) -> ApplianceError:
        """What a caller is told of a plan without attempts."""
        ...

    def translator(self) -> str | None:
        """The model that translates for ``pivot``."""
        ...

    async def attempt(self, trial: Trial) -> End | Held:
        """Run one."""
        ...


class Try(Struct, frozen=True):
    """A planned attempt at some work; ``said`` is what of the answer has left already."""

    work: Work
    step: Step
    said: Partial | None = None


class _Judged:
    """The judge that a piece of work brings along: it looks at whole answers only."""

    def __init__(self, work: Work) -> None:
        assert work.judge is not None
        self._judge = work.judge

    def heard(self, body: bytes) -> Verdict | None:
        """Streams pass."""
        return Verdict()

    def shown(self, body: bytes) -> bytes:
        """As it is."""
        return body

    def ended(self, end: End) -> Verdict:
        """As the work's own judge says; what it would try is tried once."""
        end, more = self._judge(end)
        if more is None:
            return Verdict(end)
        return Verdict(end, Reason.WRONG_LANGUAGE, replace(more, judge=_once(more)))


class Chain:
    """Made for one request."""

    def __init__(self, rooms: Trying, run: Run, work: Work, sink: Sink) -> None:
        self._rooms = rooms
        self._run = run
        self._work = work
        self._sink = sink
        self._held: Held | None = None
        self._decision = Decision()
        self._failed = 0
        self._here: ApplianceError | None = None  # the first failure on the box

    async def answer(self) -> End:
        """The end of the answer, its closing bytes rendered. Raises ApplianceError."""
        work, run = self._work, self._run
        try:
            if work.prepare is not None:
                work = await work.prepare(partial(ask, self._rooms, run, work.deadline_s))
            return await self._through(await self._planned(work))
        except ApplianceError as e:
            led_nowhere(run, e)
            raise
        finally:
            if self._held is not None:
                await self._held.trial.close()

    async def _planned(self, work: Work) -> deque[Try]:
        decision = self._rooms.plan(work, self._run)
        if not decision.attempts:
            await self._rooms.swapped_in(work)
            decision = self._rooms.plan(work, self._run)
        if not decision.attempts:
            raise self._rooms.refusal(work.model, decision)
        deadline_s = decision.chain.deadline_s
        if deadline_s is not None and deadline_s < work.deadline_s:
            work = replace(work, deadline_s=deadline_s)
        self._decision = self._run.plan = decision
        return deque(Try(work, step) for step in decision.attempts)

    async def _through(self, queue: deque[Try]) -> End:
        while queue:
            now = queue.popleft()
            trial = self._trial(now)
            self._began(now)
            try:
                done = await self._rooms.attempt(trial)
            except ApplianceError as e:
                self._heard(now, e)
                if not self._goes_on(e, now, queue):
                    raise self._told(e, now)  # noqa: B904 - where it is another one, it says what e came of
                continue
            except BaseException:  # its caller left, which says nothing of the engine
                if (entry := self._chosen(now)) is not None:
                    entry.breaker.gave_up()
                raise
            self._heard(now, None)
            if isinstance(done, End):
                return done
            queue = await self._better(done, queue)
        assert self._held is not None, "a plan with attempts always returns, raises or holds"
        return await self._held.trial.go_on()

    def _trial(self, now: Try) -> Trial:
        work, run = now.work, self._run
        ordinal, step = run.next_ordinal(), now.step
        if step.ordinal != ordinal:
            step = replace(step, ordinal=ordinal)
        source: Source
        hold: Hold | None = None
        if now.said is not None:
            source = Continued(self._rooms, run, step, work, self._fields(work), now.said)
        elif work.judge is not None:
            source, hold = self._source(step, work), _Judged(work)
        elif run.known is not None:
            # with NumPy and language identification, which a gateway without a policy.toml does not pay for
            from appliance.pipeline.judging import held

            crossing = Crossing() if step.route == "pivot" else None
            hold, body = held(self._rooms, run, self._decision, step, now.step.ordinal, work, crossing)
            source = self._source(step, work, body, crossing)
        else:
            source = Straight(self._rooms, run, step, work)
        return Trial(run, step, work, self._sink, source, hold)

    def _source(self, step: Step, work: Work, body: bytes | None = None, crossing: Crossing | None = None) -> Source:
        rooms, run, known = self._rooms, self._run, self._run.known
        if step.route == "local" or known is None:
            return Straight(rooms, run, step, work, body)
        if step.route == "hosted":
            return Leaving(rooms, run, step, work, known)
        tag, translator = known.seen.language, rooms.translator()
        if tag is None or translator is None:  # it has stopped since
            return Straight(rooms, run, step, work)
        from appliance.pipeline.pivoting import Pivoted

        words = (rooms.translated, rooms.vocabulary, crossing or Crossing())
        return Pivoted(rooms, run, step, work, known.topic.fields, tag, translator, *words)

    def _chosen(self, now: Try) -> Entry | None:
        """The engine whose breaker is told of it: one that a policy chose, for itself."""
        if self._run.known is None or now.step.route == "pivot":
            return None
        return self._rooms.registry.entries.get(now.step.engine)

    def _began(self, now: Try) -> None:
        if (entry := self._chosen(now)) is not None:
            entry.breaker.began(self._run.now())

    def _heard(self, now: Try, error: ApplianceError | None) -> None:
        if (entry := self._chosen(now)) is not None:
            entry.breaker.heard(error, self._run.now())
            if error is None and self._run.records:
                record = self._run.records[-1]
                entry.took(record.total_ms / 1000.0, record.calls[-1].ttft_ms if record.calls else None)

    def _goes_on(self, error: ApplianceError, failed: Try, queue: deque[Try]) -> bool:
        """Whether something is left to try after ``error``; ``queue`` is then what."""
        if self._run.begun:
            return self._continues(error, failed, queue)
        if self._held is not None:  # whatever is left to try, the held answer stands
            return True
        if failed.step.route != "hosted":
            self._here = self._here or error
        self._failed += 1
        if (retries := self._decision.chain.retries) is not None and self._failed > retries:
            return False
        if isinstance(error, EngineUnavailable | EngineFailed):
            return bool(queue)
        reason = self._elsewhere(error, failed)
        if reason is None:
            return False
        rest = [t for t in queue if reason is None or t.step.route != failed.step.route or _may_repeat(error)]
        queue.clear()
        queue.extend(replace(t, step=replace(t.step, reason=reason)) for t in rest)
        return bool(queue)

    def _told(self, error: ApplianceError, failed: Try) -> ApplianceError:
        """What the caller hears of. That Gemini could not take what an engine here has failed at hides what failed."""
        if failed.step.route == "hosted" and self._here is not None and not isinstance(error, DeadlineExceeded):
            return self._here
        return error

    def _elsewhere(self, error: ApplianceError, failed: Try) -> Reason | None:
        """Why another route may answer what this one cannot; only a policy knows other routes."""
        if self._run.known is None:
            return None
        if isinstance(error, RateLimited):
            return Reason.CAPACITY_OVERFLOW
        if isinstance(error, DeadlineExceeded) and error.code == "engine_silent":
            return Reason.ENGINE_UNHEALTHY
        if isinstance(error, BadRequest) and error.code == "context_length_exceeded":
            return Reason.CONTEXT_TOO_LONG
        if isinstance(error, NotBuilt) or error.code == "tools_not_supported":
            return Reason.CAPABILITY_MISSING
        return None if failed.step.route == "local" or not isinstance(error, BadRequest) else Reason.CAPABILITY_MISSING

    def _continues(self, error: ApplianceError, failed: Try, queue: deque[Try]) -> bool:
        """Whether another engine can take up what broke off; it is then the next to be tried."""
        said, work, before = error.partial, failed.work, failed.said
        if before is not None and said is not None:
            said = replace(before, content=before.content + said.content, pieces=before.pieces + said.pieces)
        elif before is not None and isinstance(error, EngineUnavailable | EngineFailed):
            said = before
        if said is None or not work.tail or not is_plain(fields_of(work.tail)):
            return False
        able = [t for t in queue if t.step.route == "local" and self._prefills(t.step)]
        queue.clear()
        queue.extend(Try(work, replace(t.step, reason=Reason.ENGINE_FAILED_MIDSTREAM), said) for t in able)
        return bool(queue)

    def _fields(self, work: Work) -> dict[str, Any]:
        known = self._run.known
        return fields_of(work.tail) if known is None else known.topic.fields

    def _prefills(self, step: Step) -> bool:
        entry = self._rooms.registry.entries.get(step.engine)
        return entry is not None and entry.prefills

    async def _better(self, held: Held, queue: deque[Try]) -> deque[Try]:
        """What to try instead of a held answer."""
        if self._held is not None:
            await self._held.trial.close()
        self._held = held
        if held.work is not None:
            try:
                queue = await self._planned(held.work)
            except ApplianceError:  # nobody can: the held answer stands
                return deque()
            return deque(replace(t, step=replace(t.step, reason=held.reason)) for t in queue)
        first = self._decision.escalation
        if first is None:
            return deque()
        return deque(replace(t, step=replace(t.step, reason=held.reason)) for t in queue if t.step.ordinal >= first)


def _may_repeat(error: ApplianceError) -> bool:
    """Whether another engine of the same route may do better."""
    return isinstance(error, RateLimited | DeadlineExceeded)


def _once(work: Work) -> Callable[[End], tuple[End, Work | None]] | None:
    """The same judge without a further try."""
    judge = work.judge
    return None if judge is None else lambda end: (judge(end)[0], None)
