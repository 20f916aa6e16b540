"""Admit, run, record: what happens to every request, whoever answers it.

What it is: ``Pipeline``, which holds the rooms. The ledger row commits before dispatch, the outcome commits before the
last byte leaves; between the two goes the chain.
What it refuses to be: HTTP, or a chooser. Who answers is ``policy``'s to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from operator import itemgetter

from appliance.engines import Call
from appliance.engines.entry import Entry
from appliance.engines.registry import Registry
from appliance.errors import ApplianceError, LedgerUnavailable
from appliance.ledger import Ledger
from appliance.ledger.settling import answering
from appliance.ledger.tariff import Tariff
from appliance.metrics import Metrics
from appliance.pipeline import refusals
from appliance.pipeline.chain import Chain
from appliance.pipeline.deciding import Decider
from appliance.pipeline.leaving import Exit
from appliance.pipeline.shadowing import Shadows
from appliance.pipeline.trial import Held, Trial
from appliance.pipeline.vocabulary import Vocabulary
from appliance.pipeline.work import CLIENT_LEFT, Run, Sink, Work, why_cancelled
from appliance.policy.egress import Offer
from appliance.policy.parameters import BY_HAND, Parameters
from appliance.policy.values import Decision, Step
from appliance.translation.recent import Recent
from appliance.types import Admission, Admitted, Attempt, End, Event, Kept, Outcome, Reason, Status


class Pipeline:
    """Holds the rooms; keeps no state of its own about requests."""

    def __init__(
        self,
        ledger: Ledger,
        registry: Registry,
        metrics: Metrics,
        monotonic: Callable[[], float],
        swap_wait_s: Callable[[], float] = lambda: 0.0,
        decider: Decider | None = None,
        exit: Exit | None = None,
    ) -> None:
        self._ledger = ledger
        self._swap_wait_s = swap_wait_s
        self.registry = registry
        self._metrics = metrics
        self._monotonic = monotonic
        self.decider = decider
        self.exit = exit
        self.translated = Recent()
        self.vocabulary: Vocabulary | None = None
        self.shadows: Shadows | None = None

    async def run(self, admission: Admission, work: Work, sink: Sink) -> None:
        """Answer what was asked into ``sink``.

        Raises ApplianceError after it was recorded; bytes may have left before. Cancelling records the
        request as cancelled and stops the engine's work.
        """
        run = Run(admission, self._monotonic(), self._monotonic)
        try:
            run.admitted = await self.admit(admission)
        except asyncio.CancelledError as e:  # the row is queued all the same, so its end must be too
            await self._settle_cancelled(run, e)
            raise
        if run.admitted.kept is not None:
            await sink.replay(run.admitted.kept)
            return
        try:
            end = await Chain(self, run, work, sink).answer()
        except ApplianceError as e:
            e.headers.setdefault("x-conversation-id", run.admitted.conversation_id)
            status = Status.FAILED if run.records else Status.REFUSED
            await self.settle(run, status, 200 if run.begun else e.status, e.code)
            raise
        except asyncio.CancelledError as e:
            await self._settle_cancelled(run, e)
            raise
        except Exception:
            await self.settle(run, Status.FAILED, 200 if run.begun else 500, "internal_error")
            raise
        await self.settle(run, Status.OK, 200, None, work, end, sink.kept(end.body))
        await sink.end(end.body)
        if self.shadows is not None and run.decision is not None:
            self.shadows.after(run, work, end)

    # what traced.py gives a span each

    def admit(self, admission: Admission) -> Awaitable[Admitted]:
        """Ask the ledger."""
        return self._ledger.admit(admission)

    def plan(self, work: Work, run: Run) -> Decision:
        """Attempts in order, or a refusal."""
        decider = self.decider
        if decider is None or not decider.active or not work.tail:
            return self._least_busy(work.model)
        decision, run.known = decider.decide(work, run)
        return decision

    def stream(self, entry: Entry, call: Call) -> AsyncGenerator[Event]:
        """The events of one engine call."""
        return entry.engine.stream(call)

    async def attempt(self, trial: Trial) -> End | Held:
        """Run one."""
        return await trial.run()

    async def settle(
        self,
        run: Run,
        status: Status,
        http: int,
        code: str | None,
        work: Work | None = None,
        end: End | None = None,
        kept: Kept | None = None,
    ) -> None:
        """Record how it ended. Raises LedgerUnavailable."""
        request = run.admission.request
        total_ms = run.ms_since(run.started_s)
        thread = prompt = text = None
        if work is not None and end is not None and end.answer is not None:
            thread = None if work.thread is None else work.thread(end.answer)
            if request.key.tenant.store_text and work.prompt is not None:
                prompt, text = work.prompt(), end.answer.content
        records = tuple(run.records)
        if len(records) > 1:
            records = tuple(sorted(records, key=lambda record: record.attempt.ordinal))
        said = (thread, prompt, text, kept, run.decision)
        outcome = Outcome(request.id, status, http, code, total_ms, run.ttft_ms, records, *said)
        await self._ledger.settle(run.admission, run.admitted, outcome)
        if status is Status.OK and (record := answering(outcome)) is not None:
            tokens = record.calls[-1].usage.completion_tokens
            ttft_s = run.ttft_ms / 1000.0 if run.ttft_ms is not None else None
            self._metrics.answer(request.endpoint, ttft_s, total_ms / 1000.0, tokens)

    # what attempts need

    @property
    def tariff(self) -> Tariff:
        """What work costs now."""
        return self._ledger.tariff

    def offer(self, engine: str, model: str) -> Offer | None:
        """What a hosted model costs now."""
        return None if self.decider is None else self.decider.offer_now(engine, model)

    @property
    def parameters(self) -> Parameters:
        """What turns signals into P(unresolved)."""
        return BY_HAND if self.decider is None else self.decider.parameters

    def translator(self) -> str | None:
        """The model that translates for ``pivot``."""
        return None if self.decider is None else self.decider.translator()

    def local(self, model: str) -> Attempt:
        """The least busy engine of a model. Raises EngineUnavailable."""
        decision = self._least_busy(model)
        if not decision.attempts:
            raise self.refusal(model, decision)
        return decision.attempts[0]

    def _least_busy(self, model: str) -> Decision:
        """What ``policy.plan`` says without a policy.toml, at a fifth of its price: every request pays for this."""
        serving = [
            (entry.in_flight, name, entry)
            for name, entry in self.registry.entries.items()
            if model in entry.state.models and not entry.hosted
        ]
        ready = [one for one in serving if one[2].state.phase == "ready"]
        if not ready:
            return Decision((), Reason.ENGINE_UNHEALTHY if serving else Reason.NOT_INSTALLED)
        if len(ready) > 1:
            ready.sort(key=itemgetter(0, 1))
        steps = (
            Step(n, name, model, "local", Reason.ENGINE_UNHEALTHY if n else Reason.ROUTINE)
            for n, (_, name, _) in enumerate(ready)
        )
        return Decision(tuple(steps))

    async def swapped_in(self, work: Work) -> None:
        """Wait for a model that is being loaded in another's place; at once where none is."""
        if self.registry.swapping(work.model):
            await self.registry.swapped_in(work.model, min(self._swap_wait_s(), work.deadline_s))

    def refusal(self, model: str, decision: Decision) -> ApplianceError:
        """What a caller is told of a plan without attempts."""
        details = "; ".join(
            f"engine {e.state.name} is {e.state.phase}"
            for e in self.registry.entries.values()
            if model in e.state.models
        )
        return refusals.of(model, decision, details)

    async def _settle_cancelled(self, run: Run, why: asyncio.CancelledError) -> None:
        http, code = why_cancelled(why)
        # nobody is left to be told of a ledger that fails; it settles the row as lost when it recovers
        with suppress(LedgerUnavailable):
            await self.settle(run, Status.CANCELLED, 200 if run.begun and http != CLIENT_LEFT else http, code)
