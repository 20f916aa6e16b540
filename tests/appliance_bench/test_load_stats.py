"""Percentiles are measured values, and figures keep their spread."""

from __future__ import annotations

import pytest

from appliance_bench.load_stats import Spread, figure, percentile, spread


@pytest.mark.parametrize(("q", "expected"), [(1, 1), (50, 50), (99, 99), (100, 100)])
def test_nearest_rank(q: float, expected: int) -> None:
    assert percentile(range(1, 101), q) == expected


def test_a_percentile_of_few_values_is_one_of_them() -> None:
    assert percentile([3.0, 10.0], 50) == 3.0
    assert percentile([3.0, 10.0], 99) == 10.0


def test_spread_turns_nanoseconds_into_milliseconds() -> None:
    found = spread([3_000_000, 1_000_000, 2_000_000])
    assert (found.n, found.mean, found.p50, found.p99, found.max) == (3, 2.0, 2.0, 3.0, 3.0)
    assert spread([]) == Spread()


def test_a_figure_keeps_how_far_repeats_lie_apart() -> None:
    found = figure([5.0, 1.0, 3.0])
    assert (found.median, found.low, found.high, found.repeats) == (3.0, 1.0, 5.0, 3)
