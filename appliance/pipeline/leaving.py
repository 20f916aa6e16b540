"""The route ``hosted``: what leaves the box, with what permit, and what of it is taken back in.

What it is: ``Leaving``, a source that puts a hosted body together (redacted where it must be, summarised where it is
long), has a permit issued for exactly those bytes, and puts redacted values back into the answer; and ``Exit``, which
signs permits.
What it refuses to be: a gate. ``policy.egress`` issues permits or says why not, and the hosted process checks them.
What it costs: 0.1 ms for the permit, what redaction costs a turn, and a local call where a history is long.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from appliance.engines import Call
from appliance.errors import ApplianceError, EngineUnavailable
from appliance.pipeline.asking import Planning, ask
from appliance.pipeline.bodies import body_of
from appliance.pipeline.deciding import PROVIDER, Known
from appliance.pipeline.handoff import Summary, condensed
from appliance.pipeline.redacting import redacted
from appliance.pipeline.sources import Several
from appliance.pipeline.work import Run, Work
from appliance.policy import egress
from appliance.policy.gate import Asked, must_redact
from appliance.policy.redaction import Redaction
from appliance.policy.restoring import RestoredStream, restored_answer, restored_body
from appliance.policy.values import Step
from appliance.types import CallRecord, Data, Event, Partial, Reason, Status

_CHAT = "/v1/chat/completions"
_encoder = msgspec.json.Encoder()


class Exit:
    """Signs permits. ``key`` is asked for at the first one; ``nonce`` gives a name that was never used."""

    def __init__(self, key: Callable[[], egress.Signer], clock: Callable[[], float], nonce: Callable[[], str]) -> None:
        self._key = key
        self._clock = clock
        self._nonce = nonce

    def sealed(self, asked: Asked, offer: egress.Offer, what: egress.Leaving) -> str:
        """The permit for ``what``. Raises EngineUnavailable with the reason as its code."""
        try:
            permit = egress.grant(asked, offer, what, nonce=self._nonce(), now_ms=int(self._clock() * 1000))
        except ValueError as e:
            raise EngineUnavailable(f"this cannot be sent to a hosted model: {e}", code="hosted_refused") from None
        if isinstance(permit, Reason):
            raise refused(permit)
        return egress.seal(permit, self._key())


class Offering(Planning, Protocol):
    """Rooms with a way out."""

    exit: Exit | None

    def offer(self, engine: str, model: str) -> egress.Offer | None:
        """What a hosted model costs now."""
        ...


def refused(reason: Reason) -> EngineUnavailable:
    """No permit, for ``reason``; somebody here may answer."""
    return EngineUnavailable(
        f"a hosted model must not answer this ({reason.value}); ask for a local one", code=reason.value
    )


class Leaving(Several):
    """One attempt at one hosted model. ``why`` is what a hand-off says of it: the reason of the escalation."""

    def __init__(self, rooms: Offering, run: Run, step: Step, work: Work, known: Known) -> None:
        super().__init__(rooms, run)
        self._rooms, self._step, self._work, self._known = rooms, step, work, known
        self._redaction: Redaction | None = None

    async def events(self) -> AsyncGenerator[Event]:
        """The hosted model's, with what was redacted put back."""
        step, work, run = self._step, self._work, self.run
        entry = self.rooms.registry.entries[step.engine]
        messages = await self._messages()
        asked = replace(self._known.seen.asked, budget_nusd=run.hosted_left_nusd())
        redacts = step.redact or must_redact(asked)
        if redacts:
            self._redaction = Redaction([re.compile(pattern) for pattern in self._known.rule.formats])
            messages = redacted(messages, self._redaction)
        body = body_of({**self._known.topic.fields, "messages": messages}, step.model, None)
        permit = self._permit(asked, body, redacts)
        request = run.admission.request
        call = Call(_CHAT, step.model, body, work.stream, 1, work.keep_usage, request_id=request.id, permit=permit)
        run.hosted_nusd += step.ceiling_nusd
        try:
            async with aclosing(self._restored(self.streamed(entry, call, PROVIDER))) as events:
                async for event in events:
                    yield event
        except EngineUnavailable:  # nothing was computed
            run.hosted_nusd -= step.ceiling_nusd
            raise

    def over(self, status: Status) -> tuple[CallRecord, ...]:
        """Its calls. What a whole answer cost is known; of one that broke off, the most it may have cost stays held."""
        calls = super().over(status)
        hosted = next((call for call in calls if call.provider == PROVIDER), None)
        if hosted is not None and hosted.status is Status.OK:
            self.run.hosted_nusd += hosted.hosted_nusd - self._step.ceiling_nusd
        return calls

    def _permit(self, asked: Asked, body: bytes, redacts: bool) -> str:
        step, run = self._step, self.run
        offer = self._rooms.offer(step.engine, step.model)
        if offer is None or self._rooms.exit is None:
            raise refused(Reason.HOSTED_DISABLED)
        assert run.admitted is not None
        return self._rooms.exit.sealed(
            asked,
            offer,
            egress.Leaving(
                run.admission.request.key.tenant.id,
                run.admitted.conversation_id,
                f"{run.admission.request.id}/{step.ordinal}",
                body,
                redacts,
                self._known.rule.formats,
            ),
        )

    async def _messages(self) -> Sequence[dict[str, Any]]:
        """As they came, or with a summary of what is long ago."""
        work, run = self._work, self.run

        async def summarise(body: bytes) -> bytes:
            return await ask(self._rooms, run, work.deadline_s, work.model, _CHAT, "", body, self.calls.append)

        why = self._step.reason
        said = Summary(self._known.seen.language, why.value, tuple(r.attempt.model for r in run.records))
        return await condensed(self._known.topic.messages, work.model, said, summarise)

    async def _restored(self, events: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
        redaction = self._redaction
        async with aclosing(events):
            if redaction is None:
                async for event in events:
                    yield event
                return
            restored = RestoredStream(redaction)
            try:
                async for event in events:
                    if isinstance(event, Data):
                        if body := restored.feed(event.body):
                            yield Data(body)
                        continue
                    answer = None if event.answer is None else restored_answer(event.answer, redaction)
                    body = event.body if self._work.stream else restored_body(event.body, redaction)
                    yield replace(event, body=body, answer=answer)
            except ApplianceError as e:
                if e.partial is not None:
                    if rest := restored.held():
                        yield Data(_piece(e.partial, rest))
                    e.partial = _restored_partial(e.partial, redaction)
                raise


def _piece(said: Partial, text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    head = {"id": said.id, "object": "chat.completion.chunk", "created": said.created, "model": said.model}
    return b"data: " + _encoder.encode({**head, "choices": [choice]}) + b"\n\n"


def _restored_partial(said: Partial, redaction: Redaction) -> Partial:
    return replace(said, content=redaction.restore(said.content))
