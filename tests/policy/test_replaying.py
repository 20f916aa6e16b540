"""Off-policy estimates against worlds whose truth is known."""

from __future__ import annotations

import functools

import msgspec
import numpy as np
import pytest
from policy import worlds

from appliance.policy import estimate
from appliance.policy.parameters import BY_HAND, Curve, Parameters
from appliance.policy.replaying import replay, terms
from appliance.policy.values import BUILT_IN, Intent, Judging, Policy, ValueClass

DOLLAR = 1_000_000_000
# the truth as parameters: one curve a language over doubt
_GRID = [x / 20 for x in range(400)]
TRUE = Parameters(
    intercept=0.0,
    weights={"doubt_p10": 1.0},
    curves={
        f"*|{language}": Curve(tuple(_GRID), tuple(worlds.p_local(x, language) for x in _GRID))
        for language in worlds.LANGUAGES
    },
    alternatives={"hosted|*|*": worlds.HOSTED_FAILS},
    version="true",
)
WRONG = msgspec.structs.replace(TRUE, curves={"*|*": Curve((0.0,), (0.25,))}, version="wrong")
# escalate from p = 0.1 + 0.2 on, where the log did it from 0.5 on
CAREFUL = Policy(value_class="s", value_classes={"s": ValueClass("s", 5 * worlds.HOSTED_NUSD)}, judging=Judging(0.0))


@functools.cache
def truth(seed: int, p_from: float) -> tuple[float, float]:
    """Share resolved and escalated had the rule been another one, in a world of the same make."""
    rows = worlds.log(20_000, seed, explore=0.0, threshold=p_from)
    return (
        float(np.mean([bool(row.resolved) for row in rows])),
        float(np.mean([row.decision.verdict == "escalate" for row in rows])),
    )


def test_the_replay_finds_what_another_policy_would_have_come_to() -> None:
    rows = worlds.log(8000, seed=11, explore=0.2)
    resolved, escalated = truth(12, 0.3)
    found = replay(rows, CAREFUL, TRUE)
    assert found.new.escalated.value == pytest.approx(escalated, abs=0.02)
    assert found.new.resolved.low <= resolved <= found.new.resolved.high
    assert found.new.resolved.value == pytest.approx(resolved, abs=0.02)
    assert found.new_ips is not None
    assert found.new_ips.resolved.value == pytest.approx(resolved, abs=0.03)
    assert found.new.resolved.value > found.logged.resolved.value
    assert found.new.hosted_nusd.value == pytest.approx(escalated * worlds.HOSTED_NUSD, rel=0.06)
    assert 0 < found.overlap.changed == found.overlap.tried < found.overlap.rows == found.rows


def test_propensities_save_a_wrong_model() -> None:
    """Decisions by the truth, values by a model that knows nothing: doubly robust still finds the share."""
    rows = worlds.log(8000, seed=13, explore=0.2)
    was = np.array([row.decision.verdict == "escalate" for row in rows])
    will = np.array(
        [worlds.p_local(row.decision.signals["doubt_p10"], str(row.decision.language)) > 0.3 for row in rows]
    )
    values = np.array([float(bool(row.resolved)) for row in rows])
    weights = estimate.weights_of(was == will, np.array([row.decision.propensity for row in rows]))
    guess = np.full(len(rows), 0.25)
    resolved, _ = truth(12, 0.3)
    names = [row.conversation for row in rows]
    robust = estimate.mean(estimate.doubly_robust(values, weights, guess, guess), names, 1)
    plain = estimate.mean(estimate.ips(values, weights), names, 1)
    assert robust.low <= resolved <= robust.high
    assert plain.low <= resolved <= plain.high
    assert robust.high - robust.low < plain.high - plain.low


def test_the_model_saves_wrong_propensities() -> None:
    rows = worlds.log(8000, seed=15, explore=0.2)
    lying = [
        msgspec.structs.replace(row, decision=msgspec.structs.replace(row.decision, propensity=0.5)) for row in rows
    ]
    resolved, _ = truth(12, 0.3)
    found = replay(lying, CAREFUL, TRUE)
    assert found.new.resolved.value == pytest.approx(resolved, abs=0.02)


def test_without_exploration_the_replay_says_that_it_is_the_models_word() -> None:
    found = replay(worlds.log(2000, seed=17, explore=0.0), CAREFUL, TRUE)
    assert found.overlap.changed > 0 and found.overlap.tried == 0


def test_the_same_policy_changes_nothing() -> None:
    rows = worlds.log(1000, seed=18, explore=0.0)
    same = Policy(value_class="s", value_classes={"s": ValueClass("s", round(worlds.HOSTED_NUSD / 0.4))})
    found = replay(rows, same, TRUE)
    assert found.overlap.changed == 0
    assert found.new.resolved == found.logged.resolved
    assert found.new.hosted_nusd == found.logged.hosted_nusd


def test_too_little_is_said() -> None:
    rows = worlds.log(300, seed=19, explore=0.1, unknown=1.0)
    with pytest.raises(ValueError, match="0 of the"):
        replay(rows, BUILT_IN, BY_HAND)


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(20)
    covered = 0
    for seed in range(100):
        of = rng.normal(0.0, 1.0, 60)  # what the rows of a conversation share
        values = np.repeat(of, 5) + rng.normal(0.0, 0.3, 300)
        names = [f"c{i // 5}" for i in range(300)]
        found = estimate.mean(values, names, seed, times=300)
        covered += found.low <= 0.0 <= found.high
    assert 86 <= covered <= 100  # rows by themselves would cover some 60


def test_terms_of_an_intent() -> None:
    gold, base = ValueClass("gold", 5), ValueClass("base", 1)
    policy = Policy(
        value_class="base",
        value_classes={"gold": gold, "base": base},
        intents={"loan": Intent("loan", value_class="gold", judging=Judging(threshold=0.2))},
    )
    assert terms(policy, "loan", None) == (Judging(threshold=0.2), gold)
    assert terms(policy, "loan", "base")[1] == base
    assert terms(policy, None, "weird") == (Judging(), base)
    assert terms(BUILT_IN, None, None) == (Judging(), ValueClass(""))
