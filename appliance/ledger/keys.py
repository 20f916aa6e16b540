"""Making, listing and revoking keys, for the command line and the control socket.

What it is: ``KeyStore`` over the ledger file, usable while a gateway runs (which sees changes within 1 s), and the
first admin key.
What it refuses to be: able to show a secret again. Only its SHA-256 is stored (``keytable`` says why not a slow hash).
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast, get_args

from msgspec import Struct

from appliance.ledger.ids import new_id
from appliance.ledger.keytable import digest_of
from appliance.ledger.sqlite import connect, not_writable, unavailable
from appliance.ledger.upgrade import DEFAULT_TENANT, prepare
from appliance.types import Key, Role, Tenant

PREFIX = "ak-"
_SECRET_BYTES = 32
_LONGEST_NAME = 64


class KeyInfo(Struct, frozen=True):
    """What may be shown of a key. Times are Unix milliseconds; ``revoked_ms`` is None while it is live."""

    id: str
    name: str
    role: Role
    tenant: str
    created_ms: int
    revoked_ms: int | None


class KeyStore:
    """Open with ``KeyStore.open``, close after use (or use ``contextlib.closing``)."""

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock

    @classmethod
    def open(cls, path: Path, clock: Callable[[], float] = time.time) -> KeyStore:
        """Over the ledger at ``path``, created or upgraded if need be. Raises LedgerUnavailable."""
        prepare(path, clock)
        try:
            return cls(connect(path), clock)
        except sqlite3.Error as e:
            raise unavailable(e) from e

    def create(self, name: str, role: str = "client", tenant: str = DEFAULT_TENANT) -> tuple[Key, str]:
        """A new key and its secret, which is nowhere else.

        ``name`` is unique among the live keys of a tenant, so that "revoke web" can mean one only. Raises ValueError
        (role, name), LookupError (tenant), LedgerUnavailable.
        """
        checked = _checked_name(name)
        if role not in get_args(Role):
            raise ValueError(f"{role!r} is not a role; choose one of {', '.join(get_args(Role))}")
        with self._transaction():
            return self._insert(checked, cast(Role, role), tenant, PREFIX + secrets.token_urlsafe(_SECRET_BYTES))

    def list(self) -> list[KeyInfo]:
        """All keys, oldest first, revoked ones too."""
        with self._errors():
            rows = self._connection.execute(
                "SELECT id, name, role, tenant_id, created_ms, revoked_ms FROM keys ORDER BY id"
            ).fetchall()
        return [KeyInfo(*row) for row in rows]

    def revoke(self, key_id: str) -> None:
        """End the key for good; revoking twice is not an error. Raises LookupError, LedgerUnavailable."""
        with self._errors():
            changed = self._connection.execute(
                "UPDATE keys SET revoked_ms = coalesce(revoked_ms, ?) WHERE id = ?", (self._now_ms(), key_id)
            ).rowcount
        if not changed:
            raise LookupError(f"there is no key with the id {key_id!r}; `appliance keys list` shows the ids")

    def create_first_admin(self, secret_path: Path) -> str | None:
        """Unless a live admin key exists: make one and write its secret to ``secret_path``, mode 0600."""
        with self._errors():
            if self._has_admin():  # every start but the first ends here, without a lock
                return None
        with self._transaction():
            if self._has_admin():
                return None
            secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
            # the file first: a crash between the two leaves a useless file, not a key that nobody knows
            _write_private(secret_path, secret + "\n")
            self._insert(self._free_name("admin"), "admin", DEFAULT_TENANT, secret)
            return secret

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _insert(self, name: str, role: Role, tenant_id: str, secret: str) -> tuple[Key, str]:
        row = self._connection.execute("SELECT id, name, cache_salt FROM tenants WHERE id = ?", (tenant_id,)).fetchone()
        if row is None:
            raise LookupError(f"there is no tenant {tenant_id!r}; leave the tenant out for {DEFAULT_TENANT!r}")
        if self._name_taken(name, tenant_id):
            raise ValueError(f"a live key is named {name!r} already; revoke it or choose another name")
        now_ms = self._now_ms()
        key = Key(new_id("key", now_ms), name, role, Tenant(*row))
        self._connection.execute(
            "INSERT INTO keys (id, tenant_id, name, role, digest, created_ms) VALUES (?, ?, ?, ?, ?, ?)",
            (key.id, tenant_id, name, role, digest_of(secret).hex(), now_ms),
        )
        return key, secret

    def _has_admin(self) -> bool:
        query = "SELECT 1 FROM keys WHERE role = 'admin' AND revoked_ms IS NULL LIMIT 1"
        return self._connection.execute(query).fetchone() is not None

    def _name_taken(self, name: str, tenant_id: str) -> bool:
        query = "SELECT 1 FROM keys WHERE tenant_id = ? AND name = ? AND revoked_ms IS NULL"
        return self._connection.execute(query, (tenant_id, name)).fetchone() is not None

    def _free_name(self, name: str) -> str:
        candidate, n = name, 1
        while self._name_taken(candidate, DEFAULT_TENANT):
            n += 1
            candidate = f"{name}-{n}"
        return candidate

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as e:
            raise unavailable(e) from e

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")


def ensure_admin_key(
    ledger_path: Path, secret_path: Path, clock: Callable[[], float] = time.time
) -> tuple[bool, str | None]:
    """On the first start make the admin key and its file: ``(True, secret)``; otherwise ``(False, None)``.

    A deleted file is not a reason to make another: only the absence of a live admin key is. Raises LedgerUnavailable.
    """
    store = KeyStore.open(ledger_path, clock)
    try:
        secret = store.create_first_admin(secret_path)
    finally:
        store.close()
    return secret is not None, secret


def _checked_name(name: str) -> str:
    stripped = name.strip()
    if not stripped or len(stripped) > _LONGEST_NAME or not stripped.isprintable():
        raise ValueError(f"a key's name is 1 to {_LONGEST_NAME} printable characters; got {name[:80]!r}")
    return stripped


def _write_private(path: Path, text: str) -> None:
    """Replace ``path`` atomically by a durable file of mode 0600. Raises LedgerUnavailable."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with suppress(FileNotFoundError):
                temporary.unlink()
            raise
    except OSError as e:
        raise not_writable(path.name, e) from e
