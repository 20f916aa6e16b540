"""Three kinds of engine as a simulation sees them: places, batches, steps.

What it is: ``Places`` (so many at once, each takes its own time), ``Batches`` (the translation and speech hosts: items
wait for company, a worker runs one batch after another) and ``Steps`` (vLLM: everything that runs advances by a token a
step, prompts are read in chunks between). Times come from a measured profile, in milliseconds.
What it refuses to be: the engines. No preemption, no prefix cache beyond the prompt tokens it is told to compute, and
the time of a batch or step depends on nothing but what is in it and on who else is busy on the box.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Annotated, Protocol

from msgspec import Meta, Struct

Positive = Annotated[float, Meta(gt=0)]
Amount = Annotated[float, Meta(ge=0)]
AtLeastOne = Annotated[int, Meta(ge=1)]


class Places(Struct, frozen=True, forbid_unknown_fields=True, tag="places", tag_field="kind"):
    """``places`` requests at once, the others wait in a line. ``first_ms`` to the first piece of the answer."""

    places: AtLeastOne
    first_ms: Amount = 0.0
    prompt_unit_ms: Amount = 0.0
    unit_ms: Amount = 0.0


class Batches(Struct, frozen=True, forbid_unknown_fields=True, tag="batches", tag_field="kind"):
    """A batch takes ``batch_ms``, and for n items (``item_ms`` each + ``unit_ms`` a unit of theirs) ÷ n^``gain``.

    Items share a batch with those of their bucket: ``edges`` are the units at which a bucket ends; none is one bucket.
    ``beside`` is how much longer it takes for each other worker that is busy when it starts. An item waits at most
    ``max_wait_ms`` for company. ``request_ms``: what a request takes besides, without holding a worker up.
    """

    workers: AtLeastOne
    max_batch: AtLeastOne
    max_wait_ms: Amount
    batch_ms: Amount
    item_ms: Amount
    unit_ms: Amount
    beside: Amount = 0.0
    gain: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    edges: tuple[float, ...] = ()
    request_ms: Amount = 0.0


class Steps(Struct, frozen=True, forbid_unknown_fields=True, tag="steps", tag_field="kind"):
    """A step takes ``step_ms`` + ``sequence_ms`` for each that decodes + ``prompt_token_ms`` for each token it reads.

    ``kv_tokens``: prompt and answer of all that run fit in, or the next one waits.
    """

    max_num_seqs: AtLeastOne
    max_num_batched_tokens: AtLeastOne
    step_ms: Positive
    sequence_ms: Amount
    prompt_token_ms: Amount
    kv_tokens: AtLeastOne = 1 << 30
    request_ms: Amount = 0.0


Service = Places | Batches | Steps


class Item(Struct, eq=False):
    """One call of an engine.

    ``prompt`` and ``units`` are tokens, characters or seconds of audio, as its profile has it.
    """

    prompt: float
    units: float
    begun: Callable[[float], None]
    ended: Callable[[float], None]


class Clock(Protocol):
    """What a station needs of the simulation around it."""

    now: float

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Call ``what`` at ``when`` seconds."""
        ...

    def slowed(self, station: object) -> float:
        """How many times longer work takes that starts now, because of the other engines of the box."""
        ...


class Station(Protocol):
    """An engine in the simulation. ``busy_s`` is the time it was at work, in worker-seconds."""

    busy_s: float

    @property
    def busy(self) -> bool:
        """Whether anything runs."""
        ...

    def add(self, item: Item) -> None:
        """A call arrives now."""
        ...


class PlacesStation:
    """See ``Places``."""

    def __init__(self, service: Places, clock: Clock) -> None:
        self._service, self._clock = service, clock
        self._queue: deque[Item] = deque()
        self._running = 0
        self.busy_s = 0.0

    @property
    def busy(self) -> bool:
        return self._running > 0

    def add(self, item: Item) -> None:
        self._queue.append(item)
        self._go()

    def _go(self) -> None:
        service, clock = self._service, self._clock
        while self._queue and self._running < service.places:
            item = self._queue.popleft()
            self._running += 1
            slow = clock.slowed(self) / 1000
            first = (service.first_ms + service.prompt_unit_ms * item.prompt) * slow
            whole = first + service.unit_ms * item.units * slow
            self.busy_s += whole
            item.begun(clock.now + first)
            clock.at(clock.now + whole, partial(self._done, item))

    def _done(self, item: Item) -> None:
        self._running -= 1
        item.ended(self._clock.now)
        self._go()


