"""What the gateway holds: admit, settle, authenticate.

What it is: ``Ledger``, one per gateway process. A SQLite file has one gateway; on PostgreSQL there may be several, and
nothing here is authoritative: caps, limits and conversations are decided in the database at every admission.
What it refuses to be: blocking. ``admit`` and ``settle`` wait for the writer's thread, ``authenticate`` for nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from appliance.errors import LedgerUnavailable
from appliance.ledger import gateways
from appliance.ledger.db import Db, connect
from appliance.ledger.entries import Busy, Entering, Settlement
from appliance.ledger.ids import new_id
from appliance.ledger.journal import Journal
from appliance.ledger.keytable import KeyTable
from appliance.ledger.lock import FileLock
from appliance.ledger.months import Calendar
from appliance.ledger.sqlite import not_writable
from appliance.ledger.tariff import Tariff
from appliance.ledger.upgrade import prepare
from appliance.ledger.writer import Writer
from appliance.types import Admission, Admitted, Key, Outcome

_OPEN_WAIT_S = 2.0  # a gateway that is just leaving, or a command line that is just upgrading
_BEAT_EVERY_S = 2.0
_CLOCK_OFF_MS = 5_000
_log = logging.getLogger("appliance.ledger")
_SIMULATED = (
    "this ledger holds simulated conversations of `appliance demo`; real traffic never goes into one, so set"
    " APPLIANCE_HOME (or ledger.url) to the real one"
)


class Ledger:
    """Open with ``Ledger.open``; ``start`` on the event loop; ``close`` flushes."""

    def __init__(
        self,
        lock: FileLock | None,
        journal: Journal,
        commit_delay_s: float,
        clock: Callable[[], float],
        calendar: Calendar,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = lock
        self._journal = journal
        self._clock = clock
        self._monotonic = monotonic
        self._calendar = calendar
        self._keys = KeyTable(journal.db)
        self._writer = Writer(journal, self._watch, commit_delay_s)
        self._left: dict[str, Entering] = {}  # whose callers left while they were admitted
        self._beat_at = monotonic() + _BEAT_EVERY_S
        self._connected_at: float | None = None
        self._clock_is_off = False
        self._closed = False

    @classmethod
    def open(
        cls,
        where: Path | str,
        *,
        clock: Callable[[], float] = time.time,
        commit_delay_s: float = 0.0,
        timezone: str = "Asia/Kolkata",
    ) -> Ledger:
        """Bring the ledger to the current schema, settle what a crash left open as lost, load the keys.

        ``where`` is a SQLite file or a PostgreSQL URL; ``commit_delay_s`` is added to every commit (benchmarks).
        Raises LedgerUnavailable: newer schema, another gateway on this file, simulated, or not to be used.
        """
        lock = _locked(where) if isinstance(where, Path) else None
        try:
            prepare(where, clock, lock)
            db = connect(where)
            try:
                journal = Journal(db, _enter(db, where, int(clock() * 1000)), clock)
                return cls(lock, journal, commit_delay_s, clock, Calendar(timezone))
            except BaseException:
                db.close()
                raise
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the writer's thread; ``admit`` and ``settle`` are to be called on ``loop``."""
        self._writer.start(loop)

    async def admit(self, admission: Admission) -> Admitted:
        """Record the request as open and what it may cost as reserved; durable on return.

        Raises BudgetExceeded, RateLimited (both recorded), Conflict (Idempotency-Key), NotFound (an unknown
        previous answer) or LedgerUnavailable (Rejected: the entry's fault). Cancelled while waiting: it is written all
        the same, so the request must still be settled.
        """
        entering = self._entering(admission)
        try:
            result = await self._writer.write(entering)
        except asyncio.CancelledError:
            self._left[admission.request.id] = entering
            raise
        assert isinstance(result, Admitted)
        return result

    async def settle(self, admission: Admission, admitted: Admitted | None, outcome: Outcome) -> None:
        """Record how an admitted request ended, with its attempts and calls; durable on return.

        ``admitted`` is what ``admit`` returned, None where it was cancelled; nothing is written if it turns out that
        such a request was refused. Raises LedgerUnavailable; the request is then settled as lost once the ledger takes
        writes again. Raises Rejected for a request that is not open. Cancelled while waiting: it is written all the
        same.
        """
        entering = self._left.pop(admission.request.id, None) or self._entering(admission)
        if admitted is not None:
            entering.result = admitted
        now_ms = int(self._clock() * 1000)
        hosted_nusd = work_ns = 0
        for record in outcome.attempts:
            for call in record.calls:
                hosted_nusd += call.hosted_nusd
                work_ns += call.work_ns
        energy_nusd = self._keys.tariff.energy_nusd(work_ns, now_ms) if work_ns else 0
        await self._writer.write(Settlement(entering, outcome, now_ms, hosted_nusd, energy_nusd, work_ns))

    def _entering(self, admission: Admission) -> Entering:
        return Entering(admission, self._calendar.month_of(admission.request.at_ms))

    def authenticate(self, secret: str) -> Key | None:
        """The live key with this secret. Keys made or revoked by other processes are seen within 1 s."""
        return self._keys.find(secret, int(self._clock() * 1000))

    def key(self, key_id: str) -> Key | None:
        """The live key with this id, for work that was taken on with it earlier."""
        return self._keys.named(key_id, int(self._clock() * 1000))

    @property
    def version(self) -> int:
        """Which state of keys, tenants and prices is in memory; every change raises it by one."""
        return self._keys.version

    @property
    def tariff(self) -> Tariff:
        """What work costs now; replaced whole when prices change."""
        return self._keys.tariff

    def busy(self, engine: str, hour_ms: int, busy_ns: int, up_ns: int) -> None:
        """Add to an engine's hour; written with a later group."""
        with suppress(LedgerUnavailable):  # closing
            self._writer.note(Busy(engine, hour_ms, busy_ns, up_ns))

    def close(self) -> None:
        """Write what is queued, end the thread, let the next gateway in. Blocks; may be called twice."""
        if self._closed:
            return
        self._closed = True
        self._writer.close()
        with suppress(LedgerUnavailable):
            gateways.retire(self._journal.db, self._journal.gateway_id, int(self._clock() * 1000))
        self._journal.close()
        if self._lock is not None:
            self._lock.release()

    def _watch(self) -> None:
        """In the writer's thread, between transactions: changed keys; on PostgreSQL, the beat and the others'."""
        db = self._journal.db
        self._keys.refresh(db)
        if db.dialect == "postgresql" and self._monotonic() >= self._beat_at:
            try:
                self._beat(db)
            except LedgerUnavailable:  # said by the next write
                self._connected_at = None
            self._beat_at = self._monotonic() + _BEAT_EVERY_S

    def _beat(self, db: Db) -> None:
        now_ms, now = int(self._clock() * 1000), self._monotonic()
        self._compare_clocks(gateways.beat(db, self._journal.gateway_id) - now_ms)
        if self._connected_at is None:
            self._connected_at = now
        # after a server's outage every beat is old: whoever is back first must not take the others for dead
        if now - self._connected_at >= gateways.DEAD_AFTER_MS / 1000:
            gateways.reap_dead(db, now_ms)

    def _compare_clocks(self, ahead_ms: int) -> None:
        off = abs(ahead_ms) > _CLOCK_OFF_MS
        if off and not self._clock_is_off:
            _log.warning(
                "this machine's clock and PostgreSQL's are %.1f s apart; set them by NTP, or months and expiry"
                " of several gateways disagree",
                abs(ahead_ms) / 1000,
            )
        self._clock_is_off = off


def _locked(path: Path) -> FileLock:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return FileLock(path, _OPEN_WAIT_S)
    except OSError as e:
        raise not_writable("the ledger", e) from e


def _enter(db: Db, where: Path | str, now_ms: int) -> str:
    """Register this gateway, after what a dead one left open was settled. Returns its id."""
    if db.query("SELECT value FROM meta WHERE name = 'kind'") != [("real",)]:
        raise LedgerUnavailable(_SIMULATED, code="ledger_simulated")
    gateway_id = new_id("gw", now_ms)
    if isinstance(where, Path):
        gateways.reap_all(db, now_ms)
    else:
        gateways.reap_dead(db, now_ms)
    gateways.register(db, gateway_id, socket.gethostname(), os.getpid(), now_ms)
    return gateway_id
