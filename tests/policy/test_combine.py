"""The expected-cost rule, and what holds before anything is fitted."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.policy.combine import Context, decision, draw_of, judge
from appliance.policy.parameters import BY_HAND, Curve, Parameters, decode, encode, p_fail_alternative
from appliance.policy.values import Judging, ValueClass
from appliance.types import Reason

FITTED = Parameters(
    intercept=0.0, weights={"doubt_p10": 1.0}, version="1", alternatives={"hosted|*|*": 0.1, "hosted|*|tam_Taml": 0.3}
)
DOLLAR = 1_000_000_000
WORTH = ValueClass("standard", unresolved_nusd=DOLLAR)


def context(**fields: object) -> Context:
    return Context(**{"alternative": "hosted", "value_class": WORTH, "cost_nusd": 1_000_000, **fields})  # type: ignore[arg-type]


def test_nothing_permitted_nothing_escalated() -> None:
    found = judge(BY_HAND, {"empty": 1.0}, context(alternative=None))
    assert (found.verdict, found.reason, found.propensity) == ("commit", None, 1.0)
    assert found.p_fail >= 0.99


def test_a_good_answer_is_committed_and_broken_ones_escalate_with_the_gravest_reason() -> None:
    assert judge(BY_HAND, {"doubt_p10": 0.7}, context()).verdict == "commit"
    expected = {
        "empty": Reason.EMPTY_OUTPUT,
        "schema_failed": Reason.SCHEMA_FAILED,
        "repetition": Reason.REPETITION,
        "wrong_language": Reason.WRONG_LANGUAGE,
        "truncated": Reason.TRUNCATED,
        "entities_lost": Reason.ENTITIES_LOST,
        "unfounded": Reason.LOW_CONFIDENCE,
    }
    for name, reason in expected.items():
        found = judge(BY_HAND, {name: 1.0}, context())
        assert (found.verdict, found.reason) == ("escalate", reason)
    assert judge(BY_HAND, {"truncated": 1.0, "wrong_language": 1.0}, context()).reason is Reason.WRONG_LANGUAGE
    assert judge(BY_HAND, {"repetition": 0.3}, context()).verdict == "commit"


def test_the_rule_is_in_money() -> None:
    # p = sigmoid(0) = 0.5 against 0.1: worth 0.4 dollars
    assert judge(FITTED, {}, context(cost_nusd=399_000_000)).verdict == "escalate"
    assert judge(FITTED, {}, context(cost_nusd=401_000_000)).verdict == "commit"
    slow = Judging(latency_nusd_per_s=100_000_000)
    assert judge(FITTED, {}, context(judging=slow, extra_s=3.9)).verdict == "escalate"
    assert judge(FITTED, {}, context(judging=slow, extra_s=4.1)).verdict == "commit"
    cheap = ValueClass("cheap", unresolved_nusd=2_000_000)
    assert judge(FITTED, {}, context(value_class=cheap)).verdict == "commit"
    assert judge(FITTED, {}, context()).reason is Reason.LOW_CONFIDENCE
    assert judge(FITTED, {}, context()).saving_nusd == pytest.approx(399_000_000)


def test_a_route_that_is_no_better_is_not_taken() -> None:
    no_better = msgspec.structs.replace(FITTED, alternatives={"hosted|*|*": 0.6})
    assert judge(no_better, {}, context(cost_nusd=0)).verdict == "commit"
    assert p_fail_alternative(FITTED, "hosted", "refund", "tam_Taml") == 0.3
    assert p_fail_alternative(FITTED, "hosted", "refund", "hin_Deva") == 0.1
    assert p_fail_alternative(FITTED, "pivot", None, None) == BY_HAND.alternatives["pivot|*|*"]


def test_before_a_fit_the_threshold_stands_beside_the_rule() -> None:
    doubtful = {"doubt_p10": 5.0, "corrected": 1.0}
    strict = context(judging=Judging(threshold=0.9))
    assert judge(BY_HAND, doubtful, context()).verdict == "escalate"
    assert judge(BY_HAND, doubtful, strict).verdict == "commit"
    fitted = msgspec.structs.replace(BY_HAND, version="2")
    assert judge(fitted, doubtful, strict).verdict == "escalate"


def test_defects_are_graver_than_any_fit_says() -> None:
    careless = Parameters(intercept=-9.0, weights={}, version="3")
    assert judge(careless, {"schema_failed": 1.0}, context()).verdict == "escalate"


def test_the_narrowest_curve_counts() -> None:
    flat = {name: Curve((0.0,), (y,)) for name, y in (("*|*", 0.1), ("*|hin_Deva", 0.2), ("refund|hin_Deva", 0.3))}
    parameters = Parameters(0.0, {}, curves=flat, version="4")

    def p(intent: str | None, language: str | None) -> float:
        return judge(parameters, {}, Context(intent=intent, language=language)).p_fail

    assert [p("refund", "hin_Deva"), p("other", "hin_Deva"), p(None, "hin_Deva"), p("refund", "tam_Taml")] == [
        0.3, 0.2, 0.2, 0.1,
    ]  # fmt: skip


def test_exploring_turns_doubtful_decisions_round_and_says_how_likely_that_was() -> None:
    for draw, verdict, propensity in ((0.05, "commit", 0.1), (0.5, "escalate", 0.9)):
        found = judge(FITTED, {}, context(judging=Judging(explore=0.1), draw=draw))
        assert (found.verdict, found.propensity) == (verdict, propensity)
    broken = judge(FITTED, {"empty": 1.0}, context(judging=Judging(explore=0.1), draw=0.0))
    assert (broken.verdict, broken.propensity) == ("escalate", 1.0)


def test_draws_are_uniform_and_stay_the_same() -> None:
    draws = [draw_of(f"req_{i}") for i in range(4000)]
    assert draws == [draw_of(f"req_{i}") for i in range(4000)]
    assert all(0.0 <= draw < 1.0 for draw in draws)
    assert 0.46 < sum(draws) / 4000 < 0.54 and 0.07 < sum(draw < 0.1 for draw in draws) / 4000 < 0.13


@given(st.floats(0, 30), st.floats(0, 30))
def test_more_doubt_never_means_less_risk(one: float, other: float) -> None:
    low, high = sorted((one, other))
    first, second = (judge(BY_HAND, {"doubt_p10": x}, context()).p_fail for x in (low, high))
    assert first <= second


def test_a_decision_has_all_that_learning_needs() -> None:
    asked = context(intent="refund", language="hin_Deva", extra_s=0.5)
    verdict = judge(FITTED, {"doubt_p10": 1.0}, asked)
    found = decision(verdict, {"doubt_p10": 1.0}, asked, "abc", FITTED)
    assert (found.policy, found.parameters, found.verdict, found.alternative) == ("abc", "1", "escalate", "hosted")
    assert (found.signals, found.extra_s, found.value_class) == ({"doubt_p10": 1.0}, 0.5, "standard")
    assert (found.intent, found.language, found.propensity) == ("refund", "hin_Deva", 1.0)


def test_the_file_comes_back_as_it_was() -> None:
    full = msgspec.structs.replace(FITTED, curves={"*|*": Curve((0.0, 1.0), (0.1, 0.9))})
    assert decode(encode(full)) == full


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"intercept": 0, "weights": {}, "weird": 1}',
             encode(FITTED).replace(b'"format": 1', b'"format": 9'),
             b'{"intercept": 0, "weights": {}, "curves": {"*|*": {"xs": [1, 0], "ys": [0, 1]}}}']
)  # fmt: skip
def test_a_broken_file_is_one_sentence(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"appliance policy fit"):
        decode(data)


def test_a_curve_is_flat_beyond_its_ends_and_straight_between() -> None:
    curve = Curve((0.0, 2.0, 4.0), (0.1, 0.5, 0.5))
    assert [curve.at(x) for x in (-1, 0, 1, 3, 9)] == [0.1, 0.1, pytest.approx(0.3), 0.5, 0.5]
