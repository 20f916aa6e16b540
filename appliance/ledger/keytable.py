"""The live keys in memory: what a bearer secret is checked against at every request.

What it is: a dictionary from SHA-256 digest to key, replaced whole when another connection changed the file.
What it refuses to be: authoritative. The ledger is; this follows it within a second.
Why no slow hash: a secret is 256 random bits, so nobody can try candidates against a stolen digest; bcrypt or argon2
protect secrets that people choose, and would cost each request 50 ms.
What it costs: about 1 µs a look-up; 100 µs a thousand keys at a reload.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import sqlite3
from typing import cast

from appliance.types import Key, Role, Tenant

_LIVE = (
    "SELECT k.digest, k.id, k.name, k.role, t.id, t.name, t.cache_salt"
    " FROM keys AS k JOIN tenants AS t ON t.id = k.tenant_id WHERE k.revoked_ms IS NULL"
)
_log = logging.getLogger("appliance.ledger")


def digest_of(secret: str) -> bytes:
    """SHA-256 of the secret, 32 bytes. Any text is accepted, also what is not UTF-8 when it arrived."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class KeyTable:
    """Read by the event loop, refreshed by the writer's thread; each sees a whole table."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._seen: tuple[sqlite3.Connection, int] | None = None
        self._keys: dict[bytes, tuple[bytes, Key]] = {}
        self._load_if_changed(connection)

    def find(self, secret: str) -> Key | None:
        """The live key with this secret."""
        digest = digest_of(secret)
        found = self._keys.get(digest)
        if found is None or not hmac.compare_digest(found[0], digest):
            return None
        return found[1]

    def refresh(self, connection: sqlite3.Connection) -> None:
        """Reload if a connection other than this one committed since the last time."""
        try:
            self._load_if_changed(connection)
        except sqlite3.Error as e:
            # What was live stays: requests fail on the ledger itself while it cannot even be read.
            _log.warning("the keys could not be read again (%s); retrying", e)

    def _load_if_changed(self, connection: sqlite3.Connection) -> None:
        # read before the rows: a commit in between shows up as a change the next time
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if self._seen is not None and self._seen[0] is connection and self._seen[1] == version:
            return
        keys: dict[bytes, tuple[bytes, Key]] = {}
        for digest, key_id, name, role, tenant_id, tenant_name, salt in connection.execute(_LIVE):
            raw = bytes.fromhex(digest)
            keys[raw] = (raw, Key(key_id, name, cast(Role, role), Tenant(tenant_id, tenant_name, salt)))
        self._keys = keys
        self._seen = (connection, version)
