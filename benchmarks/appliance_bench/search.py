"""The search for the configuration with the most goodput that meets the targets.

What it is: pure. Somebody else measures (``Measure``); this decides what, at which load, how often, and when to stop.
Outside: the shipped default and the engine's own are always measured, then what the knobs' authors expect to be good,
then neighbours of the best and some far away ones; the better half goes on with more requests, and the last few take
turns on a held-out workload. Inside: for each configuration an exponential probe over load and a bisection.
What it refuses to be: Optuna. With 8 to 24 configurations, of which the first are seeds, TPE is still drawing its
random start-up points; neighbours of the best need no model. Nor is it brave: what cannot be told from the shipped
default does not replace it, and what lowers the quality is never chosen.
What it costs: about six probes a configuration. Time is what ``Measure`` says was spent, so tests use a virtual clock.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from appliance_bench.records import RecordError
from appliance_bench.sample import Interval, Sample, mean_interval, ratio_interval
from appliance_bench.slo import Target

Value = str | int | float | bool
Config = tuple[tuple[str, Value], ...]
SHIPPED, OWN = "shipped default", "engine's own default"
_FAR = 0.2  # share of proposals that are no neighbours of the best
_LOWEST_PER_S = 0.02
_STEP, _STEPS = 1.12, 6
# What the interval of the ratio to the shipped default may reach down to before the default is kept
_NOT_WORSE = 0.95


def config(**values: Value) -> Config:
    """A configuration: knobs with their values, in one order."""
    return tuple(sorted(values.items()))


class Measure(Protocol):
    """``requests`` requests of configuration ``which`` at ``rate`` a second (0: one after another).

    ``held_out``: on the workload that was not searched on. Never raises for what an engine does.
    """

    def __call__(self, which: Config, rate: float, requests: int, *, held_out: bool = False) -> Sample: ...


@dataclass(frozen=True)
class Gate:
    """A quality metric, and by how much a configuration may be worse than the shipped default."""

    metric: str
    tolerance: float
    higher_is_better: bool = True

    def lowered(self, found: Mapping[str, float], reference: Mapping[str, float]) -> str:
        """Why ``found`` does not pass; empty where it does."""
        if self.metric not in found or self.metric not in reference:
            return ""
        worse = (reference[self.metric] - found[self.metric]) * (1 if self.higher_is_better else -1)
        if worse <= self.tolerance:
            return ""
        return (
            f"{self.metric} {found[self.metric]:.2f} against {reference[self.metric]:.2f} of the {SHIPPED}"
            f" (at most {self.tolerance:g} worse is allowed)"
        )


@dataclass(frozen=True)
class Budget:
    """How much may be measured.

    ``rungs``: requests a probe, first of all configurations and then of the better half.
    """

    seconds: float
    configurations: int = 24
    rungs: tuple[int, int] = (100, 300)
    requests: int = 1000
    finalists: int = 3
    repeats: int = 5
    tolerance: float = 0.08
    search_share: float = 0.6


@dataclass
class Tried:
    """A configuration and what is known of it."""

    name: str
    which: Config
    samples: list[Sample] = field(default_factory=list)
    best: Sample | None = None  # the highest load that met the targets
    unloaded: Sample | None = None
    dropped: str = ""
    rounds: list[Sample] = field(default_factory=list)

    @property
    def score(self) -> float:
        """Goodput of the highest load that met the targets."""
        return self.best.goodput_per_s if self.best is not None and not self.dropped else 0.0

    qualities: dict[tuple[int, bool], Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """The outcome. ``why_stopped`` names the reason the search ended, ``why_chosen`` that of the choice."""

    chosen: Tried
    runner_up: Tried | None
    tried: tuple[Tried, ...]
    finalists: tuple[Tried, ...]
    goodput: Interval
    against: Mapping[str, Interval]
    why_stopped: str
    why_chosen: str
    spent_s: float


def climb(probe: Callable[[float], Sample], rate: float, targets: Sequence[Target]) -> Sample:
    """From ``rate``, a step up or down at a time: the last sample that met the targets, else the lowest load's."""
    sample = probe(rate)
    good = sample.meets(targets)
    for _ in range(_STEPS):
        if sample.broken:
            return sample
        rate = rate * _STEP if good else rate / _STEP
        following = probe(rate)
        if following.meets(targets):
            sample = following
            if not good:
                return following
        elif good:
            return sample
        else:
            sample = following
    return sample


