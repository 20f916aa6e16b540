"""What every request is checked against, in memory: live keys with their tenants and limits, and the tariff.

What it is: a dictionary from SHA-256 digest to key, and a tariff, each replaced whole when ``meta.auth_version`` moved.
What it refuses to be: authoritative. The ledger is; this follows it within a second.
Why no slow hash: a secret is 256 random bits, so nobody can try candidates against a stolen digest; bcrypt or argon2
protect secrets that people choose, and would cost each request 50 ms.
What it costs: about 1 µs a look-up; 300 µs a thousand keys at a reload.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from typing import cast

import msgspec

from appliance.errors import LedgerUnavailable
from appliance.ledger.db import Db
from appliance.ledger.tariff import Tariff, load_tariff
from appliance.types import Key, Residency, Role, Tenant

_LIVE = (
    "SELECT k.digest, k.id, k.name, k.role, k.models, k.endpoints, k.residency, k.requests_per_minute,"
    " k.tokens_per_minute, k.max_concurrent, k.cap_nusd, k.expires_ms,"
    " t.id, t.name, t.cache_salt, t.secret, t.residency, t.regions, t.languages, t.cap_nusd, t.store_text,"
    " t.translation_memory"
    " FROM keys AS k JOIN tenants AS t ON t.id = k.tenant_id WHERE k.revoked_ms IS NULL AND t.disabled_ms IS NULL"
)
_KEY_COLUMNS = 12
_log = logging.getLogger("appliance.ledger")
_names = msgspec.json.Decoder(tuple[str, ...])


def digest_of(secret: str) -> bytes:
    """SHA-256 of the secret, 32 bytes. Any text is accepted, also what is not UTF-8 when it arrived."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class KeyTable:
    """Read by the event loop, refreshed by the writer's thread; each sees a whole table."""

    def __init__(self, db: Db) -> None:
        self._keys: dict[bytes, tuple[bytes, Key]] = {}
        self._stale = True
        self._failing = False
        self.version = 0  # the auth_version that is in memory
        self.tariff: Tariff
        self._load_if_changed(db)

    def find(self, secret: str, now_ms: int) -> Key | None:
        """The live key with this secret."""
        digest = digest_of(secret)
        found = self._keys.get(digest)
        if found is None or not hmac.compare_digest(found[0], digest):
            return None
        key = found[1]
        return None if key.expires_ms is not None and key.expires_ms <= now_ms else key

    def named(self, key_id: str, now_ms: int) -> Key | None:
        """The live key with this id. Linear: for work that was taken on earlier, not for requests."""
        found = next((key for _, key in self._keys.values() if key.id == key_id), None)
        return None if found is None or (found.expires_ms is not None and found.expires_ms <= now_ms) else found

    def refresh(self, db: Db) -> None:
        """Reload if anything in it was changed, by whomever, since the last time."""
        try:
            self._load_if_changed(db)
            self._failing = False
        except LedgerUnavailable as e:
            # What was live stays: requests fail on the ledger itself while it cannot even be read.
            if not self._failing:
                _log.warning("the keys could not be read again (%s); retrying", e.__cause__ or e.message)
            self._failing = True

    def _load_if_changed(self, db: Db) -> None:
        # read before the rows: a commit in between shows up as a change the next time
        self._stale = db.changed() or self._stale
        if not self._stale:
            return
        ((version,),) = db.query("SELECT value FROM meta WHERE name = 'auth_version'")
        keys: dict[bytes, tuple[bytes, Key]] = {}
        tenants: dict[str, Tenant] = {}
        for row in db.query(_LIVE):
            tenant = tenants.setdefault(row[_KEY_COLUMNS], _tenant(row[_KEY_COLUMNS:]))
            raw = bytes.fromhex(row[0])
            keys[raw] = (raw, _key(row[1:_KEY_COLUMNS], tenant))
        self.tariff = load_tariff(db.query)
        self._keys = keys
        self._stale = False
        self.version = int(version)


def _key(row: tuple[object, ...], tenant: Tenant) -> Key:
    key_id, name, role, models, endpoints, residency, *limits = row
    return Key(
        str(key_id),
        str(name),
        cast(Role, role),
        tenant,
        _names.decode(str(models)),
        _names.decode(str(endpoints)),
        cast("Residency | None", residency),
        *cast("list[int | None]", limits),
    )


def _tenant(row: tuple[object, ...]) -> Tenant:
    tenant_id, name, salt, secret, residency, regions, languages, cap_nusd, store_text, memory = row
    return Tenant(
        str(tenant_id),
        str(name),
        str(salt),
        bytes.fromhex(str(secret)),
        cast(Residency, residency),
        _names.decode(str(regions)),
        _names.decode(str(languages)),
        cast("int | None", cap_nusd),
        bool(store_text),
        bool(memory),
    )
