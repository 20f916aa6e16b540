"""Where each engine goes and how the rest is shared: the arithmetic under ``plan.py``.

What it is: first every engine gets its least (weights, workspace, the cache of one request) on the GPU with most
room, largest first, over several GPUs only where no single one is large enough. What is then left of a GPU is shared
so that its engines can run equally many requests of the stated length at once.
What it refuses to be: optimal. Worst-fit leaves the most cache to everybody, which is what the memory is for; where
it fails, ``largest_set`` tries every subset.
What it costs: microseconds a placement; 4,096 placements at most in ``largest_set``.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from appliance.supervisor.hardware import Gpu
from appliance.supervisor.memory import Want

MIB = 1024 * 1024
# what is kept free at least, whatever the share: allocators fragment, and a driver update wants some
_LEAST_HEADROOM = {True: 512 * MIB, False: 1024 * MIB}
# The least context an engine is started with, where the operator set none.
_LEAST_CONTEXT = 4096
# Requests at once beyond which more cache buys nothing. GPU: the knee of bf16 decode is near 184 rows on an H200
# (790e12/4.3e12 FLOP/B). CPU: 2 cores gave 50, 169 and 362 tokens a second at 1, 8 and 32 requests.
MOST_REQUESTS_GPU = 256
MOST_REQUESTS_A_CORE = 16
_TRY_ALL_SUBSETS_OF = 12
_DIVISIONS = (2, 4, 8)
# where the need of a model is not known, and of releases before there was a plan
DEFAULT_KV_BYTES = 512 * MIB


@dataclass
class Room:
    """A GPU, or RAM where ``gpu`` is None. ``left`` falls as things are placed."""

    gpu: Gpu | None
    total: int
    others: int
    headroom: int
    left: int


def make_room(gpu: Gpu | None, total: int, free: int, ours: int, headroom: float) -> Room:
    """A room that is free but for ``free + ours`` bytes, of which the headroom is kept."""
    keep = max(int(total * headroom), _LEAST_HEADROOM[gpu is not None])
    return Room(gpu, total, max(total - free - ours, 0), keep, free + ours - keep)


@dataclass(frozen=True)
class Place:
    """An engine's place: ``gpus`` it is spread over, none for RAM."""

    want: Want
    gpus: tuple[int, ...]

    @property
    def parts(self) -> int:
        return max(len(self.gpus), 1)


