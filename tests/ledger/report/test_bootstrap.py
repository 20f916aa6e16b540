"""Intervals that can be checked against what they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.ledger.report.bootstrap import Blocks, ratio, ratios


def test_a_share_has_the_width_that_theory_gives() -> None:
    for count in (100, 5000, 100_000):
        hits = np.random.default_rng(count).random(count) < 0.3
        span = ratio(hits, np.ones(count))
        assert span.low is not None and span.high is not None and span.value is not None
        assert span.value == pytest.approx(hits.mean())
        expected = 2 * 1.96 * np.sqrt(span.value * (1 - span.value) / count)
        assert span.high - span.low == pytest.approx(expected, rel=0.2)
        assert span.low < span.value < span.high


def test_groups_do_not_mix() -> None:
    group = np.array([0] * 50 + [1] * 50 + [-1] * 50)
    spans = ratios(Blocks(group, 3), np.repeat([2.0, 5.0, 1000.0], 50), np.ones(150))
    assert [span.value for span in spans] == [2.0, 5.0, None]
    assert (spans[0].low, spans[0].high) == (2.0, 2.0)


def test_the_same_every_time() -> None:
    values = np.random.default_rng(1).random(3000)
    assert ratio(values, np.ones(3000)) == ratio(values, np.ones(3000))


def test_nothing_to_divide_by() -> None:
    assert ratio(np.ones(5), np.zeros(5)).value is None
    assert ratio(np.ones(0), np.ones(0)).value is None


def test_too_few_for_an_interval() -> None:
    span = ratio(np.array([2.0, 4.0]), np.ones(2))
    assert (span.value, span.low, span.high) == (3.0, None, None)
