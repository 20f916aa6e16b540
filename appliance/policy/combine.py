"""Commit or escalate: signals into P(unresolved), and P(unresolved) into money.

What it is: ``judge(parameters, features, context)``, a pure function. An answer is escalated where that is permitted
and ``(p_fail − p_fail of the other route) × cost of an unresolved conversation > its cost + what the wait costs``;
until parameters are fitted, ``p_fail`` must reach the policy's threshold as well.
What it refuses to be: a gate. Who may be asked was decided before (``plan``); without an alternative it always commits.
What it costs: 8 µs for a verdict, 5 µs for the features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from appliance.policy import parameters as fitted
from appliance.policy.answers import Signals
from appliance.policy.followup import FollowUp
from appliance.policy.parameters import Parameters
from appliance.policy.repeats import LOOP
from appliance.policy.values import Judging, Route, ValueClass
from appliance.types import Decision, Reason

# the gravest first; each is beyond doubt from this value on
_DEFECTS: tuple[tuple[str, float, Reason], ...] = (
    ("empty", 1.0, Reason.EMPTY_OUTPUT),
    ("schema_failed", 1.0, Reason.SCHEMA_FAILED),
    ("repetition", LOOP, Reason.REPETITION),
    ("wrong_language", 1.0, Reason.WRONG_LANGUAGE),
    ("truncated", 1.0, Reason.TRUNCATED),
    ("unfounded", 1.0, Reason.LOW_CONFIDENCE),  # a guard's finding
    ("entities_lost", 1e-9, Reason.ENTITIES_LOST),
)
_REASONS = {name: reason for name, _, reason in _DEFECTS}


class Context(Struct, frozen=True):
    """What an answer is judged in.

    ``alternative``: the route that is permitted and able to do better, None: there is none. ``cost_nusd`` and
    ``extra_s``: what it is expected to cost and how much longer the customer waits. ``draw``: uniform in [0, 1), turns
    a doubtful decision round where it is below ``judging.explore``.
    """

    intent: str | None = None
    language: str | None = None
    value_class: ValueClass = ValueClass("")
    judging: Judging = Judging()
    route: Route = "local"
    alternative: Route | None = None
    cost_nusd: int = 0
    extra_s: float = 0.0
    draw: float = 1.0


class Verdict(Struct, frozen=True):
    """``reason`` is None for a commit. ``saving_nusd`` is expected of escalating, negative where it does not pay.

    ``propensity``: how likely this verdict was, over draws.
    """

    verdict: Literal["commit", "escalate"]
    reason: Reason | None
    p_fail: float
    p_fail_alternative: float | None
    saving_nusd: float
    propensity: float = 1.0


def features(signals: Signals, follow: FollowUp | None = None, unfounded: bool = False) -> dict[str, float]:
    """The numbers that are learned from and kept; what is zero is left out. ``unfounded``: a guard objects."""
    follow = follow or FollowUp()
    sure = signals.confidence
    found = {
        "empty": signals.empty,
        "schema_failed": signals.schema_failed,
        "repetition": signals.repetition,
        "wrong_language": signals.wrong_language is not None,
        "truncated": signals.truncated,
        "entities_lost": signals.entities_lost,
        "repaired": signals.repaired,
        "refused": signals.refused,
        "unfounded": unfounded,
        "re_asked": follow.re_asked,
        "corrected": follow.corrected,
        "wants_person": follow.wants_person,
        "tool_loop": follow.tool_loop,
        "reopened": follow.reopened,
    }
    if sure is None:
        found["no_logprobs"] = True
    else:
        found |= {"doubt_p10": -sure.p10, "doubt_p50": -sure.p50, "doubt_least": -sure.least}
        if sure.margin_p10 is not None and sure.margin_p50 is not None:
            found |= {"unsure_p10": 1.0 - sure.margin_p10, "unsure_p50": 1.0 - sure.margin_p50}
    return {name: round(float(value), 4) for name, value in found.items() if value}


def defects(seen: Mapping[str, float]) -> tuple[str, ...]:
    """Those of the features that are wrong beyond doubt, the gravest first."""
    return tuple(name for name, least, _ in _DEFECTS if seen.get(name, 0.0) >= least)


def judge(parameters: Parameters, seen: Mapping[str, float], context: Context) -> Verdict:
    """What becomes of an answer with the features ``seen``."""
    wrong = defects(seen)
    p = fitted.p_fail(parameters, seen, wrong, context.intent, context.language)
    if context.alternative is None:
        return Verdict("commit", None, p, None, 0.0)
    other = fitted.p_fail_alternative(parameters, context.alternative, context.intent, context.language)
    wait_nusd = context.judging.latency_nusd_per_s * max(context.extra_s, 0.0)
    saving = (p - other) * context.value_class.unresolved_nusd - context.cost_nusd - wait_nusd
    escalates = saving > 0 and (parameters.fitted or p >= context.judging.threshold)
    propensity = 1.0
    explore = context.judging.explore
    if explore > 0.0 and not wrong:  # what is broken never leaves for the sake of learning
        turned = context.draw < explore
        escalates ^= turned
        propensity = explore if turned else 1.0 - explore
    if not escalates:
        return Verdict("commit", None, p, other, saving, propensity)
    reason = _REASONS[wrong[0]] if wrong else Reason.LOW_CONFIDENCE
    return Verdict("escalate", reason, p, other, saving, propensity)


def draw_of(request_id: str, what: str = "explore") -> float:
    """A number in [0, 1) for a request, the same whenever it is asked for, and another for another ``what``."""
    drawn = hashlib.blake2b(request_id.encode(), digest_size=7, person=what.encode()).digest()
    return int.from_bytes(drawn, "big") / 2**56


def decision(
    verdict: Verdict, seen: Mapping[str, float], context: Context, policy: str, parameters: Parameters
) -> Decision:
    """The ledger's record of a verdict; ``policy`` is the version in force."""
    return Decision(
        policy=policy,
        route=context.route,
        verdict=verdict.verdict,
        p_fail=verdict.p_fail,
        reason=verdict.reason,
        alternative=context.alternative,
        p_fail_alternative=verdict.p_fail_alternative,
        propensity=verdict.propensity,
        cost_nusd=context.cost_nusd,
        extra_s=context.extra_s,
        parameters=parameters.version,
        intent=context.intent,
        language=context.language,
        value_class=context.value_class.name or None,
        signals=dict(seen),
    )
