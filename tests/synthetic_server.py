"""Servers whose best configuration is known: latencies by formula, time by a virtual clock."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from appliance_bench.sample import Sample, broken, summarise
from appliance_bench.search import Config, Value, config
from appliance_bench.slo import Target, Took

SPACE: Mapping[str, Sequence[Value]] = {
    "batch": (1, 2, 4, 8, 16, 32, 64),
    "wait_ms": (0, 2, 5, 10, 20),
    "threads": (1, 2, 4),
    "beam": (1, 2, 5),
}
SHIPPED = config(batch=8, wait_ms=10, threads=1, beam=5)
OWN = config(batch=1, wait_ms=0, threads=4, beam=2)


class Synthetic:
    """``noise`` of a probe, ``drift``: share of speed lost and found again over ``period_s``, ``cliff``: batches
    past 32 threads' worth run out of memory, and just below it requests are preempted."""

    def __init__(
        self, targets: Sequence[Target], seed: int, *, noise: float = 0.0, drift: float = 0.0, cliff: bool = False
    ) -> None:
        self.targets = targets
        self.rng = random.Random(seed)
        self.noise, self.drift, self.cliff = noise, drift, cliff
        self.now_s = 0.0
        self.current: Config | None = None
        self.probes = 0

    def speed(self, which: Config) -> float:
        """Requests a second with a queue that is never empty."""
        v: dict[str, float] = {name: float(value) for name, value in which}
        batching = v["batch"] ** 0.45 / (1 + (v["batch"] / 40) ** 2)
        threads = {1: 1.0, 2: 1.35, 4: 1.1}[int(v["threads"])]
        beam = {1: 1.5, 2: 1.3, 5: 1.0}[int(v["beam"])]
        waiting = 1.0 + 0.12 * math.exp(-(((v["wait_ms"] - 5) / 5) ** 2))
        return 20.0 * batching * threads * beam * waiting

    def base_ms(self, which: Config) -> float:
        """Of one request alone."""
        v: dict[str, float] = {name: float(value) for name, value in which}
        return 60.0 + 2.0 * v["wait_ms"] + 2.5 * v["batch"]

    def ends(self, which: Config) -> str:
        """How the cliff takes it."""
        v: dict[str, float] = {name: float(value) for name, value in which}
        return "out_of_memory" if self.cliff and v["batch"] * v["threads"] > 64 else ""

    def chrf(self, which: Config) -> float:
        """Greedy search costs quality."""
        return {1: 41.0, 2: 44.8, 5: 45.0}[int(dict(which)["beam"])]

    def best_load(self, which: Config) -> float:
        """The highest load whose p95 meets the only target: base * (1 + 1.5 rho / (1 - rho)) = limit."""
        if self.ends(which) or self.chrf(which) < 44.5:
            return 0.0
        room = (self.targets[0].limit_ms / self.base_ms(which) - 1) / 1.5
        return self.speed(which) * room / (1 + room) if room > 0 else 0.0

    def best(self) -> float:
        """Over the whole space."""
        grids = [config()]
        for name, values in SPACE.items():
            grids = [config(**dict(c), **{name: value}) for c in grids for value in values]
        return max(map(self.best_load, grids))

    def __call__(self, which: Config, rate: float, requests: int, *, held_out: bool = False) -> Sample:
        self.probes += 1
        start_s = 0.0 if which == self.current else 8.0
        self.current = which
        if why := self.ends(which):
            self.now_s += start_s
            self.current = None
            return broken(why, start_s, rate)
        speed = self.speed(which) * math.exp(self.rng.gauss(0, self.noise))
        speed *= 1 - self.drift * (0.5 + 0.5 * math.sin(self.now_s / 400.0))
        alone = rate == 0
        offered = 1000 / self.base_ms(which) if alone else rate
        load = 0.0 if alone else offered / speed
        took, at_s = [], 0.0
        for n in range(requests):
            at_s += self.rng.expovariate(offered)
            # a tail whose 95th percentile is exactly the formula of best_load, and a queue that grows beyond the knee
            tail = 1.5 * min(load, 0.97) / (1 - min(load, 0.97))
            e2e = self.base_ms(which) * (1 + tail * self.rng.expovariate(1) / 2.9957)
            e2e += max(0.0, 1000 * n * (1 / speed - 1 / offered))
            took.append(Took(at_s, e2e))
        spent_s = start_s + at_s
        self.now_s += spent_s
        return summarise(
            took, self.targets, offered_per_s=offered, duration_s=at_s, spent_s=spent_s,
            quality={"chrf": self.chrf(which)},
        )  # fmt: skip
