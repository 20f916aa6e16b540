"""One SQLite connection as the ledger wants it, and SQLite's errors as sentences.

What it is: ``connect`` (WAL, every commit synced, foreign keys enforced) and ``unavailable``.
What it refuses to be: a creator of files (``mode=rw``: a ledger that vanished is an error, not an empty ledger),
or a leak: the sentences reach API callers, so they hold no path.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

from appliance.errors import LedgerUnavailable

# 4096 frames = 16 MB of WAL before a commit also checkpoints: at six frames a request, fewer than 2 requests in
# 1,000 wait for one (SQLite's default of 1,000 frames: 6 in 1,000).
_CHECKPOINT_FRAMES = 4096


class Rejected(LedgerUnavailable):
    """500: this entry itself cannot be recorded (a second id, an unknown request, a bad value)."""

    status = 500
    code = "ledger_rejected"


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