class Unmeetable(RecordError):
    """No configuration meets the targets at any load; says what the nearest is that can be met."""


Say = Callable[[str], None]


class Search:
    """One search. ``space``: knob -> its values in order. ``hints``: what is expected to be good, best first."""

    def __init__(
        self,
        space: Mapping[str, Sequence[Value]],
        shipped: Config,
        own: Config,
        measure: Measure,
        targets: Sequence[Target],
        budget: Budget,
        *,
        hints: Sequence[Config] = (),
        gates: Sequence[Gate] = (),
        seed: int = 0,
        start_rate: float = 1.0,
        say: Say = lambda line: None,
    ) -> None:
        self._space = {name: tuple(values) for name, values in space.items()}
        self._shipped, self._own = shipped, own
        self._measure = measure
        self._targets = tuple(targets)
        self._budget = budget
        self._hints = tuple(hints)
        self._gates = tuple(gates)
        self._rng = random.Random(seed)
        self._start_rate = start_rate
        self._say = say
        self.spent_s = 0.0
        self.tried: list[Tried] = []
        self.finalists: list[Tried] = []

    def run(self) -> Found:
        """Search and choose. Raises Unmeetable."""
        why = self._explore()
        if not any(tried.score for tried in self.tried):
            raise Unmeetable(self._nearest())
        self._refine()
        self._rounds()
        return self.found(why)

    # outside

    def _explore(self) -> str:
        until_s = self._budget.seconds * self._budget.search_share
        for name, which in self._seeds():
            tried = self._add(name, which)
            self._capacity(tried, self._budget.rungs[0], self._rate_to_start())
            # the two defaults are measured whatever the budget says: everything is compared with them
            if self.spent_s >= until_s and len(self.tried) >= 2:
                return "budget"
        while len(self.tried) < self._budget.configurations:
            if self.spent_s >= until_s:
                return "budget"
            proposed = self._propose()
            if proposed is None:
                return "nothing left to try"
            tried = self._add(f"configuration {len(self.tried) + 1}", proposed)
            self._capacity(tried, self._budget.rungs[0], self._rate_to_start())
        return "configurations"

    def _seeds(self) -> Iterator[tuple[str, Config]]:
        seen: set[Config] = set()
        named = [(SHIPPED, self._shipped), (OWN, self._own)]
        named += [(f"hint {n}", hint) for n, hint in enumerate(self._hints, 1)]
        for name, which in named:
            if which in seen:
                continue
            if len(seen) >= max(2, self._budget.configurations):
                return
            seen.add(which)
            yield name, which

    def _add(self, name: str, which: Config) -> Tried:
        tried = Tried(name, which)
        self.tried.append(tried)
        return tried

    def _rate_to_start(self) -> float:
        best = max((t.best.offered_per_s for t in self.tried if t.best is not None), default=0.0)
        return best or self._start_rate

    def _propose(self) -> Config | None:
        known = {tried.which for tried in self.tried}
        ranked = sorted((t for t in self.tried if t.score), key=lambda t: -t.score)
        if ranked and self._rng.random() >= _FAR:
            for tried in ranked[:3]:
                if fresh := [c for c in self._neighbours(tried.which) if c not in known]:
                    return self._likeliest(fresh, ranked)
        return self._far(known)

    def _likeliest(self, fresh: Sequence[Config], ranked: Sequence[Tried]) -> Config:
        """The neighbour whose changed value has done best so far; those never seen come first, in random order."""
        seen: dict[tuple[str, Value], float] = {}
        for tried in self.tried:
            for pair in tried.which:
                seen[pair] = max(seen.get(pair, 0.0), tried.score)
        best = dict(ranked[0].which)
        shuffled = list(fresh)
        self._rng.shuffle(shuffled)
        return max(
            shuffled,
            key=lambda c: min((seen.get(pair, math.inf) for pair in c if best.get(pair[0]) != pair[1]), default=0.0),
        )

    def _neighbours(self, which: Config) -> list[Config]:
        values = dict(which)
        found = []
        for name, known in self._space.items():
            if values.get(name) not in known:
                steps = range(len(known))
                near = [known[n] for n in steps]
            else:
                at = known.index(values[name])
                near = [known[n] for n in (at - 1, at + 1) if 0 <= n < len(known)]
            found += [config(**{**values, name: value}) for value in near]
        return found

    def _far(self, known: set[Config]) -> Config | None:
        total = math.prod(len(values) for values in self._space.values())
        if total <= 4096:
            rest = [c for c in self._grid() if c not in known]
            return self._rng.choice(rest) if rest else None
        while True:
            which = config(**{name: self._rng.choice(values) for name, values in self._space.items()})
            if which not in known:
                return which

    def _grid(self) -> Iterator[Config]:
        def walk(names: Sequence[str], so_far: dict[str, Value]) -> Iterator[Config]:
            if not names:
                yield config(**so_far)
                return
            for value in self._space[names[0]]:
                yield from walk(names[1:], {**so_far, names[0]: value})

        return walk(list(self._space), {})

    # inside

    def _probe(self, tried: Tried, rate: float, requests: int, held_out: bool = False) -> Sample:
        sample = self._measure(tried.which, rate, requests, held_out=held_out)
        self.spent_s += sample.spent_s
        tried.samples.append(sample)
        if sample.quality and not sample.failed:
            # the same requests have the same texts: only such are compared
            tried.qualities[requests, held_out] = sample.quality
        if sample.broken:
            tried.dropped = sample.broken
        elif sample.preemptions:
            tried.dropped = f"{sample.preemptions} preemptions at {rate:.3g}/s" if not tried.best else ""
        return sample

    def _capacity(self, tried: Tried, requests: int, start: float) -> None:
        """The highest load that meets the targets: doubling or halving until it turns, then bisection."""
        rate, low, high = start, 0.0, math.inf
        while not (tried.dropped and tried.best is None) and high > (1 + self._budget.tolerance) * max(low, 1e-9):
            sample = self._probe(tried, rate, requests)
            if sample.broken:
                tried.best = None
                break
            if sample.meets(self._targets):
                low = rate
                tried.best, tried.dropped = sample, ""
                rate = rate * 1.6 if high == math.inf else math.sqrt(low * high)
            else:
                high = rate
                rate = rate / 1.6 if low == 0 else math.sqrt(low * high)
                if rate < _LOWEST_PER_S:
                    break
            if tried.best is None and high < start / 12:
                break
        if tried.best is None and not any(s.broken for s in tried.samples):
            tried.unloaded = self._probe(tried, 0.0, max(10, requests // 4))
        self._gate()
        self._say(f"{tried.name}: {self._told(tried)}")

    def _told(self, tried: Tried) -> str:
        if tried.best is not None and not tried.dropped:
            return f"{tried.best.goodput_per_s:.3g}/s within the targets ({len(tried.samples)} probes)"
        return tried.dropped or "meets the targets at no load"

    def _staircase(self, tried: Tried, requests: int, held_out: bool) -> Sample:
        rate = tried.best.offered_per_s if tried.best is not None else self._start_rate
        return climb(lambda rate: self._probe(tried, rate, requests, held_out), rate, self._targets)

    def _refine(self) -> None:
        """The better half again with more requests, around what they reached."""
        self._gate()
        ranked = sorted((t for t in self.tried if t.score), key=lambda t: -t.score)
        until_s = self._budget.seconds * (self._budget.search_share + 0.1)
        for tried in ranked[: max(self._budget.finalists + 1, len(ranked) // 2)]:
            if self.spent_s >= until_s:
                break
            sample = self._staircase(tried, self._budget.rungs[1], held_out=False)
            if sample.meets(self._targets):
                tried.best = sample
            elif not sample.broken:
                tried.best = None if tried.which not in (self._shipped, self._own) else tried.best

    def _gate(self) -> None:
        """Drop what is worse than the shipped default in quality, on the same requests."""
        reference = self.tried[0].qualities
        for tried in self.tried[1:]:
            for requests, held_out in sorted(tried.qualities.keys() & reference.keys()):
                mine, its = tried.qualities[requests, held_out], reference[requests, held_out]
                for gate in self._gates:
                    if not tried.dropped and (why := gate.lowered(mine, its)):
                        tried.dropped = why

    def _rounds(self) -> None:
        """The finalists and both defaults take turns on what was not searched on; the order turns each round."""
        ranked = sorted((t for t in self.tried if t.score), key=lambda t: -t.score)
        self.finalists = ranked[: self._budget.finalists]
        for tried in self.tried:
            default = tried.which in (self._shipped, self._own) and tried not in self.finalists
            if default and (tried.best is not None or tried.which == self._shipped):
                self.finalists.append(tried)
        for number in range(self._budget.repeats):
            cost_s = self.spent_s
            for tried in (
                self.finalists[number % len(self.finalists) :] + self.finalists[: number % len(self.finalists)]
            ):
                tried.rounds.append(self._staircase(tried, self._budget.requests, held_out=True))
                self._say(f"round {number + 1}: {tried.name}: {self.kept(tried.rounds[-1]):.3g}/s")
            cost_s = self.spent_s - cost_s
            if number + 1 >= 3 and self.spent_s + cost_s > self._budget.seconds:
                break

    def kept(self, sample: Sample) -> float:
        """Goodput of a round: nothing where it met the targets at no load it was tried at."""
        return sample.goodput_per_s if sample.meets(self._targets) else 0.0

    # choosing

    def found(self, why: str) -> Found:
        """Choose among those with rounds; also for a search that was stopped, as soon as there is one round."""
        self._gate()
        default = self.tried[0]
        goodputs = {t.name: [self.kept(s) for s in t.rounds] for t in self.finalists}
        fair = sorted((t for t in self.finalists if not t.dropped), key=lambda t: -sum(goodputs[t.name]))
        best = fair[0] if fair else default
        chosen, reason = best, "most goodput within the targets"
        if best is not default and default in self.finalists:
            ratio = ratio_interval(goodputs[best.name], goodputs[default.name])
            if sum(goodputs[default.name]) and ratio.low < _NOT_WORSE:
                chosen, reason = (
                    default,
                    (
                        f"{best.name} is {ratio.value:.2f}x the {SHIPPED}, and its interval reaches down to"
                        f" {ratio.low:.2f}x"
                    ),
                )
        against = {
            t.name: ratio_interval(goodputs[chosen.name], goodputs[t.name]) for t in self.finalists if t is not chosen
        }
        runner_up = next((t for t in fair if t is not chosen), None)
        return Found(
            chosen,
            runner_up,
            tuple(self.tried),
            tuple(self.finalists),
            mean_interval(goodputs[chosen.name]),
            against,
            why,
            reason,
            self.spent_s,
        )

    def _nearest(self) -> str:
        """What could be met, by the configuration that came nearest with one request at a time."""
        asked = ", ".join(f"{t.name}={t.limit_ms:g}" for t in self._targets)
        unloaded = [t for t in self.tried if t.unloaded is not None and t.unloaded.figures]
        if not unloaded:
            ends = "; ".join(sorted({t.dropped for t in self.tried if t.dropped})) or "no answers"
            return f"no configuration served at all ({ends}); see the engine's log"

        def worst(tried: Tried) -> float:
            figures = tried.unloaded.figures if tried.unloaded is not None else {}
            return max((figures[t.name] / t.limit_ms for t in self._targets if t.name in figures), default=math.inf)

        nearest = min(unloaded, key=worst)
        figures = nearest.unloaded.figures if nearest.unloaded is not None else {}
        # a tenth above what one request at a time took
        could = ",".join(
            f"{t.name}={math.ceil(max(figures[t.name] * 1.1, 1)):d}" for t in self._targets if t.name in figures
        )
        return f"no configuration meets {asked} even with one request at a time; the nearest that can be met is {could}"
