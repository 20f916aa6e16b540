"""The plan of one request: who is asked first, who stands in, who may be escalated to, and why nobody else.

What it is: ``plan(policy, seen, candidates)``, a pure function. The gate comes first, then capability, affinity, the
wish of the customer, load, value class and language; every candidate ends up as a step or as a drop with its reason.
What it refuses to be: silent. Without attempts the decision carries the reason why there are none.
What it costs: 4 µs for two local engines and no policy.toml, 12 µs with everything on.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from appliance.languages import ENGLISH
from appliance.policy import ranking
from appliance.policy.gate import Asked, must_redact, refusal, strictest
from appliance.policy.values import (
    BUILT_IN,
    Candidate,
    ChainLimits,
    Decision,
    Drop,
    Intent,
    Policy,
    Route,
    Seen,
    Step,
    ValueClass,
)
from appliance.types import Plan, Reason

_STANDARD_CLASS = ValueClass("")
_NO_INTENT = Intent("")
# wishes that a person or an error can answer; load and broken engines are no wishes
_MATTERS = (Reason.CUSTOMER_ASKED, Reason.HIGH_VALUE)
_WHY: dict[Reason, str] = {
    Reason.RESIDENCY: "its traffic stays on the box (residency local_only)",
    Reason.REGION: "the tenant does not allow that region",
    Reason.PERSONAL_DATA: "it holds personal data, or media that nothing here can redact",
    Reason.BUDGET: "the budget does not leave what it may cost",
    Reason.COST_CAP: "it may cost more than one request is allowed to",
    Reason.HOSTED_DISABLED: "policy.toml does not enable hosted",
    Reason.HOSTED_UNHEALTHY: "the hosted engine is not ready, or its breaker is open",
    Reason.ENGINE_UNHEALTHY: "the engine is not ready, or its breaker is open",
}


class _Asking(Struct, frozen=True):
    """One request with what its intent adds."""

    policy: Policy
    seen: Seen
    intent: Intent
    asked: Asked
    value_class: ValueClass
    ttft_ms: float | None
    routes: tuple[Route, ...]


def plan(policy: Policy, seen: Seen, candidates: Sequence[Candidate]) -> Decision:
    """Every attempt that may be made for ``seen``, in order, and every candidate that may not."""
    asking = _asking(policy, seen)
    able: list[Candidate] = []
    drops: list[Drop] = []
    for candidate in candidates:
        drop = _drop(asking, candidate)
        if drop is None:
            able.append(candidate)
        else:
            drops.append(drop)
    wish = _wish(asking, able, drops)
    hosted = [c for c in able if c.route == "hosted"]
    instead = asking.intent.when_refused or policy.when_refused
    attempts: tuple[Step, ...] = ()
    refused = escalation = None
    if not able or (wish in _MATTERS and not hosted and instead != "local"):
        refused = _refusal(candidates, drops)
    else:
        ordered, reason = _ordered(asking, able, wish if hosted else None)
        attempts = _steps(asking, ordered, reason)
        escalation = _escalation(seen, attempts)
    return Decision(
        attempts,
        refused,
        tuple(drops),
        policy.version,
        wish,
        instead,
        escalation,
        asking.intent.judging or policy.judging,
        policy.guards if asking.intent.guards is None else asking.intent.guards,
        asking.value_class,
        _limits(asking),
    )


def least_busy(model: str, candidates: Sequence[Candidate]) -> Plan:
    """The plan without a policy.toml: the engines that are ready, the least busy first."""
    decision = plan(BUILT_IN, Seen(model), candidates)
    return Plan(decision.attempts, decision.refusal)


def _asking(policy: Policy, seen: Seen) -> _Asking:
    intent = policy.intents.get(seen.intent, _NO_INTENT) if seen.intent is not None else _NO_INTENT
    said = seen.value_class
    name = said if said is not None and said in policy.value_classes else intent.value_class or policy.value_class
    asked = seen.asked
    if intent.residency is not None:
        asked = replace(asked, residency=strictest(asked.residency, intent.residency))
    caps = [cap for cap in (asked.cap_nusd, intent.cost_cap_nusd, policy.chain.cost_cap_nusd) if cap is not None]
    if caps and min(caps) != asked.cap_nusd:
        asked = replace(asked, cap_nusd=min(caps))
    language = policy.languages.get(seen.language) if seen.language is not None else None
    routes = intent.routes or (language.routes if language is not None else ())
    ttft_ms = policy.ttft_ms if intent.ttft_ms is None else intent.ttft_ms
    return _Asking(policy, seen, intent, asked, policy.value_classes.get(name, _STANDARD_CLASS), ttft_ms, routes)


def _limits(asking: _Asking) -> ChainLimits:
    """Of the policy, its intent and the request, the tightest."""
    chain = asking.policy.chain
    given = (asking.intent.deadline_s or chain.deadline_s, asking.seen.deadline_s)
    deadlines = [deadline for deadline in given if deadline is not None]
    return ChainLimits(min(deadlines, default=None), chain.retries, asking.asked.cap_nusd)


# who may not


def _drop(asking: _Asking, candidate: Candidate) -> Drop | None:
    """Why ``candidate`` is not tried, the gate's reasons before all others."""
    hosted = candidate.route == "hosted"
    reason = _gate(asking, candidate) if hosted else None
    if reason is None and not candidate.priced:
        why = f"nobody has set a price for {candidate.model}: `appliance prices defaults`, or `prices set`"
        return _dropped(candidate, Reason.HOSTED_DISABLED, why)
    if reason is None and not (candidate.ready and not candidate.open):
        reason = Reason.HOSTED_UNHEALTHY if hosted else Reason.ENGINE_UNHEALTHY
    if reason is not None:
        return _dropped(candidate, reason, _WHY[reason])
    return _unable(asking, candidate)


