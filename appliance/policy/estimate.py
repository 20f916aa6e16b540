"""What another policy would have come to, from the log of this one: off-policy evaluation.

What it is: per-row terms of three estimators, and their means with an interval from resampling conversations. Inverse
propensity (unbiased where every decision had a chance; noisy), self-normalised (less noisy, a little biased), doubly
robust (a model's guess, corrected by what was logged; right if either the model or the propensities are).
What it refuses to be: sure where nothing was tried. ``Overlap`` says how many of the changed decisions had any chance
under the old policy; the rest of a doubly robust figure is the model's word alone.
What it costs: 0.14 s for 10,000 rows and 1,000 resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_MOST_WEIGHT = 100.0


class Estimate(Struct, frozen=True):
    """A mean over requests and its interval, 95 % unless another was asked for."""

    value: float
    low: float
    high: float


class Overlap(Struct, frozen=True):
    """``changed``: decisions the new policy takes otherwise; ``tried``: those of them the old one might have taken.

    ``weight_rows``: how many equally weighted rows the inverse propensities are worth (Kish).
    """

    rows: int
    changed: int
    tried: int
    weight_rows: float


def weights_of(agrees: Bools, propensities: Floats) -> Floats:
    """1/propensity where the new policy takes the decision that was logged, else 0."""
    return np.where(agrees, 1.0 / np.maximum(propensities, 1.0 / _MOST_WEIGHT), 0.0)


def ips(values: Floats, weights: Floats) -> Floats:
    """Terms whose mean is the inverse-propensity estimate of ``values`` under the new policy."""
    return weights * values


def doubly_robust(values: Floats, weights: Floats, predicted_new: Floats, predicted_logged: Floats) -> Floats:
    """Terms whose mean is the doubly robust estimate. The predictions are a model's, of the new and old decision."""
    return predicted_new + weights * (values - predicted_logged)


def overlap(agrees: Bools, propensities: Floats) -> Overlap:
    """How much the log can say."""
    weights = weights_of(agrees, propensities)
    total, squares = float(weights.sum()), float((weights**2).sum())
    changed = ~agrees
    tried = int((changed & (propensities < 1.0)).sum())
    return Overlap(len(agrees), int(changed.sum()), tried, total**2 / squares if squares else 0.0)


def mean(
    terms: Floats,
    conversations: Sequence[str],
    seed: int,
    *,
    over: Floats | None = None,
    times: int = 1000,
    level: float = 0.95,
) -> Estimate:
    """Mean of ``terms``, or Σ terms ÷ Σ ``over``; conversations are resampled whole: their rows hang together."""
    _, whose = np.unique(np.array(conversations), return_inverse=True)
    sums = np.bincount(whose, weights=terms)
    sizes = np.bincount(whose, weights=np.ones_like(terms) if over is None else over)
    total = sizes.sum()
    value = float(sums.sum() / total) if total else float("nan")
    rng = np.random.default_rng(seed)
    drawn = np.empty(times)
    for i in range(times):
        chosen = rng.integers(0, len(sums), len(sums))
        size = sizes[chosen].sum()
        drawn[i] = sums[chosen].sum() / size if size else value
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high))
