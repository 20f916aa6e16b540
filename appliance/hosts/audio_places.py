"""Who gets the next free decoder: live audio, then what somebody waits for, then what nobody does.

What it is: a fixed number of places and a queue in the order of rank and arrival. Work of the last rank never holds the
last place, so that a heap of three-hour files does not make a caller wait for one of them to end.
What it refuses to be: acquainted with what stands on a place.
What it costs: a heap operation a file.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import Generic, TypeVar

T = TypeVar("T")


class Places(Generic[T]):
    """Free things are handed out by ``take`` and come back by ``give``. Rank 0 goes first; ``last_rank`` is bulk."""

    def __init__(self, last_rank: int = 2) -> None:
        self._last_rank = last_rank
        self._free: list[T] = []
        self._all = 0
        self._bulk = 0
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[T]]] = []

    def add(self, thing: T) -> None:
        """One more place."""
        self._all += 1
        self._free.append(thing)
        self._serve()

    async def take(self, rank: int) -> T:
        """The next free one. Cancelling takes the caller out of the queue."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._order), future))
        self._serve()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # handed over while it was being cancelled
                self.give(future.result(), rank)
            raise

    def give(self, thing: T, rank: int) -> None:
        """Back, from a caller that took it at ``rank``."""
        self._bulk -= rank >= self._last_rank
        self._free.append(thing)
        self._serve()

    def _serve(self) -> None:
        while self._free and self._waiting:
            rank, _, future = self._waiting[0]
            if not future.done():
                bulk = rank >= self._last_rank
                if bulk and self._bulk >= max(1, self._all - 1):
                    return  # all who wait behind it are bulk too
                self._bulk += bulk
                future.set_result(self._free.pop())
            heapq.heappop(self._waiting)
