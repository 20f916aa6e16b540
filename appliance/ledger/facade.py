"""What the gateway holds: admit, settle, authenticate.

What it is: ``Ledger``, one per gateway process and ledger file.
What it refuses to be: blocking. ``admit`` and ``settle`` wait for the writer's thread, ``authenticate`` for nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from appliance.ledger.journal import Journal, Settlement
from appliance.ledger.keytable import KeyTable
from appliance.ledger.lock import FileLock
from appliance.ledger.sqlite import not_writable, unavailable
from appliance.ledger.upgrade import prepare
from appliance.ledger.writer import Writer
from appliance.types import Key, Outcome, Request

_OPEN_WAIT_S = 2.0  # a gateway that is just leaving, or a command line that is just upgrading


class Ledger:
    """Open with ``Ledger.open``; ``start`` on the event loop; ``close`` flushes."""

    def __init__(self, lock: FileLock, journal: Journal, keys: KeyTable, writer: Writer, clock: Callable[[], float]):
        self._lock = lock
        self._journal = journal
        self._keys = keys
        self._writer = writer
        self._clock = clock

    @classmethod
    def open(cls, path: Path, *, clock: Callable[[], float] = time.time, commit_delay_s: float = 0.0) -> Ledger:
        """Bring ``path`` to the current schema, settle what a crash left open as lost, load the keys.

        ``commit_delay_s`` is added to every commit (benchmarks). Raises LedgerUnavailable: newer schema, another
        gateway on this file, or a file that cannot be used.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = FileLock(path, _OPEN_WAIT_S)
        except OSError as e:
            raise not_writable("the ledger", e) from e
        try:
            prepare(path, clock, lock)
            journal = Journal(path, clock)
            try:
                journal.lose_open_requests()
                keys = KeyTable(journal.connection)
            except BaseException:
                journal.close()
                raise
        except sqlite3.Error as e:
            lock.release()
            raise unavailable(e) from e
        except BaseException:
            lock.release()
            raise
        return cls(lock, journal, keys, Writer(journal, keys, commit_delay_s), clock)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the writer's thread; ``admit`` and ``settle`` are to be called on ``loop``."""
        self._writer.start(loop)

    async def admit(self, request: Request) -> None:
        """Record ``request`` as open; durable on return. Raises LedgerUnavailable (Rejected: the entry's fault).

        Cancelled while waiting: the row is written all the same, so the request must still be settled.
        """
        await self._writer.write(request)

    async def settle(self, outcome: Outcome) -> None:
        """Record how an admitted request ended, with its attempts and calls; durable on return.

        Raises LedgerUnavailable; the request is then settled as lost once the ledger takes writes again. Raises
        Rejected for a request that is not open. Cancelled while waiting: it is written all the same.
        """
        await self._writer.write(Settlement(outcome, int(self._clock() * 1000)))

    def authenticate(self, secret: str) -> Key | None:
        """The live key with this secret. Keys made or revoked by other processes are seen within 1 s."""
        return self._keys.find(secret)

    def close(self) -> None:
        """Write what is queued, end the thread, let the next gateway in. Blocks; may be called twice."""
        self._writer.close()
        self._journal.close()
        self._lock.release()
