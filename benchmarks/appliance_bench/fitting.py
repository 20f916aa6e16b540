"""From a few closed loops to a profile: the engine's times that make the simulation reproduce what was measured.

What it is: ``fit`` moves one parameter after another, up and down by a factor that shrinks (a pattern search in
logarithms), until the simulated throughput and latency of every closed loop lie nearest to the measured ones.
What it refuses to be: a look at the runs that are to be predicted. Those are other runs, in the open loop.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from appliance_bench.box import BoxProfile, Call, Turn, closed_loop
from appliance_bench.stations import Service

Values = Mapping[str, float]


class Loop(Struct, frozen=True):
    """A closed loop that was measured. ``work``: (units, prompt) of its requests."""

    callers: int
    per_s: float
    latency_ms: float
    ttft_ms: float
    work: tuple[tuple[float, float], ...]


class Fit(Struct, frozen=True):
    """``error``: root mean square of the logarithms of simulated over measured; 0.05 is some 5 %."""

    values: dict[str, float]
    error: float
    simulated: tuple[tuple[int, float, float, float], ...]


def simulate(service: Service, loop: Loop, engine: str = "e") -> tuple[float, float, float]:
    """Requests a second, mean latency and mean time to the first piece, of one closed loop."""
    turns = [Turn("", (Call(engine, units, prompt),)) for units, prompt in loop.work]
    # the few that a measurement holds say little of a queue's mean: go through them some times
    turns = turns * max(1, 200 // len(turns))
    random.Random(1).shuffle(turns)
    seconds, left = closed_loop(BoxProfile({engine: service}, 0.0), loop.callers, turns)
    return (
        len(left) / seconds,
        sum(one.e2e_ms for one in left) / len(left),
        sum(one.ttft_ms for one in left) / len(left),
    )


def fit(
    make: Callable[[Values], Service], start: Values, loops: Sequence[Loop], first: bool = False, rounds: int = 40
) -> Fit:
    """``start`` must be above 0 everywhere. ``first``: fit the time to the first piece as well."""
    values = dict(start)

    def wrong(candidate: Values) -> float:
        service = make(candidate)
        total, count = 0.0, 0
        for loop in loops:
            per_s, latency, ttft = simulate(service, loop)
            pairs = [(per_s, loop.per_s), (latency, loop.latency_ms)]
            pairs += [(ttft, loop.ttft_ms)] if first else []
            total += sum(math.log(got / want) ** 2 for got, want in pairs)
            count += len(pairs)
        return math.sqrt(total / count)

    best = wrong(values)
    step = 0.5
    for _ in range(rounds):
        better = False
        for name in values:
            for sign in (1, -1):
                candidate = {**values, name: values[name] * math.exp(sign * step)}
                error = wrong(candidate)
                if error < best - 1e-6:
                    values, best, better = candidate, error, True
                    break
        if not better:
            step /= 2
            if step < 0.01:
                break
    service = make(values)
    shown = tuple((loop.callers, *simulate(service, loop)) for loop in loops)
    return Fit(values, best, shown)
