"""The one writer: a thread that commits in groups.

What it is: everything queued when the thread wakes goes into one transaction, and one ``call_soon_threadsafe`` tells
all its waiters. Under load it first waits for at most half a commit: callers in two halves that each wait for the
other's commit would pay for twice as many (PostgreSQL's ``commit_delay`` is the same idea). Four times a second it also
looks after what it was given as ``watch`` (changed keys, the beat).
What it refuses to be: a buffer that may lose. A coroutine resumes after its entry is on the disk; a cancelled
coroutine's entry is written all the same.
What it costs: at one caller some 10 µs more than committing on the event loop would. It keeps a slow disk (4 ms a
commit and more) from stopping every stream, and at 16 callers it is the faster of the two, because work overlaps.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from appliance.errors import ApplianceError, LedgerUnavailable
from appliance.ledger.entries import Entering, Entry, Settlement
from appliance.ledger.journal import Journal, Result
from appliance.types import Admitted

WATCH_EVERY_S = 0.25
_LARGEST_GROUP = 1024
_BUSY_GROUPS = 6  # entries in the last two groups, from which on a commit is waited with
_NAPS = 4
_LONGEST_COMMIT_S = 0.02  # a store in trouble is not waited for in advance
_log = logging.getLogger("appliance.ledger")


class _Item(Struct, frozen=True):
    entry: Entry
    done: asyncio.Future[Result] | None  # None: nobody waits


class Writer:
    """Owns ``journal`` from ``start`` until ``close`` returns."""

    def __init__(
        self,
        journal: Journal,
        watch: Callable[[], None],
        commit_delay_s: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._look_after = watch
        self._commit_delay_s = commit_delay_s
        self._monotonic = monotonic
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._gate = threading.Lock()  # between the last put and the end of the thread
        self._closed = False
        self._failing = False
        self._careless = False  # the last look after keys and gateways failed
        self._took_s = 0.0  # a commit, smoothed
        self._sizes = (0, 0)  # of the last two groups
        self._open = 0  # requests admitted and not settled
        self._watch_at = monotonic() + WATCH_EVERY_S
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to write for coroutines of ``loop``. What was queued before is written first."""
        self._loop = loop
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def write(self, entry: Entry) -> asyncio.Future[Result]:
        """Queue ``entry`` (at once, not when awaited); the future is done when it is durable.

        It gives what the journal said, or raises it where that is an error.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._put(_Item(entry, future))
        return future

    def note(self, entry: Entry) -> None:
        """Queue ``entry`` for whom nobody waits; lost if the store cannot take it."""
        self._put(_Item(entry, None))

    def _put(self, item: _Item) -> None:
        with self._gate:
            if self._closed:
                raise LedgerUnavailable("the appliance is shutting down; send the request again when it is back")
            self._queue.put(item)

    def close(self) -> None:
        """Write what is queued and end the thread."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        running = True
        while running:
            group, running = self._next_group()
            if group:
                running = running and self._gather(group)
                self._timed_commit(group)
            elif self._journal.in_debt:
                self._pay_debt()
            if self._monotonic() >= self._watch_at:
                self._watch()

    def _next_group(self) -> tuple[list[_Item], bool]:
        """What is queued now, waiting for the first until the next look at the keys; False ends the thread."""
        try:
            item = self._queue.get(timeout=max(0.0, self._watch_at - self._monotonic()))
        except queue.Empty:
            return [], True
        if item is None:
            return [], False
        group = [item]
        return group, self._take(group)

    def _take(self, group: list[_Item]) -> bool:
        """Add what is queued now; False ends the thread."""
        take = self._queue.get_nowait
        try:
            while len(group) < _LARGEST_GROUP:
                item = take()
                if item is None:
                    return False
                group.append(item)
        except queue.Empty:
            pass
        return True

    def _gather(self, group: list[_Item]) -> bool:
        """Wait, while this is busy, for those who have just been told; never for more than there can be."""
        recent = sum(self._sizes)
        if recent < _BUSY_GROUPS:
            return True
        expected = min(recent, self._open + sum(isinstance(item.entry, Entering) for item in group))
        for _ in range(_NAPS):
            if len(group) >= expected:
                break
            time.sleep(self._took_s / (2 * _NAPS))
            if not self._take(group):
                return False
        return True

    def _timed_commit(self, group: list[_Item]) -> None:
        started_s = self._monotonic()
        self._commit(group)
        took_s = min(self._monotonic() - started_s, _LONGEST_COMMIT_S)
        self._took_s += (took_s - self._took_s) / 8
        self._sizes = (len(group), self._sizes[0])

    def _commit(self, group: list[_Item]) -> None:
        results: Sequence[Result]
        try:
            results = self._journal.write([item.entry for item in group], self._watch)
            if self._commit_delay_s and self._journal.durable:
                time.sleep(self._commit_delay_s)  # a benchmark's slow disk: the waiters wait, the event loop does not
            self._report(None)
        except LedgerUnavailable as e:
            self._report(e)
            results = [_again(e) for _ in group]
        except Exception as e:  # the thread must outlive any fault of ours, or every request would hang
            _log.exception("the ledger's writer failed")
            sentence = f"the ledger failed ({type(e).__name__}); see the gateway's log"
            results = [LedgerUnavailable(sentence) for _ in group]
        self._tell(group, results)

    def _tell(self, group: list[_Item], results: Sequence[Result]) -> None:
        assert self._loop is not None
        for item, result in zip(group, results, strict=True):
            if isinstance(item.entry, Settlement):
                self._open = max(0, self._open - 1)
            elif isinstance(result, Admitted) and result.kept is None:
                self._open += 1
        try:
            self._loop.call_soon_threadsafe(_resolve, group, results)
        except RuntimeError:  # the loop is closed, nobody waits any more; the rows are written
            _log.debug("the event loop closed before %d entries were confirmed", len(group))

    def _pay_debt(self) -> None:
        try:
            self._journal.write([], self._watch)
            self._report(None)
        except LedgerUnavailable as e:
            self._report(e)
        except Exception:
            _log.exception("the ledger's writer failed")

    def _report(self, error: LedgerUnavailable | None) -> None:
        """Log when the ledger stops and when it resumes, not every group between."""
        if error is not None and not self._failing:
            _log.error("%s (%s)", error.message, error.__cause__)
        elif error is None and self._failing:
            _log.warning("the ledger takes writes again")
        self._failing = error is not None

    def _watch(self) -> None:
        try:
            self._look_after()
            self._careless = False
        except Exception:  # as in _commit; said once, this comes four times a second
            if not self._careless:
                _log.exception("looking after keys and gateways failed; trying again")
            self._careless = True
        self._watch_at = self._monotonic() + WATCH_EVERY_S


def _again(error: LedgerUnavailable) -> LedgerUnavailable:
    """A copy: one exception raised in many tasks would collect all their tracebacks."""
    return LedgerUnavailable(error.message, code=error.code, headers=dict(error.headers))


def _resolve(group: list[_Item], results: Sequence[Result]) -> None:
    for item, result in zip(group, results, strict=True):
        done = item.done
        if done is None or done.done():  # done already: its coroutine was cancelled
            continue
        if isinstance(result, ApplianceError):
            done.set_exception(result)
        else:
            done.set_result(result)
