"""One SQLite connection as the ledger wants it, and SQLite's errors as sentences.

What it is: ``connect`` (WAL, commits synced, foreign keys enforced), ``SqliteDb`` over it, and ``unavailable``.
What it refuses to be: a creator of files (``mode=rw``: a ledger that vanished is an error, not an empty ledger),
or a leak: the sentences reach API callers, so they hold no path.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from appliance.errors import LedgerUnavailable
from appliance.ledger.db import EntryFault, Row, nothing

# 4096 frames = 16 MB of WAL before a commit also checkpoints: at six frames a request, fewer than 2 requests in
# 1,000 wait for one (SQLite's default of 1,000 frames: 6 in 1,000).
_CHECKPOINT_FRAMES = 4096


LOCK_WAIT_S = 5.0
_LOCK_SLICE_MS = 250  # between slices the writer looks after its other duties, so that a revocation is not held up

# What an entry can be guilty of. Everything else SQLite raises is the store's trouble.
_ENTRY_FAULTS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.InterfaceError)


class SqliteDb:
    """``Db`` over one SQLite file."""

    dialect: Literal["sqlite", "postgresql"] = "sqlite"

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._broken = False
        self._synced = True
        self._errors = _Errors(self)
        self._seen: str | None = None
        try:
            self.connection = connect(path, busy_ms=_LOCK_SLICE_MS)
        except sqlite3.Error as e:
            raise unavailable(e) from e

    def begin(self, while_waiting: Callable[[], None] = nothing, durable: bool = True) -> None:
        """Take the write lock, waiting ``LOCK_WAIT_S`` for another process's."""
        with self._errors:
            if self._broken:
                self.connection.close()
                self.connection = connect(self._path, busy_ms=_LOCK_SLICE_MS)
                self._broken, self._synced = False, True
            if durable is not self._synced:
                self.connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._synced = durable
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

    def commit(self) -> None:
        """Make it durable: one fdatasync, which takes along what was committed without since the last."""
        with self._errors:
            self.connection.execute("COMMIT")

    def rollback(self) -> None:
        """Undo; a connection that cannot is opened afresh by the next ``begin``."""
        try:
            if self.connection.in_transaction:  # SQLite ends it by itself on some errors
                self.connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._broken = True

    def savepoint(self) -> None:
        """One level inside a transaction."""
        with self._errors:
            self.connection.execute("SAVEPOINT entry")

    def release(self) -> None:
        """Keep what came since ``savepoint``."""
        with self._errors:
            self.connection.execute("RELEASE entry")

    def undo(self) -> None:
        """Drop what came since ``savepoint``."""
        with self._errors:
            self.connection.execute("ROLLBACK TO entry")
            self.connection.execute("RELEASE entry")

    def run(self, sql: str, rows: Sequence[Row]) -> int:
        """Execute once per row."""
        with self._errors:
            return self.connection.executemany(sql, rows).rowcount

    def send(self, sql: str, rows: Sequence[Row]) -> None:
        """The same: here nothing is gained by waiting."""
        self.run(sql, rows)

    def query(self, sql: str, row: Row = ()) -> list[Row]:
        """All rows."""
        with self._errors:
            return self.connection.execute(sql, row).fetchall()

    def changed(self) -> bool:
        """Two microseconds; the page is in memory unless another process wrote."""
        ((version,),) = self.query("SELECT value FROM meta WHERE name = 'auth_version'")
        changed = bool(version != self._seen)
        self._seen = version
        return changed

    def close(self) -> None:
        """Close; the last connection of a file also empties its WAL."""
        self.connection.close()

    def _said(self, error: sqlite3.Error) -> Exception:
        """``error`` as the ledger says it, and whether this connection can go on."""
        if isinstance(error, sqlite3.ProgrammingError):
            if "closed" not in str(error):
                return EntryFault(str(error))
            self._broken = True
            return unavailable(error)
        if isinstance(error, _ENTRY_FAULTS):
            return EntryFault(str(error))
        self._broken = self._broken or is_broken(error)
        return unavailable(error)


class _Errors:
    """SQLite's errors inside the block as ours. Made once: a generator for every statement costs more than some."""

    def __init__(self, db: SqliteDb) -> None:
        self._db = db

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise self._db._said(error) from error


# sqlite3 asks every value that is no int, float or str for a way to store it, by three look-ups that fail: 0.5 µs each,
# and most columns of a row are NULL. These answer the first.
sqlite3.register_adapter(type(None), {None: None}.get)
sqlite3.register_adapter(bool, int)
sqlite3.register_adapter(bytes, bytes)


def connect(path: Path, *, busy_ms: int = 5000, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode to the existing file ``path``, usable from any one thread at a time.

    ``busy_ms`` bounds each wait for another process's lock. Raises sqlite3.Error.
    """
    uri = f"file:{quote(str(path))}?mode={'ro' if read_only else 'rw'}"
    connection = sqlite3.connect(uri, uri=True, timeout=busy_ms / 1000, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_FRAMES}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


_SENTENCES = {
    sqlite3.SQLITE_FULL: "its disk is full; free space on the disk of APPLIANCE_HOME",
    sqlite3.SQLITE_BUSY: "another process holds its write lock; end that process, or try again when it is done",
    sqlite3.SQLITE_LOCKED: "another process holds its write lock; end that process, or try again when it is done",
    sqlite3.SQLITE_READONLY: "it is read-only; make APPLIANCE_HOME writable for the appliance's user",
    sqlite3.SQLITE_PERM: "access is denied; make APPLIANCE_HOME writable for the appliance's user",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened; make APPLIANCE_HOME writable for the appliance's user",
    sqlite3.SQLITE_IOERR: "its disk reports errors; check free space, quotas and the kernel log",
    sqlite3.SQLITE_CORRUPT: "its file is damaged; restore a backup of ledger.db",
    sqlite3.SQLITE_NOTADB: "its file is not a SQLite database; move it away or restore a backup of ledger.db",
}


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection's lock is the reason."""
    return _primary(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_broken(error: sqlite3.Error) -> bool:
    """Whether the connection is better opened afresh."""
    return _primary(error) not in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
    )


def unavailable(error: sqlite3.Error) -> LedgerUnavailable:
    """The 503 that callers see. The cause is chained for the log."""
    why = _SENTENCES.get(_primary(error), f"SQLite said {type(error).__name__}; see the gateway's log")
    result = LedgerUnavailable(f"the ledger cannot be used: {why}", headers={"retry-after": "5"})
    result.__cause__ = error
    return result


def not_writable(what: str, error: OSError) -> LedgerUnavailable:
    """For files that cannot be made at all."""
    return LedgerUnavailable(
        f"{what} cannot be written ({error.strerror}); make APPLIANCE_HOME writable for the appliance's user"
    )


def _primary(error: sqlite3.Error) -> int:
    # the low byte is the primary code; errors that Python itself raises have none
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF
