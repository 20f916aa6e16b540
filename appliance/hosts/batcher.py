"""Batches of work from many concurrent requests: which item goes when, and with whom.

What it is: ``BatchQueue`` decides (pure, no clock of its own, no threads) and ``Batcher`` carries out
(asyncio in front, worker threads behind). Items of one bucket key share a batch; a bucket is ripe once it
is full or its oldest item has waited ``max_wait_s``; of the ripe ones the bucket whose head is oldest goes
first, so a busy bucket cannot starve a quiet one. Items with ``patience_s`` let younger ones pass, for that long and
no longer, and share batches with their like only. Cost is the caller's: windows, tokens, whatever.
What it refuses to be: a cache, a retry policy or a place that knows what a batch computes.
It costs one timer and one thread hop a batch; ``take`` is linear in the number of bucket keys (about ten).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from appliance.errors import DeadlineExceeded, EngineUnavailable

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Limits:
    """``max_cost`` bounds the sum of item costs in a batch; an item dearer than it goes alone."""

    max_batch: int
    max_wait_s: float
    max_cost: float = math.inf

    def __post_init__(self) -> None:
        if self.max_batch < 1 or self.max_wait_s < 0 or not self.max_cost > 0:
            raise ValueError("a batch needs max_batch >= 1, max_wait_s >= 0 and max_cost > 0")


@dataclass(eq=False)
class Entry(Generic[T]):
    """One queued item. Times on the queue's clock, in seconds."""

    item: T
    key: Hashable
    cost: float
    deadline: float
    at: float
    patience_s: float = 0.0
    gone: bool = False

    @property
    def bucket(self) -> Hashable:
        """Which bucket it waits in."""
        return (self.key, self.patience_s)


@dataclass
class _Bucket(Generic[T]):
    entries: deque[Entry[T]] = field(default_factory=deque)

    def head(self) -> Entry[T]:
        return self.entries[0]


