"""How much one box carries, and how many of them a day needs.

What it is: a search over simulations. ``carried`` finds the most conversations a second of which a box answers the
wanted share of turns of every kind within their SLO (exponential probe, then bisection, the same seeds at every load).
Conversations stay with their box (that is what keeps its prefix cache worth something), so each of N boxes sees a
Poisson process of a N-th of the load, and N is a division.
What it refuses to be: optimistic about luck. Whatever has not left by the end of the run was too late.
What it costs: some 20 simulations of a few thousand turns, half a minute on a slow core.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from appliance_bench.box import BoxProfile, Left, Simulation, Turn, poisson
from appliance_bench.mix import Mix
from appliance_bench.records import RecordError

DRAIN_S = 120.0
_PRECISION = 0.02
_MOST_PER_S = 1e5


class Seen(Struct, frozen=True):
    """One load of one box. ``within``: share of turns inside their SLO; ``busy``: of time with an engine at work.

    A 95th percentile is None where more than one turn in twenty had not left by the end.
    """

    per_s: float
    turns: int
    within: float
    busy: float
    by_kind: dict[str, float]
    ttft_p95_ms: float | None
    e2e_p95_ms: float | None
    engines: dict[str, float]

    @property
    def worst(self) -> float:
        """Share within, of the kind that fares worst."""
        return min(self.by_kind.values(), default=0.0)


class Carried(Struct, frozen=True):
    """The most a box carries, the loads that were tried on the way, and what it looks like there."""

    per_s: float
    there: Seen
    tried: tuple[Seen, ...]


def observe(profile: BoxProfile, mix: Mix, per_s: float, *, turns: int, seeds: Sequence[int]) -> Seen:
    """One box at ``per_s`` conversations a second: about ``turns`` turns in all seeds together."""
    judged: list[tuple[str, Left | None]] = []
    busy: list[float] = []
    used: dict[str, list[float]] = defaultdict(list)
    for seed in seeds:
        sim, come, measured_s = _run(profile, mix, per_s, turns / len(seeds), seed)
        judged += come
        busy.append(sim.busy_s / measured_s)
        for name, station in sim.stations.items():
            used[name].append(station.busy_s / measured_s)
    bounds = {kind.name: kind.bounds for kind in mix.kinds}
    good: dict[str, list[bool]] = defaultdict(list)
    for kind, left in judged:
        good[kind].append(left is not None and bounds[kind].kept(left))
    every = [one for values in good.values() for one in values]
    late = math.inf
    return Seen(
        per_s,
        len(every),
        _mean(every),
        min(1.0, _mean(busy)),
        {name: _mean(values) for name, values in sorted(good.items())},
        _p95([late if left is None else left.ttft_ms for _, left in judged]),
        _p95([late if left is None else left.e2e_ms for _, left in judged]),
        {name: _mean(values) for name, values in used.items()},
    )


def carried(
    profile: BoxProfile,
    mix: Mix,
    *,
    within: float,
    turns: int = 2000,
    seeds: Sequence[int] = (1, 2),
    said: Callable[[Seen], None] = lambda seen: None,
) -> Carried:
    """The most a box carries. Raises RecordError for an SLO that not even an idle box meets, naming the nearest."""
    tried: list[Seen] = []

    def look(per_s: float) -> Seen:
        tried.append(observe(profile, mix, per_s, turns=turns, seeds=seeds))
        said(tried[-1])
        return tried[-1]

    low = _idle(profile, mix, turns, seeds)
    first = look(low)
    if first.worst < within:
        raise RecordError(_unmeetable(profile, mix, first, within, turns, seeds))
    good, high = first, math.inf
    while high == math.inf:
        seen = look(low * 2)
        if seen.worst >= within:
            low, good = low * 2, seen
            if low > _MOST_PER_S:
                raise RecordError("the profile has no limit: its engines take no time; measure them first")
        else:
            high = low * 2
    while high / low > 1 + _PRECISION:
        middle = math.sqrt(low * high)
        seen = look(middle)
        low, good, high = (middle, seen, high) if seen.worst >= within else (low, good, middle)
    return Carried(low, good, tuple(sorted(tried, key=lambda one: one.per_s)))


def boxes_for(peak_per_s: float, box_per_s: float) -> int:
    """Boxes that carry ``peak_per_s``; never fewer for more load, and at least one."""
    return max(1, math.ceil(peak_per_s / box_per_s - 1e-9))


def _run(
    profile: BoxProfile, mix: Mix, per_s: float, turns: float, seed: int
) -> tuple[Simulation, list[tuple[str, Left | None]], float]:
    """About ``turns`` turns that count, of conversations some of which began before the run.

    A turn comes its pauses after the first one, however long answers took: who waited long still comes back. The first
    tenth of the run fills the box and does not count.
    """
    rng = random.Random(seed)
    sim = Simulation(profile)
    length_s = turns / mix.turns / per_s
    begin_s, end_s = 0.1 * length_s, 1.1 * length_s
    came: list[tuple[str, Left | None]] = []
    for when, turn in sorted(_turns(mix, per_s, end_s, rng), key=lambda one: one[0]):
        if when < begin_s:
            sim.submit(when, turn)
        else:
            came.append((turn.kind, None))
            sim.submit(when, turn, _noting(came, len(came) - 1))
    sim.run(end_s)
    measured_s = max(sim.now, 1e-9)
    busy_s, by_engine = sim.busy_s, {name: one.busy_s for name, one in sim.stations.items()}
    sim.run(end_s + DRAIN_S)
    sim.busy_s = busy_s
    for name, one in sim.stations.items():
        one.busy_s = by_engine[name]
    return sim, came, measured_s


def _turns(mix: Mix, per_s: float, end_s: float, rng: random.Random) -> Iterator[tuple[float, Turn]]:
    """Turns from 0 to ``end_s``, in a day that has been like this for a while.

    What a conversation says after the end stands at the beginning, in place of those that began before it.
    """
    for when in poisson(per_s, end_s, rng):
        _, these, pauses = mix.draw(rng)
        for turn, pause in zip(these, [*pauses, 0.0], strict=True):
            yield when % end_s, turn
            when += pause


def _noting(came: list[tuple[str, Left | None]], place: int) -> Callable[[Left], None]:
    def over(left: Left) -> None:
        came[place] = (left.kind, left)

    return over


def _idle(profile: BoxProfile, mix: Mix, turns: int, seeds: Sequence[int]) -> float:
    """A load at which a box is busy less than a hundredth of the time."""
    alone = 1.0 / 3600
    seen = observe(profile, mix, alone, turns=min(turns, 400), seeds=seeds[:1])
    return alone * 0.01 / max(seen.busy, 1e-6)


def _unmeetable(profile: BoxProfile, mix: Mix, first: Seen, within: float, turns: int, seeds: Sequence[int]) -> str:
    worst = min(first.by_kind, key=lambda name: first.by_kind[name])
    kind = next(one for one in mix.kinds if one.name == worst)
    lefts = [left for seed in seeds for name, left in _run(profile, mix, first.per_s, turns / len(seeds), seed)[1]
             if name == worst and left is not None]  # fmt: skip
    near = {
        name: _quantile([getattr(left, name) for left in lefts], within)
        for name, bound in kind.slo.items()
        if _quantile([getattr(left, name) for left in lefts], within) > bound
    }
    nearest = ", ".join(f"{name}={math.ceil(value)}" for name, value in near.items()) or "a lower --within"
    asked = ", ".join(f"{name}={bound:g}" for name, bound in kind.slo.items())
    return (
        f"no load meets the SLO: even on an idle box only {100 * first.by_kind[worst]:.0f} % of the turns of {worst!r}"
        f" are within {asked}; the nearest that {100 * within:g} % of them meet is {nearest}"
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _p95(values: Sequence[float]) -> float | None:
    found = _quantile(values, 0.95)
    return found if found < math.inf else None


def _quantile(values: Sequence[float], q: float) -> float:
    """Nearest rank; 0 of nothing."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * q), 1) - 1] if ordered else 0.0
