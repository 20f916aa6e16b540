"""The plan: who is asked first, who stands in, who is left out, and a reason for each."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from msgspec.structs import replace

from appliance.policy import plan as least_busy
from appliance.policy.gate import Asked
from appliance.policy.plan import plan
from appliance.policy.values import (
    BUILT_IN,
    Candidate,
    ChainLimits,
    Decision,
    HostedModel,
    Intent,
    Judging,
    LanguageRoutes,
    Last,
    Policy,
    Seen,
    ValueClass,
)
from appliance.types import Reason

REGION = "asia-south1"
ON = Policy(version="test", hosted=HostedModel(enabled=True), idle_minutes=30.0, ttft_ms=800.0)
FREE = Asked("hosted_allowed", (REGION,), personal_data="allow")
ASKS = Seen("m", FREE, context_tokens=500)
LOCAL = Candidate("chat", True, 1, context_tokens=8192, ttft_ms=100.0, languages=frozenset({"hin_Deva"}))
PIVOT = replace(LOCAL, route="pivot", languages=frozenset({"hin_Deva", "tam_Taml"}))
HOSTED = Candidate("gemini", True, 0, "hosted", "g", 1_000_000, region=REGION, ceiling_nusd=1000)
ALL = (LOCAL, PIVOT, HOSTED)


def routes(decision: Decision) -> list[str]:
    return [step.route for step in decision.attempts]


def led(decision: Decision) -> tuple[str, Reason]:
    return decision.attempts[0].route, decision.attempts[0].reason


def dropped(decision: Decision) -> dict[str, Reason]:
    return {drop.route: drop.reason for drop in decision.drops}


# without a policy.toml


def test_the_least_busy_engine_leads_and_the_others_stand_in() -> None:
    result = least_busy("m", [Candidate("b", True, 2), Candidate("a", True, 5), Candidate("c", False, 0)])
    assert [(a.engine, a.ordinal, a.reason) for a in result.attempts] == [
        ("b", 0, Reason.ROUTINE),
        ("a", 1, Reason.ENGINE_UNHEALTHY),
    ]
    assert {(a.model, a.route) for a in result.attempts} == {("m", "local")}


def test_equal_load_is_decided_by_name_so_that_the_plan_is_a_function() -> None:
    assert least_busy("m", [Candidate("b", True, 0), Candidate("a", True, 0)]).attempts[0].engine == "a"


def test_no_engine_is_not_installed_and_no_ready_engine_is_unhealthy() -> None:
    assert least_busy("m", []).refusal is Reason.NOT_INSTALLED
    assert least_busy("m", [Candidate("a", False, 0)]).refusal is Reason.ENGINE_UNHEALTHY


def test_without_a_policy_nothing_leaves_nothing_sticks_and_nothing_is_held_back() -> None:
    asks = replace(ASKS, last=Last("hosted", "gemini", "g", 1.0), customer_asked=True)
    decision = plan(BUILT_IN, asks, [LOCAL, HOSTED])
    assert led(decision) == ("local", Reason.ROUTINE)
    assert dropped(decision) == {"hosted": Reason.HOSTED_DISABLED}
    assert decision.escalation is None


# the gate


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (Asked(), Reason.RESIDENCY),
        (replace(FREE, regions=("europe-west4",)), Reason.REGION),
        (replace(FREE, personal=True, personal_data="block"), Reason.PERSONAL_DATA),
        (replace(FREE, residency="hosted_redacted", media=True), Reason.PERSONAL_DATA),
        (replace(FREE, budget_nusd=999), Reason.BUDGET),
        (replace(FREE, cap_nusd=999), Reason.COST_CAP),
    ],
)
def test_what_the_gate_forbids_is_dropped_whatever_speaks_for_it(asked: Asked, reason: Reason) -> None:
    asks = replace(ASKS, asked=asked, customer_asked=True, last=Last("hosted", "gemini", "g", 1.0))
    for candidates in (ALL, (HOSTED,)):
        decision = plan(ON, asks, candidates)
        assert dropped(decision)["hosted"] is reason
        assert "hosted" not in routes(decision)
        assert decision.drops[-1].why
    assert plan(ON, asks, [HOSTED]).refusal is reason


def test_an_intent_can_tighten_residency_and_not_loosen_it() -> None:
    policy = replace(
        ON, intents={"kyc": Intent("kyc", residency="local_only"), "x": Intent("x", residency="hosted_allowed")}
    )
    assert dropped(plan(policy, replace(ASKS, intent="kyc"), ALL))["hosted"] is Reason.RESIDENCY
    strict = replace(ASKS, intent="x", asked=replace(FREE, residency="local_only"))
    assert dropped(plan(policy, strict, ALL))["hosted"] is Reason.RESIDENCY


def test_the_smallest_cap_counts() -> None:
    policy = replace(ON, chain=ChainLimits(cost_cap_nusd=5000), intents={"x": Intent("x", cost_cap_nusd=500)})
    assert "hosted" in routes(plan(policy, ASKS, ALL))
    tight = plan(policy, replace(ASKS, intent="x"), ALL)
    assert dropped(tight)["hosted"] is Reason.COST_CAP
    assert tight.chain.cost_cap_nusd == 500


def test_what_leaves_is_redacted_where_residency_or_personal_data_ask_for_it() -> None:
    for asked in (
        replace(FREE, residency="hosted_redacted"),
        replace(FREE, personal=True, personal_data="redact"),
    ):
        steps = plan(ON, replace(ASKS, asked=asked), ALL).attempts
        assert [step.redact for step in steps if step.route == "hosted"] == [True]
        assert not any(step.redact for step in steps if step.route != "hosted")
    assert not any(step.redact for step in plan(ON, ASKS, ALL).attempts)


def test_no_fault_and_no_wish_sends_local_only_traffic_out() -> None:
    """Every combination of broken engines, wishes and histories."""
    down = [replace(LOCAL, ready=False), replace(LOCAL, open=True), replace(LOCAL, context_tokens=10), LOCAL]
    lasts = [None, Last("hosted", "gemini", "g", 1.0)]
    for local, last, asks, loop, pinned in itertools.product(
        down, lasts, (False, True), (False, True), (None, "hosted")
    ):
        seen = Seen("m", Asked("local_only", (REGION,)), "i", language="tam_Taml", context_tokens=500, last=last)
        seen = replace(seen, customer_asked=asks, in_tool_loop=loop, pinned=pinned)
        policy = replace(ON, value_classes={"v": ValueClass("v", hosted_first=True)}, value_class="v")
        assert "hosted" not in routes(plan(policy, seen, (local, HOSTED)))


# who can


def test_what_does_not_fit_goes_to_hosted_with_its_reason() -> None:
    long = replace(ASKS, context_tokens=9000)
    assert led(plan(ON, long, ALL)) == ("hosted", Reason.CONTEXT_TOO_LONG)
    able = (replace(LOCAL, capabilities=frozenset({"tools"})), HOSTED)
    assert led(plan(ON, replace(ASKS, needs=frozenset({"vision"})), able)) == ("hosted", Reason.CAPABILITY_MISSING)
    assert led(plan(ON, replace(ASKS, needs=frozenset({"tools"})), able)) == ("local", Reason.ROUTINE)
    assert led(plan(ON, ASKS, (replace(LOCAL, ready=False), HOSTED))) == ("hosted", Reason.ENGINE_UNHEALTHY)
    assert led(plan(ON, ASKS, (HOSTED,))) == ("hosted", Reason.PINNED)


def test_an_empty_plan_names_what_helps_most() -> None:
    shut = replace(ASKS, asked=Asked())
    assert plan(ON, shut, (replace(LOCAL, ready=False), HOSTED)).refusal is Reason.ENGINE_UNHEALTHY
    assert plan(ON, replace(shut, context_tokens=9000), (LOCAL, HOSTED)).refusal is Reason.RESIDENCY
    assert plan(ON, replace(shut, context_tokens=9000), (LOCAL,)).refusal is Reason.CONTEXT_TOO_LONG
    assert plan(ON, ASKS, (replace(HOSTED, ready=False),)).refusal is Reason.HOSTED_UNHEALTHY
    assert plan(ON, ASKS, ()).refusal is Reason.NOT_INSTALLED


def test_an_open_breaker_is_not_tried() -> None:
    decision = plan(ON, ASKS, (replace(LOCAL, open=True), replace(LOCAL, engine="b"), replace(HOSTED, open=True)))
    assert [step.engine for step in decision.attempts] == ["b"]
    assert dropped(decision)["hosted"] is Reason.HOSTED_UNHEALTHY


def test_a_pin_is_kept() -> None:
    assert routes(plan(ON, replace(ASKS, pinned="hosted"), ALL)) == ["hosted"]
    assert "hosted" not in routes(plan(ON, replace(ASKS, pinned="local", customer_asked=True), ALL))
    assert plan(ON, replace(ASKS, pinned="hosted", asked=Asked()), ALL).refusal is Reason.RESIDENCY


# languages


def test_a_model_that_speaks_the_language_goes_before_the_pivot_and_that_before_hosted() -> None:
    assert routes(plan(ON, replace(ASKS, language="hin_Deva"), ALL)) == ["local", "pivot", "hosted"]
    tamil = plan(ON, replace(ASKS, language="tam_Taml"), ALL)
    assert routes(tamil) == ["pivot", "hosted", "local"]
    assert led(tamil) == ("pivot", Reason.LANGUAGE_PIVOT)
    kannada = plan(ON, replace(ASKS, language="kan_Knda"), ALL)
    assert routes(kannada) == ["hosted", "local"]
    assert dropped(kannada) == {"pivot": Reason.CAPABILITY_MISSING}


def test_a_mute_model_still_answers_where_nothing_else_may() -> None:
    decision = plan(ON, replace(ASKS, language="kan_Knda", asked=Asked()), ALL)
    assert led(decision) == ("local", Reason.ROUTINE)


@pytest.mark.parametrize(
    ("scores", "least", "expected"),
    [
        ({"local": 0.6, "pivot": 0.7}, 0.0, ["pivot", "local", "hosted"]),
        ({"local": 0.7, "pivot": 0.6}, 0.0, ["local", "pivot", "hosted"]),
        ({"local": 0.4, "pivot": 0.7}, 0.5, ["pivot", "hosted", "local"]),
        ({"local": 0.4, "pivot": 0.3}, 0.5, ["hosted", "local", "pivot"]),
    ],
)
def test_the_best_measured_route_leads(scores: Any, least: float, expected: list[str]) -> None:
    policy = replace(ON, languages={"hin_Deva": LanguageRoutes("hin_Deva", (), scores, least)})
    assert routes(plan(policy, replace(ASKS, language="hin_Deva"), ALL)) == expected


def test_the_operators_own_order_counts_before_any_score_and_leaves_out_the_rest() -> None:
    policy = replace(ON, languages={"hin_Deva": LanguageRoutes("hin_Deva", ("hosted", "local"), {"pivot": 0.9})})
    decision = plan(policy, replace(ASKS, language="hin_Deva"), ALL)
    assert routes(decision) == ["hosted", "local"]
    assert decision.attempts[0].reason is Reason.PINNED
    assert dropped(decision) == {"pivot": Reason.PINNED}
    by_intent = replace(policy, intents={"x": Intent("x", routes=("local",))})
    assert routes(plan(by_intent, replace(ASKS, language="hin_Deva", intent="x"), ALL)) == ["local"]


def test_english_and_unknown_languages_are_not_translated() -> None:
    for language in (None, "eng_Latn"):
        assert dropped(plan(ON, replace(ASKS, language=language), ALL)) == {"pivot": Reason.LANGUAGE_PIVOT}
    off = plan(replace(ON, pivot=False), replace(ASKS, language="tam_Taml"), ALL)
    assert dropped(off) == {"pivot": Reason.PINNED}


# load


def test_a_queue_beyond_the_slo_overflows_to_hosted_and_back() -> None:
    slow = replace(LOCAL, ttft_ms=900.0)
    assert led(plan(ON, ASKS, (slow, HOSTED))) == ("hosted", Reason.CAPACITY_OVERFLOW)
    assert led(plan(ON, ASKS, (LOCAL, HOSTED))) == ("local", Reason.ROUTINE)
    assert led(plan(replace(ON, ttft_ms=None), ASKS, (slow, HOSTED))) == ("local", Reason.ROUTINE)
    patient = replace(ON, intents={"x": Intent("x", ttft_ms=2000.0)})
    assert led(plan(patient, replace(ASKS, intent="x"), (slow, HOSTED))) == ("local", Reason.ROUTINE)
    # hosted is slower still: waiting here is better
    assert led(plan(ON, ASKS, (slow, replace(HOSTED, ttft_ms=2000.0)))) == ("local", Reason.ROUTINE)
    # another engine here is quick enough, however many requests are in it
    quick = replace(LOCAL, engine="second", in_flight=50)
    decision = plan(ON, ASKS, (slow, quick, HOSTED))
    assert (decision.attempts[0].engine, decision.attempts[0].reason) == ("second", Reason.ROUTINE)


def test_an_overflow_that_may_not_leave_waits_here() -> None:
    policy = replace(ON, when_refused="refuse")
    decision = plan(policy, replace(ASKS, asked=Asked()), (replace(LOCAL, ttft_ms=9000.0), HOSTED))
    assert led(decision) == ("local", Reason.ROUTINE)


# affinity


def test_a_conversation_stays_where_it_was_until_it_was_idle() -> None:
    at_hosted = replace(ASKS, last=Last("hosted", "gemini", "g", 60.0))
    assert led(plan(ON, at_hosted, ALL)) == ("hosted", Reason.STICKY)
    assert led(plan(ON, replace(at_hosted, last=Last("hosted", "gemini", "g", 1801.0)), ALL)) == (
        "local",
        Reason.ROUTINE,
    )
    here = replace(ASKS, last=Last("local", "chat", "m", 60.0))
    assert led(plan(ON, here, (replace(LOCAL, ttft_ms=900.0), HOSTED))) == ("local", Reason.ROUTINE)
    valued = replace(ON, value_classes={"v": ValueClass("v", hosted_first=True)}, value_class="v")
    assert led(plan(valued, here, ALL)) == ("local", Reason.ROUTINE)
    assert led(plan(valued, ASKS, ALL)) == ("hosted", Reason.HIGH_VALUE)


def test_it_stays_on_its_engine_whose_cache_has_its_history() -> None:
    busy = replace(LOCAL, engine="z", in_flight=9)
    decision = plan(ON, replace(ASKS, last=Last("local", "z", "m", 60.0)), (LOCAL, busy))
    assert (decision.attempts[0].engine, decision.attempts[0].reason) == ("z", Reason.STICKY)


def test_affinity_bends_to_what_is_gone() -> None:
    at_hosted = replace(ASKS, last=Last("hosted", "gemini", "g", 60.0))
    decision = plan(ON, at_hosted, (LOCAL, replace(HOSTED, ready=False)))
    assert led(decision) == ("local", Reason.ROUTINE)


def test_nobody_is_switched_inside_a_tool_loop() -> None:
    loop = replace(ASKS, in_tool_loop=True, customer_asked=True, last=Last("local", "chat", "m", 5.0))
    decision = plan(ON, loop, ALL)
    assert led(decision) == ("local", Reason.ROUTINE)
    assert decision.escalation is None
    away = replace(loop, last=Last("hosted", "gemini", "g", 5.0))
    assert led(plan(ON, away, ALL)) == ("hosted", Reason.STICKY)


# wishes


def test_who_asks_for_better_gets_it_also_against_affinity() -> None:
    asks = replace(ASKS, customer_asked=True, last=Last("local", "chat", "m", 5.0))
    assert led(plan(ON, asks, ALL)) == ("hosted", Reason.CUSTOMER_ASKED)


@pytest.mark.parametrize(("instead", "attempts"), [("local", 2), ("human", 0), ("refuse", 0)])
def test_what_becomes_of_a_wish_that_is_refused_the_policy_says(instead: Any, attempts: int) -> None:
    asks = replace(ASKS, language="hin_Deva", customer_asked=True, asked=Asked())
    decision = plan(replace(ON, when_refused=instead), asks, ALL)
    assert (len(decision.attempts), decision.instead, decision.wanted_hosted) == (
        attempts,
        instead,
        Reason.CUSTOMER_ASKED,
    )
    assert decision.refusal is (None if attempts else Reason.RESIDENCY)
    own = replace(ON, intents={"x": Intent("x", when_refused=instead)})
    assert len(plan(own, replace(asks, intent="x"), ALL).attempts) == attempts


# what goes with it


def test_escalation_goes_to_hosted_else_to_the_pivot_and_from_hosted_nowhere() -> None:
    hindi = replace(ASKS, language="hin_Deva")
    decision = plan(ON, hindi, ALL)
    assert decision.escalation == 2 and decision.attempts[2].route == "hosted"
    here = plan(ON, replace(hindi, asked=Asked()), ALL)
    assert here.escalation == 1 and here.attempts[1].route == "pivot"
    assert plan(ON, replace(ASKS, asked=Asked()), ALL).escalation is None
    assert plan(ON, replace(hindi, customer_asked=True), ALL).escalation is None


def test_an_intent_brings_its_own_judging_guards_class_and_limits() -> None:
    own = Intent("x", "v", guards=("amounts",), judging=Judging(threshold=0.2), deadline_s=5.0)
    policy = replace(
        ON,
        intents={"x": own},
        value_classes={"v": ValueClass("v", 7)},
        guards=("injection",),
        chain=ChainLimits(30.0, 2),
    )
    decision = plan(policy, replace(ASKS, intent="x", deadline_s=8.0), ALL)
    assert (decision.value_class.unresolved_nusd, decision.guards, decision.judging.threshold) == (7, ("amounts",), 0.2)
    assert decision.chain == ChainLimits(5.0, 2, None)
    other = plan(policy, replace(ASKS, deadline_s=8.0), ALL)
    assert (other.guards, other.judging, other.chain.deadline_s) == (("injection",), Judging(), 8.0)
    assert plan(policy, replace(ASKS, value_class="v"), ALL).value_class.name == "v"


def test_every_candidate_is_a_step_or_a_drop_and_never_both() -> None:
    states = [(r, o) for r in (True, False) for o in (True, False)]
    for (r1, o1), (r2, o2), language in itertools.product(states, states, (None, "tam_Taml", "kan_Knda")):
        given = (replace(LOCAL, ready=r1, open=o1), replace(PIVOT, ready=r1), replace(HOSTED, ready=r2, open=o2))
        decision = plan(ON, replace(ASKS, language=language), given)
        assert sorted([*routes(decision), *(drop.route for drop in decision.drops)]) == ["hosted", "local", "pivot"]
        assert [step.ordinal for step in decision.attempts] == list(range(len(decision.attempts)))
        assert bool(decision.attempts) == (decision.refusal is None)