class BatchQueue(Generic[T]):
    """The decision: add, cancel, take. Every time is passed in; nothing here waits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buckets: dict[Hashable, _Bucket[T]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(
        self, item: T, *, key: Hashable, cost: float, deadline: float, now: float, patience_s: float = 0.0
    ) -> Entry[T]:
        """Queue ``item`` behind the others of its key and patience."""
        entry = Entry(item, key, cost, deadline, now, patience_s)
        self._buckets.setdefault(entry.bucket, _Bucket()).entries.append(entry)
        self._count += 1
        return entry

    def cancel(self, entry: Entry[T]) -> bool:
        """Take ``entry`` out. False: it had already left."""
        bucket = self._buckets.get(entry.bucket)
        if entry.gone or bucket is None:
            return False
        bucket.entries.remove(entry)
        self._left(entry)
        if not bucket.entries:
            del self._buckets[entry.bucket]
        return True

    def take(self, now: float, *, everything: bool = False, among: int = 1) -> list[Entry[T]]:
        """The next batch, or [] when no bucket is ripe (``everything``: any bucket counts as ripe).

        ``among``: workers that are free. What one batch could hold is shared out, so that none of them idles.
        """
        ripe = [b for b in self._buckets.values() if everything or self._ripe_at(b) <= now]
        if not ripe:
            return []
        bucket = min(ripe, key=lambda b: b.head().at + b.head().patience_s)
        fair = -(-len(bucket.entries) // max(1, among))
        batch = [bucket.entries.popleft() for _ in range(min(self._fitting(bucket), fair))]
        if not bucket.entries:
            del self._buckets[batch[0].bucket]
        for entry in batch:
            self._left(entry)
        return batch

    def next_ripe(self) -> float:
        """When the first bucket becomes ripe; infinity when nothing waits."""
        return min((self._ripe_at(b) for b in self._buckets.values()), default=math.inf)

    def _left(self, entry: Entry[T]) -> None:
        entry.gone = True
        self._count -= 1

    def _fitting(self, bucket: _Bucket[T]) -> int:
        """How many entries from the head fit in one batch; at least one."""
        total, count = 0.0, 0
        for entry in bucket.entries:
            total += entry.cost
            if count == self._limits.max_batch or (count and total > self._limits.max_cost):
                break
            count += 1
        return count

    def _ripe_at(self, bucket: _Bucket[T]) -> float:
        full = len(bucket.entries) >= self._limits.max_batch or self._fitting(bucket) < len(bucket.entries)
        return -math.inf if full else bucket.head().at + self._limits.max_wait_s


class Observer(Protocol):
    """What wants to know: called on the event loop, must not block."""

    def queued(self, depth: int) -> None:
        """The queue now holds ``depth`` items."""

    def dispatched(self, key: Hashable, size: int) -> None:
        """A batch of ``size`` items went to a worker."""

    def dropped(self, why: str) -> None:
        """An item left unserved: ``cancelled``, ``deadline`` (in the queue or running) or ``closed``."""


class NoObserver:
    """Nobody wants to know."""

    def queued(self, depth: int) -> None:
        """Ignored."""

    def dispatched(self, key: Hashable, size: int) -> None:
        """Ignored."""

    def dropped(self, why: str) -> None:
        """Ignored."""


class Batcher(Generic[T, R]):
    """``await submit(item)`` on the loop; ``run(items)`` in one of ``workers`` threads.

    ``run`` returns one result an item, in order; an exception instance among them is raised to that item's
    caller alone, an exception raised by ``run`` to all of the batch. A caller that goes away while its batch
    runs loses nothing but its own result. ``clock`` must be the loop's kind of clock: monotonic seconds.
    ``share_out``: what came together is shared out among the workers that are free, where a batch of many costs as much
    as batches of few.
    """

    def __init__(
        self,
        run: Callable[[list[T]], Sequence[R | Exception]],
        limits: Limits,
        *,
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
        name: str = "batch",
        share_out: bool = False,
    ) -> None:
        self._run = run
        self._share_out = share_out
        self._queue: BatchQueue[T] = BatchQueue(limits)
        self._clock = clock
        self._observer: Observer = observer or NoObserver()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._free = workers
        self._waiting: dict[Entry[T], asyncio.Future[R]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._closing = False
        self._dispatcher: asyncio.Task[None] | None = None
        self.steps = 0
        self.longest_step_s = 0.0

    @property
    def running(self) -> int:
        """Items queued or with a worker."""
        return len(self._waiting)

    @property
    def depth(self) -> int:
        """Items queued, not yet with a worker."""
        return len(self._queue)

    @property
    def alive(self) -> bool:
        """True between ``start`` and ``close`` while the dispatcher runs."""
        return self._dispatcher is not None and not self._dispatcher.done() and not self._closing

    def start(self) -> None:
        """Begin dispatching; call once, on the running loop."""
        self._dispatcher = asyncio.get_running_loop().create_task(self._dispatch())

    async def submit(
        self, item: T, *, key: Hashable, cost: float = 1.0, deadline: float = math.inf, patience_s: float = 0.0
    ) -> R:
        """The result of ``item``. ``deadline`` is a point on the clock.

        Raises DeadlineExceeded once it has passed, EngineUnavailable when the batcher is closing, or what
        ``run`` said about this item. Cancelling the awaiting task takes the item out of the queue.
        """
        if self._closing:
            raise EngineUnavailable("the engine is stopping; try again when it is back")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        entry = self._queue.add(item, key=key, cost=cost, deadline=deadline, now=self._clock(), patience_s=patience_s)
        self._waiting[entry] = future
        self._changed()
        try:
            return await future
        except asyncio.CancelledError:
            self._queue.cancel(entry)
            self._observer.dropped("cancelled")
            raise
        finally:
            del self._waiting[entry]
            self._changed()

    def poke(self) -> None:
        """Look again now: for a clock that moved by other means than waiting."""
        self._wake.set()

    async def close(self) -> None:
        """Refuse what is queued, wait for the batches that run, stop the threads. May be called twice."""
        self._closing = True
        for entry, future in self._waiting.items():
            if not entry.gone and self._queue.cancel(entry) and not future.done():
                self._observer.dropped("closed")
                future.set_exception(EngineUnavailable("the engine is stopping; try again when it is back"))
        self._wake.set()
        if self._dispatcher is not None:
            await self._dispatcher
        await asyncio.gather(*self._running, return_exceptions=True)
        self._pool.shutdown(wait=True)

    def _changed(self) -> None:
        self._observer.queued(len(self._queue))
        self._wake.set()

    async def _dispatch(self) -> None:
        while not self._closing:
            self._wake.clear()
            now = self._clock()
            self._expire(now)
            while self._free and (batch := self._queue.take(now, among=self._free if self._share_out else 1)):
                self._hand_over(batch)
            try:
                await asyncio.wait_for(self._wake.wait(), self._sleep_s(now))
            except TimeoutError:
                pass

    def _sleep_s(self, now: float) -> float | None:
        ripe = self._queue.next_ripe() if self._free else math.inf
        deadline = min((e.deadline for e, f in self._waiting.items() if not f.done()), default=math.inf)
        until = min(ripe, deadline)
        return None if until == math.inf else max(0.0, until - now)

    def _expire(self, now: float) -> None:
        for entry, future in self._waiting.items():
            if entry.deadline <= now and not future.done():
                self._queue.cancel(entry)
                self._observer.dropped("deadline")
                future.set_exception(
                    DeadlineExceeded("the request's deadline passed before its work was done; send less or wait longer")
                )

    def _hand_over(self, batch: list[Entry[T]]) -> None:
        self._free -= 1
        self._observer.queued(len(self._queue))
        self._observer.dispatched(batch[0].key, len(batch))
        task = asyncio.get_running_loop().create_task(self._carry_out(batch))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _carry_out(self, batch: list[Entry[T]]) -> None:
        results: Sequence[R | Exception]
        started_s = self._clock()
        try:
            loop = asyncio.get_running_loop()
            results = await loop.run_in_executor(self._pool, self._run, [entry.item for entry in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"a batch of {len(batch)} items came back with {len(results)} results")
        except Exception as e:
            results = [e] * len(batch)
        finally:
            self.steps += 1
            self.longest_step_s = max(self.longest_step_s, self._clock() - started_s)
            self._free += 1
            self._wake.set()
        for entry, result in zip(batch, results, strict=True):
            future = self._waiting.get(entry)
            if future is None or future.done():
                continue  # its caller left, or its deadline passed: the result is nobody's
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