def _gate(asking: _Asking, candidate: Candidate) -> Reason | None:
    if not asking.policy.hosted.enabled:
        return Reason.HOSTED_DISABLED
    return refusal(asking.asked, candidate.region, candidate.ceiling_nusd)


def _unable(asking: _Asking, candidate: Candidate) -> Drop | None:
    seen, room = asking.seen, candidate.context_tokens
    if room and seen.context_tokens > room:
        return _dropped(candidate, Reason.CONTEXT_TOO_LONG, f"{seen.context_tokens} tokens do not fit into {room}")
    if candidate.capabilities is not None and not seen.needs <= candidate.capabilities:
        missing = ", ".join(sorted(seen.needs - candidate.capabilities))
        return _dropped(candidate, Reason.CAPABILITY_MISSING, f"it cannot do what is asked for: {missing}")
    if seen.pinned is not None and (candidate.route == "hosted") != (seen.pinned == "hosted"):
        return _dropped(candidate, Reason.PINNED, f"the caller asks for {seen.pinned}")
    if asking.routes and candidate.route not in asking.routes:
        return _dropped(candidate, Reason.PINNED, f"policy.toml leaves {candidate.route} out of these routes")
    if candidate.route == "pivot":
        return _no_pivot(asking, candidate)
    return None


def _no_pivot(asking: _Asking, candidate: Candidate) -> Drop | None:
    language = asking.seen.language
    if not asking.policy.pivot:
        return _dropped(candidate, Reason.PINNED, "policy.toml has pivot = false")
    if language is None or language == ENGLISH:
        return _dropped(candidate, Reason.LANGUAGE_PIVOT, "there is no language to translate from")
    if not ranking.speaks(candidate, language):
        return _dropped(candidate, Reason.CAPABILITY_MISSING, f"{language} is not translated both ways here")
    return None


def _dropped(candidate: Candidate, reason: Reason, why: str) -> Drop:
    return Drop(candidate.engine, candidate.model, candidate.route, reason, why)


def _refusal(candidates: Sequence[Candidate], drops: Sequence[Drop]) -> Reason:
    """The reason that helps most: an engine that comes back, then what keeps hosted away, then what is missing."""
    if not candidates:
        return Reason.NOT_INSTALLED
    here = [drop.reason for drop in drops if drop.route != "hosted"]
    if Reason.ENGINE_UNHEALTHY in here:
        return Reason.ENGINE_UNHEALTHY
    away = [drop.reason for drop in drops if drop.route == "hosted"]
    return next(iter((*away, *here)), Reason.NOT_INSTALLED)


