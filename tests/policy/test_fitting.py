"""Fitting finds what a simulated world is made of, and says how good it is on what it has not seen."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy import worlds

from appliance.policy.fitting import NotEnough, ece, fit, logistic
from appliance.policy.isotonic import knots, rising
from appliance.policy.learning import Example, examples, routes, split
from appliance.policy.parameters import decode, encode, p_fail, p_fail_alternative


def test_a_logistic_model_finds_its_weights() -> None:
    rng = np.random.default_rng(1)
    x = np.column_stack([rng.normal(size=20_000), rng.gamma(2.0, 3.0, 20_000), np.zeros(20_000)])
    y = (rng.random(20_000) < 1 / (1 + np.exp(-(0.5 + 1.5 * x[:, 0] - 0.3 * x[:, 1])))).astype(float)
    intercept, weights = logistic(x, y, np.ones(20_000))
    assert intercept == pytest.approx(0.5, abs=0.12)
    assert weights == pytest.approx([1.5, -0.3, 0.0], abs=0.08)


def test_a_logistic_model_of_separable_data_stays_finite() -> None:
    x = np.array([[0.0], [1.0]] * 50)
    intercept, weights = logistic(x, x[:, 0], np.ones(100))
    assert np.isfinite([intercept, *weights]).all() and weights[0] > 1.0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 5)), min_size=1, max_size=40))
def test_a_rising_curve_rises_and_keeps_the_sum(points: list[tuple[float, float]]) -> None:
    values, weights = np.array(points).T
    found = rising(values, weights)
    assert (np.diff(found) >= -1e-12).all()
    assert found @ weights == pytest.approx(values @ weights)
    assert rising(np.sort(values), weights) == pytest.approx(np.sort(values))


def test_knots_stand_for_the_curve() -> None:
    scores = np.sort(np.random.default_rng(2).normal(size=5000))
    xs, ys = knots(scores, scores * 2)
    assert len(xs) == 40 and np.allclose(ys, xs * 2)
    xs, ys = knots(np.array([1.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.0]))
    assert xs.tolist() == [1.0, 2.0] and ys.tolist() == [0.5, 1.0]


def test_a_fit_is_calibrated_in_every_language_and_better_than_the_hand() -> None:
    rows = worlds.log(6000, seed=3, explore=0.2)
    found = fit(examples(rows), routes(rows), made_ms=7)
    parameters = found.parameters
    assert found.overall.brier < found.before.brier
    assert found.overall.ece < 0.05
    assert set(found.by_language) == set(worlds.LANGUAGES)
    for language in worlds.LANGUAGES:
        for doubt in (0.5, 1.5, 3.0):
            p = p_fail(parameters, {"doubt_p10": doubt}, (), "refund", language)
            assert p == pytest.approx(worlds.p_local(doubt, language), abs=0.12), (language, doubt)
    assert p_fail_alternative(parameters, "hosted", "refund", "hin_Deva") == pytest.approx(0.1, abs=0.04)
    assert parameters.fitted and parameters.made_ms == 7 and parameters.rows > 4000
    assert decode(encode(parameters)) == parameters
    assert fit(examples(rows), routes(rows), made_ms=7).parameters.version == parameters.version


def test_a_small_language_leans_on_everybody() -> None:
    rows = [row for row in worlds.log(3000, seed=4, explore=0.2) if row.decision.language != "sat_Olck"]
    few = [row for row in worlds.log(300, seed=5, explore=1.0) if row.decision.language == "sat_Olck"][:40]
    unlucky = [msgspec.structs.replace(row, resolved=False) for row in few]
    parameters = fit(examples(rows + unlucky), routes(rows), made_ms=1).parameters
    everybody = p_fail(parameters, {"doubt_p10": 1.0}, (), None, None)
    there = p_fail(parameters, {"doubt_p10": 1.0}, (), None, "sat_Olck")
    assert everybody < there < 0.6  # not 1.0, which is all that its own few say


def test_too_little_is_said() -> None:
    rows = worlds.log(60, seed=6, explore=0.2)
    with pytest.raises(NotEnough, match="200"):
        fit(examples(rows), routes(rows), made_ms=1)
    good = [msgspec.structs.replace(row, resolved=True) for row in worlds.log(800, seed=6, explore=0.2)]
    with pytest.raises(NotEnough, match="0 of them unresolved"):
        fit(examples(good), routes(good), made_ms=1)


def test_a_conversation_is_on_one_side_of_the_split_and_time_decides() -> None:
    found = [Example(f"c{i % 50}", i, {}, None, None, 0.0, 1.0) for i in range(200)]
    earlier, later = split(found)
    assert not {one.conversation for one in earlier} & {one.conversation for one in later}
    assert {one.conversation for one in later} == {f"c{i}" for i in range(38, 50)}
    assert len(earlier) + len(later) == 200


def test_weights_undo_what_was_sent_on() -> None:
    rows = worlds.log(2000, seed=7, explore=0.1)
    found = examples(rows)
    committed = [row for row in rows if row.decision.verdict == "commit"]
    assert len(found) == len(committed)
    assert {round(one.weight, 3) for one in found} == {1.111, 10.0}
    assert len(routes(rows)) == len(rows) - len(committed)


def shadow(of: str, agreement: float) -> worlds.Judged:
    row = worlds.log(1, seed=8, explore=0.0)[0]
    decision = msgspec.structs.replace(row.decision, shadow_of=of, agreement=agreement)
    return msgspec.structs.replace(row, request_id=f"s_{of}", decision=decision)


def test_agreement_counts_as_far_as_it_goes_with_outcomes() -> None:
    rows = worlds.log(400, seed=9, explore=0.0, threshold=1.0)[:200]
    known, unknown = rows[:150], [msgspec.structs.replace(row, resolved=None) for row in rows[150:]]
    shadows = [shadow(row.request_id, 0.9 if row.resolved else 0.2) for row in known]
    shadows += [shadow(row.request_id, 0.95) for row in unknown]
    found = {one.conversation: one for one in examples([*known, *unknown, *shadows])}
    soft = [found[row.conversation] for row in unknown]
    assert {(one.label, one.weight) for one in soft} == {(0.0, 0.5)}
    few = examples([*known[:20], *unknown, *shadows[:20], *shadows[150:]])
    assert len(few) == 20  # too few have both to know what agreement means


def test_calibration_error() -> None:
    p, w = np.full(100, 0.3), np.ones(100)
    assert ece(p, np.repeat([1.0, 0.0], [30, 70])[np.random.default_rng(1).permutation(100)], w) < 0.2
    assert ece(p, np.ones(100), w) == pytest.approx(0.7)
