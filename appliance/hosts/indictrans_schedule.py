"""Who joins next: sentences that wait for a slot, by length, the most urgent first.

What it is: ``Waiting``, a queue that gives the next sentences to encode together. The one that has waited longest says
which length; others of that length go along, up to what is free. A sentence with patience lets younger ones pass, for
so long and no longer. Pure: times are passed in, nothing waits here.
What it refuses to be: ``batcher``, whose batches run to their end before another begins; here there is nothing to
ripen, because whoever comes later joins later.
What it costs: one look at the head of each length.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T", bound=Hashable)

# Sources are padded to one of these; a CUDA graph is made for each.
LENGTHS = (8, 16, 32, 64, 96, 128)
# How many are encoded together, and how many slots a step covers: a graph for each, filled up with rows of no sentence.
TOGETHER = (1, 4, 16, 64)
ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
# Tokens encoded in one go: more would keep those that decode waiting for longer than some steps take.
MOST_TOKENS = 4096


def at_least(wanted: int, sizes: tuple[int, ...], most: int) -> int:
    """The smallest of ``sizes`` that ``wanted`` fits into; ``most`` beyond them."""
    return min(next((size for size in sizes if size >= wanted), most), most)


class _Place(NamedTuple):
    due: float
    number: int


class Waiting(Generic[T]):
    """The queue. An item is in it once."""

    def __init__(self, longest: int, most_tokens: int = MOST_TOKENS) -> None:
        self._longest, self._most_tokens = longest, most_tokens
        self._places: dict[T, tuple[int, _Place]] = {}
        self._lengths: dict[int, list[tuple[_Place, T]]] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._places)

    def add(self, item: T, length: int, now: float, patience: float = 0.0) -> None:
        """Queue a sentence of ``length`` tokens; ``patience`` in the unit of ``now``."""
        bucket = at_least(length, LENGTHS, self._longest)
        place = _Place(now + patience, self._number)
        self._number += 1
        self._places[item] = bucket, place
        insort(self._lengths.setdefault(bucket, []), (place, item), key=lambda each: each[0])

    def cancel(self, item: T) -> bool:
        """Take ``item`` out. False: it is not here."""
        if (found := self._places.pop(item, None)) is None:
            return False
        bucket, place = found
        queue = self._lengths[bucket]
        del queue[bisect_left(queue, place, key=lambda each: each[0])]
        if not queue:
            del self._lengths[bucket]
        return True

    def take(self, free: int) -> tuple[int, list[T]]:
        """The padded length and the next sentences to encode together, at most ``free``; none where none waits."""
        if not self._lengths or free < 1:
            return 0, []
        bucket = min(self._lengths, key=lambda each: self._lengths[each][0][0])
        most = max(1, min(free, TOGETHER[-1], self._most_tokens // bucket))
        queue = self._lengths[bucket]
        taken = [item for _, item in queue[:most]]
        del queue[:most]
        if not queue:
            del self._lengths[bucket]
        for item in taken:
            del self._places[item]
        return bucket, taken
