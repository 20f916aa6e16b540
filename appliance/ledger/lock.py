"""One gateway a ledger: an advisory lock beside the file.

What it is: ``flock`` on ``ledger.db.lock``, held by a gateway for its life and by anyone while the schema changes.
A second gateway would settle the first one's running requests as lost, so it is refused; the kernel frees the lock
however its holder ends.
What it refuses to be: a lock on the database file itself, where closing any descriptor would drop SQLite's own locks.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from appliance.errors import LedgerUnavailable

_POLL_S = 0.05


class FileLock:
    """A held lock. ``release`` may be called twice; garbage collection and exit release too."""

    def __init__(self, path: Path, wait_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Take the lock of the ledger ``path`` within ``wait_s`` seconds. Raises LedgerUnavailable or OSError."""
        self._file = open(path.with_name(path.name + ".lock"), "a+b", buffering=0, opener=_private)  # noqa: SIM115
        deadline = monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() >= deadline:
                    raise LedgerUnavailable(self._holder(), code="ledger_in_use") from None
                time.sleep(_POLL_S)
        self._file.truncate(0)
        self._file.write(b"%d\n" % os.getpid())

    def _holder(self) -> str:
        self._file.seek(0)
        pid = self._file.read(32).decode("ascii", "replace").strip()
        self._file.close()
        return f"another appliance (process {pid or 'unknown'}) is using this ledger; stop it first"

    def release(self) -> None:
        """Let others in."""
        self._file.close()


def _private(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_CREAT, 0o600)
