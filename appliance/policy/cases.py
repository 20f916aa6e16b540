"""The ``[[test]]`` cases of a policy.toml: a request and the state of the engines, and where it must go.

What it is: ``failure(policy, case)``, None or one sentence. A case runs through the same ``plan`` as traffic does.
What it refuses to be: a mock of the engines. What a case does not say is as it is on a good day: one local engine that
speaks everything, a translation that does too, hosted healthy in a region that the tenant allows.
"""

from __future__ import annotations

from appliance.languages import ENGLISH, TAGS, parse
from appliance.policy.file import TestSection, nusd
from appliance.policy.gate import Asked
from appliance.policy.plan import plan
from appliance.policy.values import Candidate, Decision, Last, Policy, Seen

_REGION = "allowed"
_QUICK_MS, _SLOW_MS = 1.0, 1e9
_HOSTED_CONTEXT = 1_048_576


def failure(policy: Policy, case: TestSection) -> str | None:
    """What went elsewhere than ``case`` expects."""
    decision = plan(policy, seen(policy, case), candidates(case))
    first = decision.attempts[0] if decision.attempts else None
    route = first.route if first is not None else "refused"
    reason = first.reason if first is not None else decision.refusal
    then = tuple(dict.fromkeys(step.route for step in decision.attempts[1:]))
    wanted, got = str(case.expect), str(route)
    if case.reason is not None:
        wanted, got = f"{wanted} ({case.reason})", f"{got} ({reason})"
    if case.then is not None:
        wanted, got = f"{wanted} then {_names(case.then)}", f"{got} then {_names(then)}"
    if wanted == got:
        return None
    return f"test {case.name!r}: expected {wanted}, got {got}{_dropped(decision)}"


def seen(policy: Policy, case: TestSection) -> Seen:
    """The request of a case."""
    rule = policy.personal
    asked = Asked(
        residency=case.residency,
        regions=(_REGION,),
        personal=case.personal,
        personal_data=rule.mode,
        media=case.media,
        budget_nusd=None if case.budget_usd is None else nusd(case.budget_usd),
    )
    last = None if case.last is None else Last(case.last, case.last, "", case.idle_minutes * 60.0)
    return Seen(
        model="model",
        asked=asked,
        intent=case.intent,
        intent_confidence=1.0 if case.intent is not None else 0.0,
        value_class=case.value_class,
        language=None if case.language is None else parse(case.language),
        context_tokens=case.context_tokens,
        needs=frozenset(case.needs),
        last=last,
        in_tool_loop=case.tool_loop,
        customer_asked=case.customer_asked,
        pinned=case.pinned,
    )


def candidates(case: TestSection) -> list[Candidate]:
    """The engines of a case."""
    spoken = None if case.speaks is None else frozenset((ENGLISH, *map(parse, case.speaks)))
    able = frozenset(case.local_needs)
    room = case.local_context
    found = [
        Candidate("local", case.local in ("up", "slow"), 0, "local", "", room, spoken, able, _ttft(case.local)),
        Candidate(
            "pivot", case.pivot in ("up", "slow"), 0, "pivot", "", room, frozenset(TAGS), able, _ttft(case.pivot)
        ),
        Candidate(
            "hosted",
            _runs(case.hosted),
            route="hosted",
            context_tokens=_HOSTED_CONTEXT,
            ttft_ms=_ttft(case.hosted),
            region=_REGION,
            ceiling_nusd=nusd(case.hosted_cost_usd),
        ),
    ]
    absent = {name for name in ("local", "pivot", "hosted") if getattr(case, name) == "absent"}
    return [candidate for candidate in found if candidate.engine not in absent]


def _runs(state: str) -> bool:
    return state in ("up", "slow")


def _ttft(state: str) -> float:
    return _SLOW_MS if state == "slow" else _QUICK_MS


def _names(routes: tuple[str, ...]) -> str:
    return ", ".join(routes) or "nothing"


def _dropped(decision: Decision) -> str:
    return "".join(f"; {drop.route} dropped ({drop.reason}: {drop.why})" for drop in decision.drops)
