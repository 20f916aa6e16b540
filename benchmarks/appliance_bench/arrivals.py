"""When requests arrive: at random, in bursts, or as they once did.

What it is: pure functions from a rate and a random generator to times in seconds from the start, in order.
``poisson`` is what many independent people make; ``bursty`` has gaps three times as uneven (a gamma distribution);
``shaped`` follows a density that was counted from the ledger's times of arrival, which hold no text.
What it refuses to be: closed loop. Who waits for an answer before asking again hides what an engine does under load.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate

KINDS = ("poisson", "bursty", "shaped")
_UNEVEN = 3.0


def arrivals(kind: str, rate: float, count: int, rng: random.Random, density: Sequence[float] = ()) -> list[float]:
    """``count`` times at ``rate`` a second on average."""
    if kind == "bursty":
        # gamma with a coefficient of variation of 3: shape 1/9
        shape = 1 / _UNEVEN**2
        return list(accumulate(rng.gammavariate(shape, 1 / (shape * rate)) for _ in range(count)))
    if kind == "shaped" and density:
        length_s = count / rate
        bins = rng.choices(range(len(density)), weights=density, k=count)
        return sorted((one + rng.random()) * length_s / len(density) for one in bins)
    return list(accumulate(rng.expovariate(rate) for _ in range(count)))


def density_of(unix_times: Sequence[float], bins: int = 96) -> list[float]:
    """How traffic spreads over a day, from times of arrival (UTC): counts a quarter of an hour."""
    counts = [0.0] * bins
    for at in unix_times:
        counts[int(at % 86_400 / 86_400 * bins)] += 1
    return counts
