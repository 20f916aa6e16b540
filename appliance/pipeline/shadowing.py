"""The hosted model's answer to a question that a local one has answered: nobody sees it, and ``fit`` learns from it.

What it is: ``Shadows``, which runs a share of such requests once more when their customers have their answers, and
records what came of it as a request of its own (endpoint ``shadow``) with its attempt, its cost and how far the two
answers agree. It costs its tenant no more than policy.toml's ``[shadow] month_usd``, beside all caps.
What it refuses to be: a turn of the conversation. That keeps its route, its count and its time; only the money is its
own. Where hosted was not permitted, needed, ready or judged beside, or too many run already, nothing runs.
What it costs: a hash a judged request; a hosted call, and some 1 ms in a thread for the comparison, of those drawn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from msgspec.structs import replace

from appliance.errors import ApplianceError, BudgetExceeded, LedgerUnavailable
from appliance.ledger import Ledger
from appliance.pipeline.leaving import Leaving, Offering
from appliance.pipeline.trial import Trial
from appliance.pipeline.work import Run, Work, why_cancelled
from appliance.policy.values import Step
from appliance.types import (
    SHADOW,
    Admission,
    Admitted,
    Answer,
    Attempt,
    Decision,
    End,
    Kept,
    Outcome,
    Reason,
    Request,
    Status,
    Turn,
)

MOST = 8  # at a time; a burst of traffic must not become a burst of these
_REST_S = 600.0  # for a tenant whose money for this is used up
_log = logging.getLogger("appliance.shadow")


class _Nobody:
    """A sink: what is said into it was not asked for by anyone."""

    async def begin(self, attempt: Attempt, admitted: Admitted) -> None:
        """Nothing."""

    async def data(self, body: bytes) -> None:
        """Nothing."""

    def render(self, body: bytes) -> bytes:
        """As it is."""
        return body

    def kept(self, body: bytes) -> Kept | None:
        """Never."""
        return None

    async def end(self, body: bytes) -> None:
        """Nothing."""

    async def replay(self, kept: Kept) -> None:
        """Nothing."""


class Shadows:
    """Of one gateway. ``new_id`` gives a request's id, ``now_ms`` Unix milliseconds."""

    def __init__(
        self,
        rooms: Offering,
        ledger: Ledger,
        new_id: Callable[[], str],
        now_ms: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        self._rooms, self._ledger = rooms, ledger
        self._new_id, self._now_ms, self._monotonic = new_id, now_ms, monotonic
        self._running: set[asyncio.Task[None]] = set()
        self._resting: dict[str, float] = {}
        self._closed = False

    def after(self, run: Run, work: Work, end: End) -> None:
        """Begin one, where ``run``, which was answered with ``end``, is drawn for it."""
        if self._closed or len(self._running) >= MOST or end.answer is None:
            return
        step = _step(run)
        if step is None or not self._ready(run, step):
            return
        task = asyncio.create_task(self._asked(run, work, step, end.answer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Stop those that run, and have them recorded. Called once, before the ledger closes."""
        self._closed = True
        running = tuple(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def idle(self) -> None:
        """Until none runs. For tests and benchmarks."""
        while self._running:
            await asyncio.wait(tuple(self._running))

    def _ready(self, run: Run, step: Step) -> bool:
        now = self._monotonic()
        entry = self._rooms.registry.entries.get(step.engine)
        rested = now >= self._resting.get(run.admission.request.key.tenant.id, 0.0)
        return rested and entry is not None and entry.takes(now)

    async def _asked(self, of: Run, work: Work, step: Step, answer: Answer) -> None:
        run = Run(self._admission(of, step), self._monotonic(), self._monotonic)
        try:
            admitted = await self._ledger.admit(run.admission)
        except BudgetExceeded:
            self._resting[of.admission.request.key.tenant.id] = self._monotonic() + _REST_S
            return
        except ApplianceError as e:
            _log.warning("a shadow run was not admitted: %s", e.message)
            return
        except asyncio.CancelledError as e:
            await self._settle(run, None, Status.CANCELLED, why_cancelled(e))
            raise
        # what is held for a request is held for hosted attempts here: there are no others
        run.admitted = replace(admitted, hosted_nusd=step.ceiling_nusd)
        status, ended, decision = Status.FAILED, (500, "internal_error"), None
        try:
            decision = await self._answered(of, run, work, step, answer)
            status, ended = Status.OK, (200, "")
        except ApplianceError as e:
            ended = e.status, e.code
        except asyncio.CancelledError as e:
            status, ended = Status.CANCELLED, why_cancelled(e)
            raise
        except Exception:  # of ours; the task must not end without its row
            _log.exception("a shadow run failed")
        finally:
            await self._settle(run, admitted, status, ended, decision)

    async def _answered(self, of: Run, run: Run, work: Work, step: Step, answer: Answer) -> Decision:
        assert of.known is not None and of.plan is not None and of.decision is not None
        run.known = of.known
        deadline_s = min(work.deadline_s, of.plan.chain.deadline_s or work.deadline_s)
        work = replace(work, deadline_s=deadline_s, progress=None)
        step = replace(step, ordinal=run.next_ordinal(), reason=Reason.ROUTINE)
        breaker = self._rooms.registry.entries[step.engine].breaker
        trial = Trial(run, step, work, _Nobody(), Leaving(self._rooms, run, step, work, of.known))
        try:
            end = await trial.run()
        except ApplianceError as e:
            breaker.heard(e, run.now())
            raise
        breaker.heard(None, run.now())
        assert isinstance(end, End), "nothing is held back where nobody judges"
        from appliance.policy.agreement import agreement

        agrees = await asyncio.to_thread(agreement, _text(answer), _text(end.answer or Answer("")))
        judged = of.decision
        return Decision(
            policy=judged.policy,
            parameters=judged.parameters,
            route=step.route,
            verdict="commit",
            p_fail=judged.p_fail if judged.p_fail_alternative is None else judged.p_fail_alternative,
            intent=judged.intent,
            language=judged.language,
            value_class=judged.value_class,
            shadow_of=of.admission.request.id,
            agreement=agrees,
        )

    def _admission(self, of: Run, step: Step) -> Admission:
        assert of.admitted is not None and of.known is not None
        first = of.admission.request
        # its limits are the customer's, who did not ask for this
        key = replace(first.key, requests_per_minute=None, tokens_per_minute=None, max_concurrent=None)
        request = Request(self._new_id(), key, SHADOW, first.model, first.stream, self._now_ms())
        return Admission(
            request,
            Turn(conversation_id=of.admitted.conversation_id or None, opens=False),
            "",
            reserve_nusd=step.ceiling_nusd,
            shadow_cap_nusd=of.known.policy.shadow.month_nusd,
        )

    async def _settle(
        self,
        run: Run,
        admitted: Admitted | None,
        status: Status,
        ended: tuple[int, str],
        decision: Decision | None = None,
    ) -> None:
        http, code = ended
        total_ms = run.ms_since(run.started_s)
        records = tuple(run.records)
        outcome = Outcome(run.admission.request.id, status, http, code or None, total_ms, run.ttft_ms, records)
        # the ledger settles it as lost when it recovers
        with suppress(LedgerUnavailable):
            await self._ledger.settle(run.admission, admitted, replace(outcome, decision=decision))


def _step(run: Run) -> Step | None:
    """The hosted attempt that was permitted beside the answer that ``run`` gave, if it is drawn."""
    known, plan, judged = run.known, run.plan, run.decision
    if known is None or plan is None or judged is None:
        return None
    rule, request = known.policy.shadow, run.admission.request
    from appliance.policy.combine import draw_of  # loaded by whoever judged

    if not rule.share or judged.verdict != "commit" or judged.alternative != "hosted":
        return None
    if (rule.tenants and request.key.tenant.id not in rule.tenants) or draw_of(request.id, "shadow") >= rule.share:
        return None
    return next((step for step in plan.attempts if step.route == "hosted"), None)


def _text(answer: Answer) -> str:
    """What is compared: the words and the calls."""
    return "\n".join([answer.content, *(f"{tool.name} {tool.arguments}" for tool in answer.tools)])
