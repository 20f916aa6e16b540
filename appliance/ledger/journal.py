"""Turns a group of entries into one SQLite transaction.

What it is: the statements of the hot path and ``Journal.write(group)``: everything in the group commits together, or
nothing does. An entry that is bad in itself is found and left out, the rest of its group still commits.
What it refuses to be: asynchronous or thread-safe. The writer's thread is its only caller once it runs.
What it costs: 10 (admit) to 20 µs (settle) of CPU alone, 4 to 8 in a group of 16, and one fdatasync a group.
``executemany`` was measured against ``INSERT … SELECT … FROM json_each(?)``, multi-row ``VALUES``, and triggers on a
view that make a group one single step: it took the least CPU of them at 1, 16 and 64 callers. sqlite3 gives up the GIL
at every row, but a row is done before a busy event loop has woken up to take it; only the commit loses it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from appliance.ledger.sqlite import Rejected, connect, is_broken, is_busy, unavailable
from appliance.types import AttemptRecord, CallRecord, Outcome, Request

LOCK_WAIT_S = 5.0
_LOCK_SLICE_MS = 250  # between slices the writer looks at the keys, so that a revocation is not held up

_ADMIT = (
    "INSERT INTO requests (id, tenant_id, key_id, endpoint, model, stream, at_ms, status)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, 'open')"
)
_SETTLE = (
    "UPDATE requests SET status = ?, http_status = ?, error_code = ?, total_ms = ?, ttft_ms = ?, finished_ms = ?"
    " WHERE id = ? AND status = 'open'"
)
_ATTEMPT = (
    "INSERT INTO attempts (request_id, ordinal, engine, model, route, reason, status, error_code, total_ms)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_CALL = (
    "INSERT INTO calls (request_id, attempt_ordinal, ordinal, engine, model, status, prompt_tokens, cached_tokens,"
    " completion_tokens, audio_s, finish_reason, ttft_ms, total_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_LOSE = (
    "UPDATE requests SET status = 'lost', error_code = 'ledger_unavailable', finished_ms = ?"
    " WHERE id = ? AND status = 'open'"
)
_LOSE_ALL = "UPDATE requests SET status = 'lost', finished_ms = ? WHERE status = 'open'"

Row = tuple[object, ...]


class Settlement(Struct, frozen=True):
    """An outcome and when it was handed in, Unix milliseconds."""

    outcome: Outcome
    finished_ms: int


Entry = Request | Settlement


class _NotOpen(Exception):
    """Fewer requests were open than outcomes came: some of the group names an unknown or settled one."""


# What an entry can be guilty of. Everything else SQLite raises is the store's trouble and fails the group.
_BAD_ENTRY = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    _NotOpen,
    AttributeError,
    TypeError,
    ValueError,
    OverflowError,
)


class Journal:
    """The connection that writes. Raises LedgerUnavailable when the store cannot take a group."""

    def __init__(self, path: Path, clock: Callable[[], float], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._monotonic = monotonic
        self.connection = connect(path, busy_ms=_LOCK_SLICE_MS)
        self._broken = False
        # Requests whose outcome could not be written: lost, as soon as the store takes writes again.
        self._unrecorded: set[str] = set()

    @property
    def in_debt(self) -> bool:
        """Whether requests wait to be settled as lost; ``write([])`` tries it."""
        return bool(self._unrecorded)

    def lose_open_requests(self) -> int:
        """Settle what a crash left open as lost. Returns how many there were."""
        try:
            return self.connection.execute(_LOSE_ALL, (int(self._clock() * 1000),)).rowcount
        except sqlite3.Error as e:
            raise unavailable(e) from e

    def write(self, group: Sequence[Entry], while_waiting: Callable[[], None]) -> list[Rejected | None] | None:
        """Commit ``group``; None means all of it, a list names the entries left out, by position.

        ``while_waiting`` is called while another process holds the lock. Raises LedgerUnavailable, and then nothing of
        the group is in the ledger.
        """
        try:
            rejected = self._write(group, while_waiting)
        except sqlite3.Error as e:
            self._rollback()
            self._broken = self._broken or is_broken(e)
            self._owe(group)
            raise unavailable(e) from e
        if rejected is not None:
            self._owe([entry for entry, error in zip(group, rejected, strict=True) if error is not None])
        return rejected

    def _write(self, group: Sequence[Entry], while_waiting: Callable[[], None]) -> list[Rejected | None] | None:
        if self._broken:
            self._reopen()
        self._begin(while_waiting)
        lost = self._unrecorded
        try:
            self._put(group)
            rejected = None
        except _BAD_ENTRY as e:
            self._rollback()
            if len(group) == 1:
                return [_rejection(group[0], e)]
            self._begin(while_waiting)
            rejected = self._put_one_by_one(group)
        if lost:
            now_ms = int(self._clock() * 1000)
            self.connection.executemany(_LOSE, [(now_ms, request_id) for request_id in lost])
        self.connection.execute("COMMIT")
        self._unrecorded = set()
        return rejected

    def _put(self, group: Sequence[Entry]) -> None:
        admits: list[Row] = []
        outcomes: list[Row] = []
        attempts: list[Row] = []
        calls: list[Row] = []
        for entry in group:
            if type(entry) is Settlement:
                _outcome_rows(entry, outcomes, attempts, calls)
            else:
                admits.append(_request_row(entry))  # type: ignore[arg-type]
        many = self.connection.executemany
        if admits:
            many(_ADMIT, admits)
        if outcomes:
            if many(_SETTLE, outcomes).rowcount != len(outcomes):
                raise _NotOpen
            many(_ATTEMPT, attempts)
            many(_CALL, calls)

    def _put_one_by_one(self, group: Sequence[Entry]) -> list[Rejected | None]:
        execute = self.connection.execute
        result: list[Rejected | None] = []
        for entry in group:
            execute("SAVEPOINT entry")
            try:
                self._put([entry])
                result.append(None)
            except _BAD_ENTRY as e:
                execute("ROLLBACK TO entry")
                result.append(_rejection(entry, e))
            execute("RELEASE entry")
        return result

    def _begin(self, while_waiting: Callable[[], None]) -> None:
        deadline: float | None = None
        while True:
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as e:
                now = self._monotonic()
                deadline = deadline or now + LOCK_WAIT_S
                if not is_busy(e) or now >= deadline:
                    raise
            while_waiting()

    def _rollback(self) -> None:
        try:
            if self.connection.in_transaction:  # SQLite ends it by itself on some errors
                self.connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._broken = True

    def _reopen(self) -> None:
        self.connection.close()
        self.connection = connect(self._path, busy_ms=_LOCK_SLICE_MS)
        self._broken = False

    def _owe(self, entries: Sequence[Entry]) -> None:
        self._unrecorded.update(entry.outcome.request_id for entry in entries if isinstance(entry, Settlement))

    def close(self) -> None:
        """Close the connection; the last one of a file also empties its WAL."""
        self.connection.close()


def _request_row(request: Request) -> Row:
    key = request.key
    return (
        request.id,
        key.tenant.id,
        key.id,
        request.endpoint,
        request.model,
        int(request.stream),  # sqlite3 binds exact ints and strs fast, bools and enums through an adapter look-up
        request.at_ms,
    )


def _outcome_rows(entry: Settlement, outcomes: list[Row], attempts: list[Row], calls: list[Row]) -> None:
    outcome = entry.outcome
    request_id = outcome.request_id
    outcomes.append(
        (
            outcome.status.value,
            outcome.http_status,
            outcome.error_code,
            outcome.total_ms,
            outcome.ttft_ms,
            entry.finished_ms,
            request_id,
        )
    )
    for record in outcome.attempts:
        attempts.append(_attempt_row(request_id, record))
        ordinal = record.attempt.ordinal
        for call in record.calls:
            calls.append(_call_row(request_id, ordinal, call))


def _attempt_row(request_id: str, record: AttemptRecord) -> Row:
    attempt = record.attempt
    return (
        request_id,
        attempt.ordinal,
        attempt.engine,
        attempt.model,
        attempt.route,
        attempt.reason.value,
        record.status.value,
        record.error_code,
        record.total_ms,
    )


def _call_row(request_id: str, attempt_ordinal: int, call: CallRecord) -> Row:
    usage = call.usage
    return (
        request_id,
        attempt_ordinal,
        call.ordinal,
        call.engine,
        call.model,
        call.status.value,
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.completion_tokens,
        usage.audio_s,
        call.finish_reason,
        call.ttft_ms,
        call.total_ms,
    )


def _rejection(entry: Entry, error: Exception) -> Rejected:
    if isinstance(error, _NotOpen):
        why = "its request is not open in the ledger; admit every request once and settle it once"
    elif isinstance(error, sqlite3.IntegrityError) and isinstance(entry, Request):
        why = "its id is in the ledger already or its key is not; give every request a fresh id and a known key"
    else:
        why = f"a value in it does not fit ({type(error).__name__}); this is a fault of the appliance, please report it"
    what = "request" if isinstance(entry, Request) else "outcome"
    result = Rejected(f"this {what} cannot be recorded: {why}")
    result.__cause__ = error
    return result
