"""The one writer: a thread that commits in groups.

What it is: everything queued when the thread wakes goes into one transaction, and one ``call_soon_threadsafe`` tells
all its waiters. Four times a second it also looks whether another process changed the keys.
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

from appliance.errors import LedgerUnavailable
from appliance.ledger.journal import Entry, Journal
from appliance.ledger.keytable import KeyTable

WATCH_EVERY_S = 0.25
_LARGEST_GROUP = 1024
_log = logging.getLogger("appliance.ledger")


class _Item(Struct, frozen=True):
    entry: Entry
    done: asyncio.Future[None]


class Writer:
    """Owns ``journal`` from ``start`` until ``close`` returns."""

    def __init__(
        self,
        journal: Journal,
        keys: KeyTable,
        commit_delay_s: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._keys = keys
        self._commit_delay_s = commit_delay_s
        self._monotonic = monotonic
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._gate = threading.Lock()  # between the last put and the end of the thread
        self._closed = False
        self._failing = False
        self._watch_at = monotonic() + WATCH_EVERY_S
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to write for coroutines of ``loop``. What was queued before is written first."""
        self._loop = loop
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def write(self, entry: Entry) -> asyncio.Future[None]:
        """Queue ``entry`` (at once, not when awaited); the future is done when it is durable."""
        future = asyncio.get_running_loop().create_future()
        with self._gate:
            if self._closed:
                raise LedgerUnavailable("the appliance is shutting down; send the request again when it is back")
            self._queue.put(_Item(entry, future))
        return future

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
                self._commit(group)
            elif self._journal.in_debt:
                self._pay_debt()
            if self._monotonic() >= self._watch_at:
                self._watch()

    def _next_group(self) -> tuple[list[_Item], bool]:
        """What is queued now, waiting for the first until the next look at the keys; False ends the thread."""
        group: list[_Item] = []
        take = self._queue.get_nowait
        try:
            item = self._queue.get(timeout=max(0.0, self._watch_at - self._monotonic()))
            while item is not None:
                group.append(item)
                if len(group) == _LARGEST_GROUP:
                    return group, True
                item = take()
            return group, False
        except queue.Empty:
            return group, True

    def _commit(self, group: list[_Item]) -> None:
        errors: Sequence[LedgerUnavailable | None] | None
        try:
            errors = self._journal.write([item.entry for item in group], self._watch)
            if self._commit_delay_s:
                time.sleep(self._commit_delay_s)  # a benchmark's slow disk: the waiters wait, the event loop does not
            self._report(None)
        except LedgerUnavailable as e:
            self._report(e)
            errors = [_again(e) for _ in group]
        except Exception as e:  # the thread must outlive any fault of ours, or every request would hang
            _log.exception("the ledger's writer failed")
            sentence = f"the ledger failed ({type(e).__name__}); see the gateway's log"
            errors = [LedgerUnavailable(sentence) for _ in group]
        self._tell(group, errors)

    def _tell(self, group: list[_Item], errors: Sequence[LedgerUnavailable | None] | None) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(_resolve, group, errors)
        except RuntimeError:  # the loop is closed, nobody waits any more; the rows are written
            _log.debug("the event loop closed before %d entries were confirmed", len(group))

    def _pay_debt(self) -> None:
        try:
            self._journal.write([], self._watch)
            self._report(None)
        except LedgerUnavailable as e:
            self._report(e)

    def _report(self, error: LedgerUnavailable | None) -> None:
        """Log when the ledger stops and when it resumes, not every group between."""
        if error is not None and not self._failing:
            _log.error("%s (%s)", error.message, error.__cause__)
        elif error is None and self._failing:
            _log.warning("the ledger takes writes again")
        self._failing = error is not None

    def _watch(self) -> None:
        self._watch_at = self._monotonic() + WATCH_EVERY_S
        self._keys.refresh(self._journal.connection)


def _again(error: LedgerUnavailable) -> LedgerUnavailable:
    """A copy: one exception raised in many tasks would collect all their tracebacks."""
    return LedgerUnavailable(error.message, code=error.code, headers=dict(error.headers))


def _resolve(group: list[_Item], errors: Sequence[LedgerUnavailable | None] | None) -> None:
    if errors is None:
        for item in group:
            if not item.done.done():  # done already: its coroutine was cancelled
                item.done.set_result(None)
        return
    for item, error in zip(group, errors, strict=True):
        if item.done.done():
            continue
        if error is None:
            item.done.set_result(None)
        else:
            item.done.set_exception(error)
