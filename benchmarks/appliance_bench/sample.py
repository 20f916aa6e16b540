"""What one measurement under load came to, and the statistics between measurements.

What it is: ``summarise`` makes a ``Sample`` of requests; percentiles, the slope test for over-saturation, and the
paired bootstrap of a ratio between configurations that took turns.
What it refuses to be: a loader. It sees numbers only.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from appliance_bench.compare import ratio, student
from appliance_bench.load_stats import percentile
from appliance_bench.slo import PERCENTILES, Target, Took, allowed, violates, within

# Latencies of the last third against the first: queues that grow, and not noise
_GROWS_TIMES = 2.0
_GROWS_LEAST = 30


class Sample(Struct, frozen=True):
    """One configuration at one load. ``broken`` is why the engine did not serve it (``out_of_memory``, …).

    ``figures``: the measured percentile of each target. ``spent_s``: what it cost, the engine's start included.
    """

    offered_per_s: float
    requests: int
    failed: int
    within: int
    violations: dict[str, int]
    figures: dict[str, float]
    duration_s: float
    spent_s: float
    saturated: bool = False
    broken: str = ""
    quality: dict[str, float] = {}
    preemptions: int = 0
    errors: dict[str, int] = {}
    percentiles: dict[str, dict[str, float]] = {}
    rates: dict[str, float] = {}

    @property
    def goodput_per_s(self) -> float:
        """Requests within every target, a second."""
        return self.within / self.duration_s if self.duration_s else 0.0

    def meets(self, targets: Sequence[Target]) -> bool:
        """Whether every percentile is within its limit, as measured, with no queue that grows and no preemption."""
        if self.broken or self.saturated or self.preemptions or not self.requests:
            return False
        return all(self.violations[t.name] <= allowed(self.requests, t.percentile) for t in targets)


def broken(why: str, spent_s: float, offered_per_s: float = 0.0) -> Sample:
    """An engine that did not serve."""
    return Sample(offered_per_s, 0, 0, 0, {}, {}, 0.0, spent_s, broken=why)


def summarise(
    took: Sequence[Took],
    targets: Sequence[Target],
    *,
    offered_per_s: float,
    duration_s: float,
    spent_s: float,
    saturated: bool = False,
    quality: dict[str, float] | None = None,
    preemptions: int = 0,
    rates: dict[str, float] | None = None,
) -> Sample:
    """The sample of some requests. ``saturated``: the loader gave up because too many were under way."""
    figures = {}
    for target in targets:
        values = sorted(v for t in took if not t.failed and (v := t.value(target.metric)) is not None)
        if values:
            figures[target.name] = round(percentile(values, target.percentile), 3)
    return Sample(
        offered_per_s=round(offered_per_s, 4),
        requests=len(took),
        failed=sum(1 for t in took if t.failed),
        within=sum(within(t, targets) for t in took),
        violations={target.name: sum(violates(t, target) for t in took) for target in targets},
        figures=figures,
        duration_s=duration_s,
        spent_s=spent_s,
        saturated=saturated or grows([t for t in took if not t.failed], targets),
        quality=quality or {},
        preemptions=preemptions,
        errors=dict(Counter(t.failed for t in took if t.failed)),
        percentiles=spread(took),
        rates=rates or {},
    )


def spread(took: Sequence[Took]) -> dict[str, dict[str, float]]:
    """p50, p95 and p99 of every figure, the client's own lag among them; p99 only of 299 requests and more."""
    found = {}
    for name in ("ttft", "tpot", "e2e", "lag"):
        values = sorted(
            v for t in took if not t.failed and (v := t.lag_ms if name == "lag" else t.value(name)) is not None
        )
        if not values:
            continue
        supported = [p for p in PERCENTILES if p != 90 and len(values) >= {50: 1, 95: 59, 99: 299}[p]]
        found[name] = {f"p{p}": round(percentile(values, p), 3) for p in supported}
    return found


def grows(took: Sequence[Took], targets: Sequence[Target]) -> bool:
    """Whether the wait grows while the load lasts: the last third took twice as long as the first, past a quarter of
    what is allowed. An engine beyond its knee does that long before the percentile shows it."""
    if len(took) < _GROWS_LEAST:
        return False
    ordered = sorted(took, key=lambda t: t.due_s)
    third = len(ordered) // 3
    for target in targets:
        if target.metric == "tpot":
            continue
        values = [v for t in ordered if (v := t.value(target.metric)) is not None]
        if len(values) < len(ordered):
            continue
        first, last = statistics.median(values[:third]), statistics.median(values[-third:])
        if last > _GROWS_TIMES * first and last > target.limit_ms / 2:
            return True
    return False


class Interval(Struct, frozen=True):
    """A figure and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of repeats, by Student's t."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, mean, mean)
    half = student(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, max(mean - half, 0.0), mean + half)


def ratio_interval(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Ours ÷ theirs of repeats that took turns: rounds are drawn in pairs, so that drift cancels (``compare.ratio``).

    All zero where ``theirs`` is. Raises ValueError where the rounds do not match.
    """
    if len(ours) != len(theirs) or not ours:
        raise ValueError("a paired ratio needs the same rounds of both sides")
    found = ratio(theirs, ours, paired=True)
    if found.value is None:
        return Interval(0.0, 0.0, 0.0)
    if found.low is None or found.high is None:
        return Interval(found.value, 0.0, 0.0)
    return Interval(found.value, found.low, found.high)