# who goes first


def _wish(asking: _Asking, able: Sequence[Candidate], drops: Sequence[Drop]) -> Reason | None:
    """Why hosted should lead; None: nothing speaks for it beside the order of routes."""
    seen = asking.seen
    here = [c for c in able if c.route != "hosted"]
    if not here:
        lost = [drop.reason for drop in drops if drop.route != "hosted"]
        known = (Reason.CONTEXT_TOO_LONG, Reason.CAPABILITY_MISSING, Reason.ENGINE_UNHEALTHY)  # else: it was named
        return next((reason for reason in known if reason in lost), Reason.PINNED)
    if seen.in_tool_loop and _last(asking) is not None:
        return None
    if seen.customer_asked:
        return Reason.CUSTOMER_ASKED
    if _last(asking) is not None:
        return None
    if asking.value_class.hosted_first:
        return Reason.HIGH_VALUE
    return Reason.CAPACITY_OVERFLOW if _overflows(asking, here, able) else None


def _overflows(asking: _Asking, here: Sequence[Candidate], able: Sequence[Candidate]) -> bool:
    """Whether every engine here is predicted above the SLO, and hosted is not predicted to be slower still."""
    if asking.ttft_ms is None:
        return False
    soonest = min((c.ttft_ms if c.ttft_ms is not None else 0.0 for c in here), default=0.0)
    if soonest <= asking.ttft_ms:
        return False
    return any(c.route == "hosted" and (c.ttft_ms is None or c.ttft_ms < soonest) for c in able)


def _last(asking: _Asking) -> Route | None:
    """The route the conversation stays on; None where it is free to move."""
    last = asking.seen.last
    if last is None:
        return None
    return last.route if asking.seen.in_tool_loop or last.idle_s < asking.policy.idle_minutes * 60.0 else None


def _ordered(asking: _Asking, able: Sequence[Candidate], wish: Reason | None) -> tuple[list[Candidate], Reason]:
    """The candidates in order, and the reason of the first."""
    seen = asking.seen
    free = ranking.ranked(asking.policy, seen, asking.routes, asking.ttft_ms, able)
    if wish is not None:
        ahead = [c for c in free if c.route == "hosted"]
        return ahead + [c for c in free if c.route != "hosted"], wish
    stays = _last(asking)
    if stays is not None and seen.last is not None:
        engine = seen.last.engine
        kept = sorted(free, key=lambda c: (c.route != stays, c.engine != engine))  # sorted is stable
        if kept[0] != free[0] and kept[0].route == stays:
            return kept, Reason.STICKY
        free = kept if kept[0] == free[0] else free
    return free, _reason(asking, free[0])


def _reason(asking: _Asking, first: Candidate) -> Reason:
    """Why ``first`` leads where neither a wish nor affinity says so."""
    if asking.seen.pinned is not None or (asking.routes and first.route == asking.routes[0] == "hosted"):
        return Reason.PINNED
    if first.route == "pivot":
        return Reason.LANGUAGE_PIVOT
    return Reason.CAPABILITY_MISSING if first.route == "hosted" else Reason.ROUTINE


def _steps(asking: _Asking, ordered: Sequence[Candidate], reason: Reason) -> tuple[Step, ...]:
    behind = Reason.HOSTED_UNHEALTHY if ordered[0].route == "hosted" else Reason.ENGINE_UNHEALTHY
    redact = must_redact(asking.asked)
    model = asking.seen.model
    steps = [
        Step(
            ordinal,
            c.engine,
            c.model or model,
            c.route,
            behind if ordinal else reason,
            c.region,
            c.ceiling_nusd,
            redact and c.route == "hosted",
        )
        for ordinal, c in enumerate(ordered)
    ]
    return tuple(steps)


def _escalation(seen: Seen, attempts: Sequence[Step]) -> int | None:
    """Where a judged answer may be improved on: hosted, else translating; never inside a tool loop."""
    first = attempts[0].route
    if seen.in_tool_loop or first == "hosted":
        return None
    better: tuple[Route, ...] = ("hosted", "pivot") if first == "local" else ("hosted",)
    return next((step.ordinal for route in better for step in attempts if step.route == route), None)
