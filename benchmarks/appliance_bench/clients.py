"""Several processes that offer load together: each its share of the requests, all from the same moment.

What it is: a pool of fresh processes; a part of a cell is dealt out request by request, and what came back is put
together. The clock is CLOCK_MONOTONIC, which processes of one machine share.
What it refuses to be: more than the machine has. On two cores one process is the default: the engines need them too.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType

from msgspec import Struct

from appliance_bench import drive
from appliance_bench.drive import Job, Load
from appliance_bench.wire import Client

_AHEAD_S = 0.3


Part = tuple[Sequence[Job], Sequence[float], float]
"""Jobs, when each is due (seconds), and the time of a request that still is of use (milliseconds)."""


class Offer(Struct, frozen=True):
    """What one process sends: ``start`` is on the monotonic clock."""

    url: str
    key: str
    parts: tuple[Part, ...]
    start: float


class Clients:
    """A pool of ``count`` processes; use as a context manager."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _quiet)

    def __enter__(self) -> Clients:
        # a barrier is not needed for being awake: each has to answer while the others still sleep
        for ready in [self._pool.submit(time.sleep, 0.2) for _ in range(self.count)]:
            ready.result()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None:
            for process in list(self._pool._processes.values()):  # no public way to end what runs
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def offer(self, url: str, key: str, parts: Sequence[Part]) -> list[Load]:
        """All parts at once; a Load a part, in its order."""
        start = time.monotonic() + _AHEAD_S
        futures = []
        for n in range(self.count):
            mine = tuple((tuple(jobs[n :: self.count]), tuple(due[n :: self.count]), ms) for jobs, due, ms in parts)
            futures.append(self._pool.submit(_offer, Offer(url, key, mine, start)))
        found = [future.result() for future in futures]
        return [joined([one[n] for one in found], len(jobs)) for n, (jobs, _, _) in enumerate(parts)]


def joined(loads: Sequence[Load], count: int) -> Load:
    """The nth request was the (n mod clients)th process's."""
    whole = Load(texts=[None] * count)
    for n, load in enumerate(loads):
        whole.took += load.took
        whole.texts[n :: len(loads)] = load.texts
        whole.tokens += load.tokens
        whole.overrun |= load.overrun
        whole.duration_s = max(whole.duration_s, load.duration_s)
    return whole


def _quiet() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one


def _offer(what: Offer) -> list[Load]:
    return asyncio.run(_offered(what))


async def _offered(what: Offer) -> list[Load]:
    client = Client(what.url, {"authorization": f"Bearer {what.key}"} if what.key else None)
    gc.collect()
    gc.disable()
    try:
        await asyncio.sleep(max(0.0, what.start - time.monotonic()))
        return list(await asyncio.gather(*(_part(client, *part) for part in what.parts)))
    finally:
        gc.enable()
        await client.close()


async def _part(client: Client, jobs: Sequence[Job], due_s: Sequence[float], limit_ms: float) -> Load:
    return await drive.offer(client, jobs, due_s, limit_ms) if jobs else Load()


def default_count() -> int:
    """A quarter of the cores."""
    return max(1, min(8, len(os.sched_getaffinity(0)) // 4))
