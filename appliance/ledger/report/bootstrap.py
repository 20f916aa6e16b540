"""Intervals for ratios of sums, by bootstrap, for many groups at once.

What it is: each group's conversations are dealt into at most 256 blocks (one each where there are fewer), the blocks
are drawn again 1,000 times, and the middle 95 % of the ratios is the interval. With up to 256 conversations this is
the ordinary bootstrap; with more, blocks of equal size stand for them, which leaves the interval's width right to some
5 %.
What it refuses to be: random from run to run, or an interval where a redraw may well hold nothing to divide by.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from appliance.ledger.report.values import Span

_BLOCKS = 256
_DRAWS = 1000
_SEED = 20261125
_LEAST = 10  # fewer in the denominator, and the interval would be an ornament

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Blocks:
    """Which block each conversation is dealt into, given its group (a place below ``groups``; negative: none)."""

    def __init__(self, group: Ints, groups: int) -> None:
        self.groups = groups
        self._chosen = np.flatnonzero(group >= 0)
        own = group[self._chosen]
        self.sizes = np.bincount(own, minlength=groups)
        order = np.argsort(own, kind="stable")
        starts = np.cumsum(self.sizes) - self.sizes
        position = np.empty(len(own), np.int64)
        position[order] = np.arange(len(own)) - np.repeat(starts, self.sizes)
        self._cell = own * _BLOCKS + position % _BLOCKS

    def sums(self, values: npt.NDArray[np.generic]) -> Floats:
        """Sums of ``values`` by group and block."""
        flat = np.bincount(self._cell, values[self._chosen].astype(np.float64), self.groups * _BLOCKS)
        return flat.astype(np.float64, copy=False).reshape(self.groups, _BLOCKS)


def ratios(blocks: Blocks, above: npt.NDArray[np.generic], below: npt.NDArray[np.generic]) -> list[Span]:
    """Sum of ``above`` ÷ sum of ``below`` of every group, with intervals."""
    up, down = blocks.sums(above), blocks.sums(below)
    weights: dict[int, Floats] = {}
    result = []
    for number, size in enumerate(blocks.sizes.tolist()):
        whole = float(down[number].sum())
        if whole <= 0:
            result.append(Span(None))
            continue
        value = float(up[number].sum()) / whole
        count = min(size, _BLOCKS)
        if whole < _LEAST:
            result.append(Span(value))
            continue
        if count not in weights:
            rng = np.random.default_rng(_SEED)
            weights[count] = rng.multinomial(count, np.full(count, 1 / count), _DRAWS).astype(np.float64)
        drawn_up, drawn_down = weights[count] @ up[number, :count], weights[count] @ down[number, :count]
        drawn = drawn_up[drawn_down > 0] / drawn_down[drawn_down > 0]
        low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
        result.append(Span(value, low, high))
    return result


def ratio(above: npt.NDArray[np.generic], below: npt.NDArray[np.generic]) -> Span:
    """The same for one group of all."""
    return ratios(Blocks(np.zeros(len(above), np.int64), 1), above, below)[0]
