"""One box with its engines, simulated event by event: turns come in, pass through engines, and leave.

What it is: a clock, a station an engine, and turns that are chains of calls (transcribe, translate, chat, translate
back), each call with its own amount of work. The same seed gives the same run.
What it refuses to be: a model of the network or of the gateway's policy. What the gateway adds to a turn is one number of
the profile; a turn that goes to a hosted model leaves the box when its local calls are done.
What it costs: about 3 µs an event; 10,000 turns of three calls take half a second.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated

from msgspec import Meta, Struct

from appliance_bench.stations import Amount, Item, Service, Station, station


class BoxProfile(Struct, frozen=True):
    """The engines of one box. ``sharing``: how much longer work takes for each other engine that is busy meanwhile.

    1 is two processes that take turns on the same cores or the same GPU, 0 is engines that do not disturb each other.
    """

    engines: Mapping[str, Service]
    sharing: Annotated[float, Meta(ge=0, le=1)] = 1.0
    gateway_ms: Amount = 0.0


class Call(Struct, frozen=True):
    """Work for one engine: ``prompt`` to read and ``units`` to write or to go through."""

    engine: str
    units: float
    prompt: float = 0.0


class Turn(Struct, frozen=True):
    """What one message of a customer makes a box do, call after call. ``first``: whose first piece the caller sees.

    ``kind`` names what it is to be judged by; ``then_ms`` is what comes after the last call (a hosted answer).
    """

    kind: str
    calls: tuple[Call, ...]
    first: int = -1
    then_ms: float = 0.0


class Left(Struct, frozen=True):
    """A turn that is over. Times in milliseconds from when it came; ``tokens`` of the call its caller sees."""

    kind: str
    came_s: float
    ttft_ms: float
    e2e_ms: float
    tokens: float

    @property
    def tpot_ms(self) -> float:
        """Between two pieces of the answer."""
        return (self.e2e_ms - self.ttft_ms) / (self.tokens - 1) if self.tokens > 1 else 0.0


class Slo(Struct, frozen=True):
    """Bounds of one turn; infinity where there is none."""

    ttft_ms: float = math.inf
    tpot_ms: float = math.inf
    e2e_ms: float = math.inf

    def kept(self, turn: Left) -> bool:
        """Whether ``turn`` was within all of them."""
        return turn.ttft_ms <= self.ttft_ms and turn.tpot_ms <= self.tpot_ms and turn.e2e_ms <= self.e2e_ms


class Simulation:
    """A box and its clock. ``submit`` turns at their times, ``run`` until then; ``left`` holds those that are over."""

    def __init__(self, profile: BoxProfile) -> None:
        self.now = 0.0
        self.left: list[Left] = []
        self.busy_s = 0.0  # with at least one engine at work
        self._profile = profile
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self.stations: dict[str, Station] = {name: station(one, self) for name, one in profile.engines.items()}

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Call ``what`` at ``when``; what was asked for first goes first."""
        self._order += 1
        heapq.heappush(self._events, (when, self._order, what))

    def slowed(self, station: object) -> float:
        """See ``BoxProfile.sharing``."""
        if not self._profile.sharing:
            return 1.0
        others = sum(one.busy for one in self.stations.values() if one is not station)
        return 1.0 + self._profile.sharing * others

    def submit(self, when: float, turn: Turn, done: Callable[[Left], None] | None = None) -> None:
        """``turn`` comes at ``when``; ``done`` hears when it is over. Raises KeyError for an engine that is not here."""
        for call in turn.calls:
            self.stations[call.engine]
        self.at(when, _Running(self, turn, when, self._profile.gateway_ms / 1000, done).go)

    def run(self, until_s: float) -> None:
        """Until then, or until nothing is left to happen."""
        events = self._events
        while events and events[0][0] <= until_s:
            when, _, what = heapq.heappop(events)
            if any(one.busy for one in self.stations.values()):
                self.busy_s += when - self.now
            self.now = when
            what()
        if until_s != math.inf:
            self.now = max(self.now, until_s)


class _Running:
    """A turn on its way."""

    __slots__ = ("_came", "_done", "_first_s", "_gateway_s", "_next", "_sim", "_turn")

    def __init__(
        self, sim: Simulation, turn: Turn, came: float, gateway_s: float, done: Callable[[Left], None] | None
    ) -> None:
        self._sim, self._turn, self._came, self._gateway_s, self._done = sim, turn, came, gateway_s, done
        self._next = 0
        self._first_s: float | None = None

    def go(self) -> None:
        """The next call, or the end."""
        turn = self._turn
        if self._next == len(turn.calls):
            if turn.then_ms:
                self._first_s = None
                self._sim.at(self._sim.now + turn.then_ms / 1000, self._over)
            else:
                self._over()
            return
        call = turn.calls[self._next]
        shown = self._next == turn.first % len(turn.calls)
        self._next += 1
        self._sim.stations[call.engine].add(
            Item(call.prompt, call.units, self._begun if shown else _nothing, self._ended)
        )

    def _begun(self, when: float) -> None:
        self._first_s = when

    def _ended(self, when: float) -> None:
        self.go()

    def _over(self) -> None:
        turn = self._turn
        e2e_ms = (self._sim.now - self._came + self._gateway_s) * 1000
        first = self._sim.now if self._first_s is None else self._first_s
        ttft_ms = (first - self._came + self._gateway_s) * 1000
        tokens = turn.calls[turn.first].units if turn.calls and self._first_s is not None else 0.0
        left = Left(turn.kind, self._came, ttft_ms, max(e2e_ms, ttft_ms), tokens)
        self._sim.left.append(left)
        if self._done is not None:
            self._done(left)


def _nothing(when: float) -> None:
    pass


def open_loop(profile: BoxProfile, schedule: Sequence[float], turns: Iterable[Turn], until_s: float) -> list[Left]:
    """Turns that come at the times of ``schedule``, whatever becomes of those before; those over by ``until_s``."""
    sim = Simulation(profile)
    for when, turn in zip(schedule, turns, strict=False):
        sim.submit(when, turn)
    sim.run(until_s)
    return sim.left


def closed_loop(profile: BoxProfile, callers: int, turns: Sequence[Turn], lag_s: float = 0.0) -> tuple[float, list[Left]]:
    """``callers`` that each ask again when answered, until ``turns`` are through: seconds, and the turns."""
    sim = Simulation(profile)
    todo = iter(turns)

    def ask(_: Left | None = None) -> None:
        turn = next(todo, None)
        if turn is not None:
            sim.submit(sim.now + lag_s + profile.gateway_ms / 1000, turn, ask)

    for _ in range(callers):
        ask()
    sim.run(math.inf)
    return sim.now, sim.left


def poisson(rate_per_s: float, until_s: float, rng: random.Random) -> list[float]:
    """Times of a Poisson process. One seed's times at two rates are the same draws, stretched."""
    times = []
    at = rng.expovariate(1.0)
    while at / rate_per_s < until_s:
        times.append(at / rate_per_s)
        at += rng.expovariate(1.0)
    return times


def goodput(left: Iterable[Left], slos: Mapping[str, Slo], over_s: float) -> float:
    """Turns within their SLO, a second. A kind without one counts as within it."""
    return sum(1 for turn in left if turn.kind not in slos or slos[turn.kind].kept(turn)) / over_s
