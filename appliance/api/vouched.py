"""Whether a request comes from ``appliance live`` on this machine, whose audio goes before everything else.

What it is: a token in ``run/live.token`` (mode 0600), written by the live process at each start and sent back as a
header. Who can read the run directory is the appliance itself.
What it refuses to be: a permission. It moves a request forward in the speech engine's queue and does nothing else;
keys, limits and budgets are the caller's.
What it costs: nothing without the header; a stat of one file with it.
"""

from __future__ import annotations

import hmac
from pathlib import Path

HEADER = b"x-appliance-live"
FILE = "live.token"


class Vouched:
    """The token below ``run``, read again when its file has changed."""

    def __init__(self, run: Path) -> None:
        self._path = run / FILE
        self._seen = 0
        self._token = b""

    def by(self, given: str) -> bool:
        """Whether ``given``, the header's value, is the token."""
        if not given:
            return False
        try:
            changed = self._path.stat().st_mtime_ns
            if changed != self._seen:
                self._token, self._seen = self._path.read_bytes().strip(), changed
        except OSError:
            return False
        return bool(self._token) and hmac.compare_digest(given.encode("latin-1", "replace"), self._token)