class BatchStation:
    """See ``Batches``. Of the buckets that are ripe the one whose first item is oldest goes first, as in the hosts."""

    def __init__(self, service: Batches, clock: Clock) -> None:
        self._service, self._clock = service, clock
        self._wait_s = service.max_wait_ms / 1000
        self._buckets: dict[int, deque[tuple[float, Item]]] = {}
        self._free = service.workers
        self.busy_s = 0.0

    @property
    def busy(self) -> bool:
        return self._free < self._service.workers

    def add(self, item: Item) -> None:
        bucket = self._buckets.setdefault(bisect_right(self._service.edges, item.units), deque())
        bucket.append((self._clock.now, item))
        if len(bucket) >= self._service.max_batch:
            self._go()
        else:
            self._clock.at(self._clock.now + self._wait_s, self._go)

    def _ripe(self) -> deque[tuple[float, Item]] | None:
        until = self._clock.now - self._wait_s + 1e-9
        full = self._service.max_batch
        ripe = [one for one in self._buckets.values() if one and (one[0][0] <= until or len(one) >= full)]
        return min(ripe, key=lambda one: one[0][0], default=None)

    def _go(self) -> None:
        service, clock = self._service, self._clock
        while self._free and (bucket := self._ripe()):
            batch = [bucket.popleft()[1] for _ in range(min(len(bucket), service.max_batch))]
            others = service.workers - self._free
            self._free -= 1
            work = service.item_ms * len(batch) + service.unit_ms * sum(one.units for one in batch)
            work = service.batch_ms + work / len(batch) ** service.gain
            takes = work * (1 + service.beside * others) * clock.slowed(self) / 1000
            self.busy_s += takes
            clock.at(clock.now + takes, partial(self._done, batch))

    def _done(self, batch: list[Item]) -> None:
        self._free += 1
        after = self._clock.now + self._service.request_ms / 1000
        for item in batch:
            item.begun(after)
            if self._service.request_ms:
                self._clock.at(after, partial(item.ended, after))
            else:
                item.ended(after)
        self._go()


class _Reading(Struct, eq=False):
    item: Item
    left: float


class StepStation:
    """See ``Steps``.

    Whoever decodes leaves at a step that is known when it begins, so a step costs no walk over them.
    """

    def __init__(self, service: Steps, clock: Clock) -> None:
        self._service, self._clock = service, clock
        self._waiting: deque[Item] = deque()
        self._reading: deque[_Reading] = deque()
        self._decoding: list[tuple[int, int, Item]] = []
        self._step = self._order = 0
        self._tokens = 0.0
        self._going = False
        self.busy_s = 0.0
        self.steps = 0

    @property
    def busy(self) -> bool:
        return self._going

    def add(self, item: Item) -> None:
        self._waiting.append(item)
        if not self._going:
            self._next()

    def _admit(self) -> None:
        service = self._service
        while self._waiting and len(self._reading) + len(self._decoding) < service.max_num_seqs:
            item = self._waiting[0]
            needs = item.prompt + item.units
            running = self._reading or self._decoding
            if running and self._tokens + needs > service.kv_tokens:
                return
            self._waiting.popleft()
            self._tokens += needs
            self._reading.append(_Reading(item, max(item.prompt, 1.0)))

    def _next(self) -> None:
        service, clock = self._service, self._clock
        self._admit()
        decoding = len(self._decoding)
        room = max(service.max_num_batched_tokens - decoding, 0)
        read = 0.0
        complete: list[Item] = []
        while self._reading and read < room:
            head = self._reading[0]
            chunk = min(head.left, room - read)
            head.left -= chunk
            read += chunk
            if head.left > 1e-9:
                break
            complete.append(self._reading.popleft().item)
        self._going = bool(decoding or read)
        if not self._going:
            return
        takes = service.step_ms + service.sequence_ms * decoding + service.prompt_token_ms * read
        takes *= clock.slowed(self) / 1000
        self.busy_s += takes
        self.steps += 1
        clock.at(clock.now + takes, partial(self._done, complete))

    def _done(self, complete: list[Item]) -> None:
        self._step += 1
        now = self._clock.now
        after = now + self._service.request_ms / 1000
        ended = []
        while self._decoding and self._decoding[0][0] <= self._step:
            ended.append(heapq.heappop(self._decoding)[2])
        for item in complete:
            item.begun(after)
            if item.units <= 1:
                ended.append(item)
            else:
                self._order += 1
                heapq.heappush(self._decoding, (self._step + max(round(item.units) - 1, 1), self._order, item))
        for item in ended:
            self._tokens -= item.prompt + item.units
            self._clock.at(after, partial(item.ended, after))
        self._next()


def station(service: Service, clock: Clock) -> Station:
    """The station of a service."""
    if isinstance(service, Places):
        return PlacesStation(service, clock)
    if isinstance(service, Batches):
        return BatchStation(service, clock)
    return StepStation(service, clock)
