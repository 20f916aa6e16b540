"""Which attempts are judged before they leave, with what, and what a better answer is expected to cost.

What it is: ``judge_of``, a ``Judge`` for an attempt behind which the decision permits something better, or whose JSON
can be mended because nothing of it leaves before its end anyway; None for all others, which are not held back.
What it refuses to be: the judgement (``policy.combine``).
What it costs: 5 µs; the follow-up signals of a conversation are looked for when an answer is judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, Protocol

from msgspec.structs import replace

from appliance.engines.registry import Registry
from appliance.pipeline.bodies import body_of
from appliance.pipeline.deciding import Known
from appliance.pipeline.guarding import cleaned, guarding
from appliance.pipeline.holding import Holding, Judge, asking_logprobs, wanted_of
from appliance.pipeline.work import Run, Work
from appliance.policy.combine import Context, draw_of
from appliance.policy.egress import Offer
from appliance.policy.followup import FollowUp, TurnSaid, follow_up
from appliance.policy.parameters import Parameters
from appliance.policy.values import ROUTES, Decision, Route, Step
from appliance.translation.crossing import Crossing
from appliance.translation.messages import prose
from appliance.types import Decision as Recorded
from appliance.types import ToolUse, Usage

_Role = Literal["system", "user", "assistant", "tool"]
_ROLES: tuple[_Role, ...] = ("system", "user", "assistant", "tool")
_BYTES_A_TOKEN = 4
_LIKELY_TOKENS = 256  # of an answer that has only begun


class Judges(Protocol):
    """Rooms with a judge."""

    registry: Registry

    @property
    def parameters(self) -> Parameters:
        """What turns signals into P(unresolved)."""
        ...

    def offer(self, engine: str, model: str) -> Offer | None:
        """What a hosted model costs now."""
        ...


def held(
    rooms: Judges,
    run: Run,
    decision: Decision,
    step: Step,
    planned: int,
    work: Work,
    crossing: Crossing | None = None,
) -> tuple[Holding | None, bytes | None]:
    """What holds an attempt back, and the engine's body where that is not the caller's own.

    ``crossing`` counts what the translations of a pivot lose while it runs.
    """
    known = run.known
    if known is None:
        return None, None
    body = None
    if (clean := cleaned(decision, known.topic.messages)) is not None:
        known.topic.say(clean)
    judge = judge_of(rooms, run, decision, step, planned, work)
    salt = run.admission.request.key.tenant.cache_salt if rooms.registry.entries[step.engine].salted else None
    if known.topic.changed:
        body = body_of(known.topic.fields, step.model, salt)
    if judge is None:
        return None, body

    def record(decided: Recorded) -> None:
        """The first answer's is kept; what replaces it is judged by nobody."""
        if run.decision is None:
            run.decision = decided

    if crossing is not None:
        judge = replace(judge, crossing=crossing)
    if judge.strips:
        body = body_of(asking_logprobs(known.topic.fields), step.model, salt)
    return Holding(judge, record), body


def judge_of(rooms: Judges, run: Run, decision: Decision, step: Step, planned: int, work: Work) -> Judge | None:
    """Who judges ``step``, the ``planned``-th of ``decision``; None: it is passed on as it comes."""
    known = run.known
    if known is None:
        return None
    better = None
    if decision.escalation is not None and planned < decision.escalation:
        better = decision.attempts[decision.escalation]
    fields = known.topic.fields
    whole = not work.stream and (fields.get("tools") or fields.get("response_format"))
    if better is None and not whole and "amounts" not in decision.guards:
        return None  # most requests; what follows looks at every turn
    guards = guarding(decision, known.topic.messages, _turns(known.topic.messages))
    wanted = wanted_of(known.topic, known.seen.language, known.said.romanised)
    mends = not work.stream and (wanted.schema is not None or bool(wanted.tools))
    if better is None and not mends and not guards.strict:
        return None
    offer = rooms.offer(better.engine, better.model) if better is not None and better.route == "hosted" else None
    context = Context(
        intent=known.seen.intent,
        language=known.seen.language,
        value_class=decision.value_class,
        judging=decision.judging,
        route=_route(step),
        alternative=None if better is None else _route(better),
        extra_s=0.0 if better is None else rooms.registry.entries[better.engine].usual_s,
        draw=draw_of(run.admission.request.id),
    )
    reopened = known.seen.reopened
    return Judge(
        rooms.parameters,
        context,
        decision.version,
        wanted,
        partial(_follow, known.topic.messages, reopened),
        partial(_cost, offer, known),
        guards,
        strips=asks(rooms, run, step, better),
    )


def _route(step: Step) -> Route:
    return next(route for route in ROUTES if route == step.route)


def asks(rooms: Judges, run: Run, step: Step, better: Step | None) -> bool:
    """Whether the engine is asked for log-probabilities that its caller did not ask for."""
    known = run.known
    if known is None or better is None or step.route != "local" or known.topic.fields.get("logprobs"):
        return False
    entry = rooms.registry.entries.get(step.engine)
    return entry is not None and entry.prefills  # which is vLLM


def _follow(messages: Sequence[Mapping[str, Any]], reopened: bool) -> FollowUp:
    return follow_up(_turns(messages), reopened)


def _turns(messages: Sequence[Mapping[str, Any]]) -> list[TurnSaid]:
    turns = []
    for message in messages:
        calls = message.get("tool_calls") or ()
        tools = tuple(ToolUse(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls)
        role: _Role = next((known for known in _ROLES if known == message.get("role")), "user")
        turns.append(TurnSaid(role, "\n".join(prose(message)), tools))
    return turns


def _cost(offer: Offer | None, known: Known, usage: Usage | None) -> int:
    """Nano-USD that the better answer is expected to cost: as many tokens as this one, where those are known."""
    if offer is None:
        return 0
    prompt, completion = known.topic.context_tokens, _LIKELY_TOKENS
    if usage is not None and usage.prompt_tokens:
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
    return (prompt * offer.prompt_nusd + completion * offer.completion_nusd) // 1_000_000