class Rooms:
    """All memory of the machine: ``ram``, and ``gpus`` by index."""

    def __init__(self, ram: Room, gpus: Mapping[int, Room], request_tokens: int, cores: int) -> None:
        self.ram = ram
        self.gpus = dict(gpus)
        self.request_tokens = request_tokens
        self.most_requests = MOST_REQUESTS_GPU if gpus else MOST_REQUESTS_A_CORE * cores

    def copy(self) -> Rooms:
        """The same, to try something in."""
        gpus = {index: Room(**vars(room)) for index, room in self.gpus.items()}
        fresh = Rooms(Room(**vars(self.ram)), gpus, self.request_tokens, 1)
        fresh.most_requests = self.most_requests
        return fresh

    def rooms_of(self, gpus: Sequence[int]) -> list[Room]:
        """The rooms of a place."""
        return [self.gpus[index] for index in gpus] or [self.ram]

    def place(self, want: Want) -> Place | None:
        """Take what ``want`` needs at least from where most is left. None, and nothing taken, where it fits nowhere."""
        for gpus in self._candidates(want):
            if self._take_if_there(want, gpus):
                return Place(want, gpus)
        return None

    def force(self, want: Want) -> Place:
        """Take it although it does not fit: the operator said so. The room's ``left`` may fall below nothing."""
        gpus = tuple(self._roomiest()[:1]) if want.gpus is None else want.gpus
        self._take(want, gpus)
        return Place(want, gpus)

    def _roomiest(self) -> list[int]:
        return sorted(self.gpus, key=lambda index: (-self.gpus[index].left, index))

    def _candidates(self, want: Want) -> Iterable[tuple[int, ...]]:
        """Places to try, best first."""
        if not self.gpus:
            yield ()
            return
        if want.gpus is not None:
            if all(index in self.gpus for index in want.gpus):
                yield want.gpus
            return
        order = self._roomiest()
        yield from ((index,) for index in order)
        if want.divides:
            for parts in _DIVISIONS:
                yield from self._alike(order, parts)
        if want.falls_back:
            yield ()

    def _alike(self, order: Sequence[int], parts: int) -> Iterable[tuple[int, ...]]:
        """The ``parts`` roomiest GPUs of each model: tensor parallelism is as fast as its slowest GPU."""
        models: dict[tuple[str, int], list[int]] = {}
        for index in order:
            gpu = self.gpus[index].gpu
            assert gpu is not None
            models.setdefault((gpu.name, gpu.total_bytes), []).append(index)
        yield from (tuple(sorted(indices[:parts])) for indices in models.values() if len(indices) >= parts)

    def _take_if_there(self, want: Want, gpus: tuple[int, ...]) -> bool:
        each, ram = self._needs(want, gpus)
        rooms = self.rooms_of(gpus) if gpus else []
        if any(room.left < each for room in rooms) or self.ram.left < ram:
            return False
        self._take(want, gpus)
        return True

    def _take(self, want: Want, gpus: tuple[int, ...]) -> None:
        each, ram = self._needs(want, gpus)
        for index in gpus:
            self.gpus[index].left -= each
        self.ram.left -= ram

    def _needs(self, want: Want, gpus: tuple[int, ...]) -> tuple[int, int]:
        """Bytes of each GPU, and of RAM, that ``want`` needs at least in this place."""
        parts = max(len(gpus), 1)
        each = -(-want.weights_bytes // parts) + want.workspace_bytes + -(-self.least_kv(want, parts) // parts)
        return (each, want.host_bytes) if gpus else (0, each + want.host_bytes)

    def needs(self, want: Want) -> int:
        """Bytes it needs at least on a single GPU, or in RAM."""
        return max(self._needs(want, (0,) if self.gpus else ()))

    # the cache

    def stated(self, want: Want) -> int:
        """Tokens of a typical request to this engine."""
        return min(self.request_tokens, want.context_tokens or self.request_tokens)

    def least_kv(self, want: Want, parts: int) -> int:
        """The smallest cache it is started with: what was set (for each GPU), else one request's."""
        if want.kv_cache_bytes is not None:
            return want.kv_cache_bytes * parts
        if want.kv is None:
            return DEFAULT_KV_BYTES * parts if want.unknown else 0
        least = want.context_tokens if want.context_set else min(want.context_tokens, _LEAST_CONTEXT)
        return min(want.kv.request_bytes(max(least, self.stated(want))), _bound(want, parts))

    def most_kv(self, want: Want, parts: int) -> int:
        """More than this buys nothing: as many requests at once as are useful, or one as long as the model can."""
        assert want.kv is not None
        requests = want.max_concurrent or self.most_requests
        useful = max(want.kv.request_bytes(self.stated(want)) * requests, want.kv.request_bytes(want.context_tokens))
        return min(useful, _bound(want, parts))

    def share(self, places: Sequence[Place]) -> dict[str, int]:
        """Every engine's cache in bytes, after what is left was shared out and taken."""
        shared: dict[str, list[int]] = {place.want.engine: [] for place in places}
        for index in [None, *self.gpus]:
            here = [p for p in places if (index in p.gpus if index is not None else not p.gpus)]
            for engine, size in self._share_room(self.ram if index is None else self.gpus[index], here).items():
                shared[engine].append(size)
        result = {}
        for place in places:
            least = self.least_kv(place.want, place.parts)
            sizes = shared[place.want.engine]
            # an engine on several GPUs gets the same of each, so the tightest decides
            kv = max(min(sizes) // MIB * MIB * place.parts, least) if sizes else least
            for room in self.rooms_of(place.gpus):
                room.left -= (kv - least) // place.parts
            result[place.want.engine] = kv
        return result

    def _share_room(self, room: Room, places: Sequence[Place]) -> dict[str, int]:
        """Each engine's part of its cache in this room: equally many requests for all, within what each can use."""
        flexible = [p for p in places if p.want.kv is not None and p.want.kv_cache_bytes is None]
        least = {p.want.engine: self.least_kv(p.want, p.parts) // p.parts for p in flexible}
        most = {p.want.engine: self.most_kv(p.want, p.parts) // p.parts for p in flexible}
        unit = {p.want.engine: p.want.kv.request_bytes(self.stated(p.want)) / p.parts for p in flexible if p.want.kv}
        budget = max(room.left, 0) + sum(least.values())

        def sizes(requests: float) -> dict[str, int]:
            return {e: max(least[e], min(int(requests * unit[e]), most[e])) for e in least}

        low, high = 0.0, 2.0 * max((most[e] / unit[e] for e in least), default=0.0)
        for _ in range(50):  # to a billionth of a request
            middle = (low + high) / 2
            low, high = (middle, high) if sum(sizes(middle).values()) <= budget else (low, middle)
        return sizes(low)


def _bound(want: Want, parts: int) -> int:
    """What the operator allows of a cache, in all."""
    return sys.maxsize if want.kv_at_most is None else want.kv_at_most * parts


def place_all(rooms: Rooms, wants: Sequence[Want]) -> tuple[list[Place], list[Want]]:
    """Places in the order of ``wants``, and those that found none. Pinned engines choose first, then the largest."""
    order = sorted(wants, key=lambda want: (want.gpus is None, -rooms.needs(want)))
    places, failed = {}, []
    for want in order:
        place = rooms.place(want)
        if place is None:
            failed.append(want)
        else:
            places[want.engine] = place
    return [places[w.engine] for w in wants if w.engine in places], failed


def largest_set(rooms: Rooms, wants: Sequence[Want]) -> list[Want]:
    """The largest set of ``wants`` that fits: most engines, then most different tasks, then most weights."""
    if len(wants) > _TRY_ALL_SUBSETS_OF:
        chosen: list[Want] = []
        for want in sorted(wants, key=rooms.needs):
            if not place_all(rooms.copy(), [*chosen, want])[1]:
                chosen.append(want)
        return [want for want in wants if want in chosen]
    for size in range(len(wants), 0, -1):
        fitting = [s for s in itertools.combinations(wants, size) if not place_all(rooms.copy(), s)[1]]
        if fitting:
            return list(max(fitting, key=lambda s: (len({w.task for w in s}), sum(w.weights_bytes for w in s))))
    return []
