"""The pipeline with a span for each step of a request: admit, plan, attempt, engine call, record.

What it is: ``Pipeline`` and nothing else, with spans around the methods it calls itself. The gateway builds this one
instead where traces are on, so the hot path without traces has no trace of them.
What it refuses to be: a second pipeline. It decides nothing and changes no argument but the ``traceparent`` of a call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from msgspec.structs import replace
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from appliance.engines import Call
from appliance.engines.entry import Entry
from appliance.errors import ApplianceError
from appliance.pipeline import Pipeline, Sink, Work
from appliance.pipeline.trial import Held, Trial
from appliance.pipeline.work import Run
from appliance.policy.values import Decision
from appliance.tracing import traceparent
from appliance.types import Admission, Admitted, End, Event, Status


class TracedPipeline(Pipeline):
    """``Pipeline``, traced."""

    def __init__(self, tracer: Tracer, *rooms: Any) -> None:
        super().__init__(*rooms)
        self._tracer = tracer

    def _span(self, name: str, attributes: dict[str, str | int | bool] | None = None) -> Any:
        """A child of the current span while the block runs. What is raised in it is not recorded: it may quote."""
        return self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        )

    async def run(self, admission: Admission, work: Work, sink: Sink) -> None:
        """As ``Pipeline.run``; says on the request's own span whose it is and how it ended."""
        request = admission.request
        span = trace.get_current_span()
        span.set_attributes(
            {
                "appliance.tenant": request.key.tenant.id,
                "appliance.endpoint": request.endpoint,
                "appliance.model": work.model,
                "appliance.stream": work.stream,
            }
        )
        try:
            await super().run(admission, work, sink)
        except ApplianceError as e:
            _failed(span, e)
            raise
        except asyncio.CancelledError:
            span.set_attribute("appliance.cancelled", True)
            raise

    async def admit(self, admission: Admission) -> Admitted:
        """As ``Pipeline.admit``."""
        request_span = trace.get_current_span()
        with self._span("admit") as span:
            try:
                admitted = await super().admit(admission)
            except ApplianceError as e:
                _failed(span, e)
                raise
            request_span.set_attribute("appliance.conversation", admitted.conversation_id)
            span.set_attributes(
                {
                    "appliance.conversation": admitted.conversation_id,
                    "appliance.new_conversation": admitted.new_conversation,
                    "appliance.replayed": admitted.kept is not None,
                }
            )
            return admitted

    def plan(self, work: Work, run: Run) -> Decision:
        """As ``Pipeline.plan``."""
        with self._span("plan") as span:
            chosen = super().plan(work, run)
            span.set_attribute("appliance.attempts", [f"{a.engine} {a.route} {a.reason}" for a in chosen.attempts])
            if chosen.refusal is not None:
                span.set_attribute("appliance.refusal", str(chosen.refusal))
            return chosen

    async def attempt(self, trial: Trial) -> End | Held:
        """As ``Pipeline.attempt``."""
        attempt = trial.attempt
        attributes: dict[str, str | int | bool] = {
            "appliance.ordinal": attempt.ordinal,
            "appliance.engine": attempt.engine,
            "appliance.model": attempt.model,
            "appliance.route": attempt.route,
            "appliance.reason": str(attempt.reason),
        }
        with self._span("attempt", attributes) as span:
            try:
                return await super().attempt(trial)
            except ApplianceError as e:
                _failed(span, e)
                raise

    async def stream(self, entry: Entry, call: Call) -> AsyncGenerator[Event]:
        """As ``Pipeline.stream``."""
        # not made current: a generator that is closed elsewhere could not put back what was current before
        span = self._tracer.start_span(
            f"call {entry.state.name}",
            kind=SpanKind.CLIENT,
            attributes={
                "appliance.engine": entry.state.name,
                "appliance.engine_kind": entry.state.kind,
                "gen_ai.request.model": call.model,
                "gen_ai.request.id": call.request_id,
            },
        )
        begun = ended = False
        try:
            sent = replace(call, traceparent=traceparent(span))
            async with aclosing(super().stream(entry, sent)) as events:
                async for event in events:
                    if not begun:
                        begun = True
                        span.add_event("first bytes")
                    if isinstance(event, End):
                        ended = True
                        _note_end(span, event)
                    yield event
        except ApplianceError as e:
            _failed(span, e)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            if not ended:  # the pipeline closes this as soon as it has the end
                span.set_attribute("appliance.cancelled", True)
            raise
        finally:
            span.end()

    async def settle(self, run: Run, status: Status, http: int, code: str | None, *args: Any, **kwargs: Any) -> None:
        """As ``Pipeline.settle``."""
        with self._span("record", {"appliance.status": str(status), "appliance.code": code or ""}) as span:
            try:
                await super().settle(run, status, http, code, *args, **kwargs)
            except ApplianceError as e:
                _failed(span, e)
                raise


def _failed(span: Span, error: ApplianceError) -> None:
    """The stable code of an error; its sentence may name what a caller sent."""
    span.set_attribute("error.type", error.code)
    if error.status >= 500:
        span.set_status(StatusCode.ERROR, error.code)


def _note_end(span: Span, end: End) -> None:
    span.set_attributes(
        {
            "gen_ai.usage.prompt_tokens": end.usage.prompt_tokens,
            "gen_ai.usage.completion_tokens": end.usage.completion_tokens,
            "gen_ai.response.finish_reason": end.finish_reason,
        }
    )
