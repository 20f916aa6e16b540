"""Percentiles and summaries of a load run.

What it is: pure functions over recorded nanoseconds. Nearest-rank percentiles: each reported figure
is one that was measured, none is interpolated.
What it refuses to be: a smoother. No outlier is dropped.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from msgspec import Struct


class Spread(Struct, frozen=True):
    """Milliseconds; ``n`` values. All zero when nothing was measured."""

    n: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    max: float = 0.0


def percentile(ordered: Sequence[float], q: float) -> float:
    """Nearest rank of an ascending, non-empty sequence; ``q`` in (0, 100]."""
    return ordered[max(math.ceil(len(ordered) * q / 100), 1) - 1]


def spread(values_ns: Sequence[int]) -> Spread:
    """Summarise nanoseconds as milliseconds."""
    if not values_ns:
        return Spread()
    ordered = sorted(values_ns)
    p50, p90, p99 = (round(percentile(ordered, q) / 1e6, 4) for q in (50, 90, 99))
    mean = round(statistics.fmean(ordered) / 1e6, 4)
    return Spread(len(ordered), mean, p50, p90, p99, round(ordered[-1] / 1e6, 4))


class Figure(Struct, frozen=True):
    """One figure over repeats: its median and how far the repeats lie apart."""

    median: float
    low: float
    high: float
    repeats: int


def figure(values: Sequence[float]) -> Figure:
    """Median, minimum and maximum of at least one repeat."""
    return Figure(round(statistics.median(values), 4), round(min(values), 4), round(max(values), 4), len(values))
