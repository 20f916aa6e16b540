"""Curves and figures of a routing benchmark, each with an interval from resampled conversations.

What it is: risk by coverage (errors among the answers that stay, as fewer of them stay), its area, what it costs to
reach a share of the strong model's quality, calibration by language. All of it on weights, so that a resample is a
vector.
What it refuses to be: kind. A method that never reaches the quality has no cost for it. Calibration error grows in a
resample, so its interval leans upwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from appliance_bench.routing_data import Case

Floats = NDArray[np.float64]
_BINS = 10


class Interval(Struct, frozen=True):
    """A figure and where 95 of 100 resamples put it; all NaN where there is none."""

    value: float
    low: float
    high: float


class World:
    """The cases as columns, and the weights of the resamples (one row each; the first is the file itself)."""

    def __init__(self, cases: Sequence[Case], times: int, seed: int) -> None:
        self.weak = np.array([float(one.weak) for one in cases])
        self.strong = np.array([float(one.strong) for one in cases])
        self.weak_cost = np.array([one.weak_cost for one in cases])
        self.strong_cost = np.array([one.strong_cost for one in cases])
        _, whose = np.unique([one.group for one in cases], return_inverse=True)
        groups = int(whose.max()) + 1
        rng = np.random.default_rng(seed)
        self._weights = [np.ones(len(cases))]
        for _ in range(times):
            drawn = np.bincount(rng.integers(0, groups, groups), minlength=groups)
            self._weights.append(drawn[whose].astype(np.float64))

    def interval(self, figure: Callable[[Floats], float]) -> Interval:
        """``figure`` of the weights, with its interval."""
        values = [figure(weights) for weights in self._weights]
        rest = np.array([value for value in values[1:] if not np.isnan(value)])
        if np.isnan(values[0]) or not len(rest):
            return Interval(values[0], float("nan"), float("nan"))
        low, high = np.quantile(rest, [0.025, 0.975])
        return Interval(values[0], float(low), float(high))


class Curve(Struct, frozen=True):
    """By the share that is sent to the strong model: what stays wrong among the rest, the quality and cost of all."""

    share: Floats
    risk: Floats
    quality: Floats
    cost: Floats


def curve(world: World, scores: Floats, weights: Floats, cascade: bool = True) -> Curve:
    """Cases are sent in the order of their ``scores``; of equal ones, a part of all alike.

    ``cascade``: the weak answer is made, and paid for, before it is known whether it stays.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    w = weights[order]

    def sent(values: Floats) -> Floats:
        return np.concatenate([[0.0], np.cumsum(w * values[order])[ends]])

    total = w.sum()
    mass = sent(np.ones(len(order)))
    wrong = sent(1.0 - world.weak)
    stay = np.maximum(total - mass, 1e-12)
    risk = (wrong[-1] - wrong) / stay
    for place in np.flatnonzero(total - mass <= 1e-9):  # nothing stays: as of the last answers that did
        risk[place] = risk[place - 1]
    quality = (sent(world.strong) + sent(world.weak)[-1] - sent(world.weak)) / total
    weak_cost = w @ world.weak_cost[order] - (0.0 if cascade else sent(world.weak_cost))
    cost = (weak_cost + sent(world.strong_cost)) / total
    return Curve(mass / total, risk, quality, cost)


def area(found: Curve) -> float:
    """Under risk by coverage, coverage from 0 to 1; where all stay it is the weak model's error rate."""
    return float(np.trapezoid(found.risk[::-1], 1.0 - found.share[::-1]))


def at_quality(found: Curve, wanted: float) -> tuple[float, float]:
    """Cost and share of the cheapest mixture of neighbouring points with that quality; NaN where there is none."""
    reached = np.flatnonzero(found.quality >= wanted - 1e-12)
    if not len(reached):
        return float("nan"), float("nan")
    place = reached[np.argmin(found.cost[reached])]
    if place == 0:
        return float(found.cost[0]), float(found.share[0])
    low, high = found.quality[place - 1], found.quality[place]
    part = 1.0 if high <= low or low >= wanted else (wanted - low) / (high - low)
    return (
        float(found.cost[place - 1] + part * (found.cost[place] - found.cost[place - 1])),
        float(found.share[place - 1] + part * (found.share[place] - found.share[place - 1])),
    )


def quality_at(found: Curve, share: float) -> float:
    """The quality where ``share`` of the cases is sent."""
    return float(np.interp(share, found.share, found.quality))


def brier(p: Floats, failed: Floats, weights: Floats) -> float:
    """Mean squared gap of probability and what happened."""
    return float(np.average((p - failed) ** 2, weights=weights)) if weights.sum() else float("nan")


def ece(p: Floats, failed: Floats, weights: Floats) -> float:
    """Expected calibration error, ten bins of as many cases each."""
    inside = np.flatnonzero(weights > 0)
    if not len(inside):
        return float("nan")
    order = inside[np.argsort(p[inside], kind="stable")]
    gap = 0.0
    for part in np.array_split(order, min(_BINS, len(order))):
        w = weights[part]
        gap += abs(float(w @ p[part]) - float(w @ failed[part]))
    return gap / float(weights.sum())
