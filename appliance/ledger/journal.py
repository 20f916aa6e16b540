"""Turns a group of entries into one transaction.

What it is: ``Journal.write(group)``: everything in the group commits together, or nothing does. An entry that is bad
in itself is found and left out, the rest of its group still commits. ``admitting.py`` and ``settling.py`` hold the
statements; this file the order they run in, and what happens when they fail.
What it refuses to be: asynchronous or thread-safe. The writer's thread is its only caller once it runs.
What it costs: 25 (admit) to 40 µs (settle) of CPU alone, half of it in a group of 16, and one fdatasync a group,
none for a group of nothing but admissions that nobody was told of (``_must_last``).
``executemany`` was measured against ``INSERT … SELECT … FROM json_each(?)``, multi-row ``VALUES``, and triggers on a
view that make a group one single step: it took the least CPU of them at 1, 16 and 64 callers. sqlite3 gives up the GIL
at every row, but a row is done before a busy event loop has woken up to take it; only the commit loses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from appliance.errors import ApplianceError, LedgerUnavailable
from appliance.ledger.admitting import Admitting
from appliance.ledger.db import Db, EntryFault, Retry
from appliance.ledger.entries import Busy, Entering, Entry, Settlement
from appliance.ledger.errors import Rejected
from appliance.ledger.limits import caps_of, limited
from appliance.ledger.rows import Rows
from appliance.ledger.settling import NotOpen, lose, settle
from appliance.types import Admitted

# Deadlocks and serialization failures of several gateways on one PostgreSQL pass on a second try.
_TRIES = 5

# What an entry can be guilty of. Everything else is the store's trouble and fails the group.
_BAD_ENTRY = (EntryFault, NotOpen, AttributeError, TypeError, ValueError, OverflowError)

_BUSY = (
    "INSERT INTO engine_hours (engine, hour_ms, gateway_id, busy_ns, up_ns) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (engine, hour_ms, gateway_id) DO UPDATE SET busy_ns = engine_hours.busy_ns + excluded.busy_ns,"
    " up_ns = engine_hours.up_ns + excluded.up_ns"
)

# An entry's answer: how it was admitted or why not; None for an entry that asks for none.
Result = Admitted | ApplianceError | None


def _nothing() -> None:
    return None


class Journal:
    """The connection that writes. Raises LedgerUnavailable when the store cannot take a group."""

    def __init__(self, db: Db, gateway_id: str, clock: Callable[[], float]) -> None:
        self.db = db
        self.gateway_id = gateway_id
        self._clock = clock
        # Requests whose outcome could not be written, or whose admission was perhaps: lost, as soon as the store takes
        # writes again.
        self._unrecorded: dict[str, Entering] = {}
        self.durable = True  # whether the last group had to be

    @property
    def in_debt(self) -> bool:
        """Whether requests wait to be settled as lost; ``write([])`` tries it."""
        return bool(self._unrecorded)

    def write(self, group: Sequence[Entry], while_waiting: Callable[[], None] = _nothing) -> list[Result]:
        """Commit ``group``. The results are in its order; a Rejected is an entry that was left out.

        ``while_waiting`` is called while another process holds the lock. Raises LedgerUnavailable, and then nothing of
        the group is in the ledger.
        """
        self.durable = self.in_debt or any(map(_must_last, group))
        for attempt in range(1, _TRIES + 1):
            try:
                results = self._write(group, while_waiting)
                break
            except Retry as e:
                self.db.rollback()
                if attempt == _TRIES:
                    self._owe(group)
                    raise LedgerUnavailable(e.message, headers=dict(e.headers)) from e
            except BaseException:  # a fault of ours must not leave a transaction open either
                self.db.rollback()
                self._owe(group)
                raise
        for entry, result in zip(group, results, strict=True):
            if isinstance(entry, Entering):
                entry.result = result
            elif isinstance(entry, Settlement) and isinstance(result, Rejected):
                self._owe([entry])
        return results

    def _write(self, group: Sequence[Entry], while_waiting: Callable[[], None]) -> list[Result]:
        self.db.begin(while_waiting, self.durable)
        try:
            results = self._put(group)
            self._end(group)
        except _BAD_ENTRY as e:
            self.db.rollback()
            if len(group) == 1:
                return [_rejection(group[0], e)]
            self.db.begin(while_waiting, self.durable)
            results = self._put_one_by_one(group)
            self._end(group)
        return results

    def _end(self, group: Sequence[Entry]) -> None:
        if self._unrecorded:
            lose(self.db, self._unrecorded.values(), int(self._clock() * 1000))
        try:
            self.db.commit()
        except Retry:
            raise
        except LedgerUnavailable:
            self._doubt(group)
            raise
        self._unrecorded = {}

    def _put(self, group: Sequence[Entry]) -> list[Result]:
        """Outcomes first, since they free what admissions ask for; but a request is admitted before it is settled."""
        rows = Rows(self.db, group)
        entering = [entry for entry in group if isinstance(entry, Entering)]
        fresh = {entry.admission.request.id: entry for entry in entering}
        settlements = [entry for entry in group if isinstance(entry, Settlement)]
        settle(self.db, rows, [s for s in settlements if s.outcome.request_id not in fresh], {})
        results: dict[str, Result] = {}
        if entering:
            results = dict(Admitting(self.db, rows, self.gateway_id).admit(entering))
        settle(self.db, rows, [s for s in settlements if s.outcome.request_id in fresh], results)
        if busy := [entry for entry in group if isinstance(entry, Busy)]:
            self.db.send(_BUSY, [(b.engine, b.hour_ms, self.gateway_id, b.busy_ns, b.up_ns) for b in busy])
        rows.write()
        return [results[e.admission.request.id] if isinstance(e, Entering) else None for e in group]

    def _put_one_by_one(self, group: Sequence[Entry]) -> list[Result]:
        results: list[Result] = []
        for entry in group:
            self.db.savepoint()
            try:
                results += self._put([_with_result(entry, group, results)])
                self.db.release()
            except _BAD_ENTRY as e:
                self.db.undo()
                results.append(_rejection(entry, e))
        return results

    def _owe(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            # without an answer it was never admitted, and there is no row to settle
            if isinstance(entry, Settlement) and isinstance(entry.entering.result, Admitted):
                self._unrecorded[entry.outcome.request_id] = entry.entering

    def _doubt(self, group: Sequence[Entry]) -> None:
        """A connection that breaks in a commit leaves open whether it was one. Callers are told no; so be it."""
        for entry in group:
            if isinstance(entry, Entering):
                self._unrecorded[entry.admission.request.id] = entry

    def close(self) -> None:
        """Close the connection; the last one of a file also empties its WAL."""
        self.db.close()


def _must_last(entry: Entry) -> bool:
    """Whether it must outlive a power cut from the moment somebody is told of it.

    Nobody is told that a request for one whole answer of this box was let in: it has been answered when its outcome is
    durable, and then so is this. Refusals, streams and money that may leave the box are told, or spent, earlier.
    """
    if not isinstance(entry, Entering):
        return True
    admission = entry.admission
    request, turn = admission.request, admission.turn
    return bool(
        request.stream
        or admission.hosted_nusd
        or admission.idempotency is not None
        or turn.previous_id is not None
        or limited(request.key)
        or caps_of(admission)
    )


def _with_result(entry: Entry, group: Sequence[Entry], results: Sequence[Result]) -> Entry:
    """A settlement whose admission is in the same group learns its answer here, before the group has committed."""
    if isinstance(entry, Settlement) and entry.entering.result is None:
        for other, result in zip(group, results, strict=False):
            if other is entry.entering:
                entry.entering.result = result
    return entry


def _rejection(entry: Entry, error: Exception) -> Rejected:
    if isinstance(error, NotOpen):
        why = "its request is not open in the ledger; admit every request once and settle it once"
    elif isinstance(error, EntryFault) and isinstance(entry, Entering):
        why = "its id is in the ledger already or its key is not; give every request a fresh id and a known key"
    else:
        why = f"a value in it does not fit ({type(error).__name__}); this is a fault of the appliance, please report it"
    what = {Entering: "request", Settlement: "outcome", Busy: "engine's hour"}[type(entry)]
    result = Rejected(f"this {what} cannot be recorded: {why}")
    result.__cause__ = error
    return result
