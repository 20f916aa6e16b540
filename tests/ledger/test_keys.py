"""Keys: made once, stored as digests, named uniquely while they live."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from appliance.errors import LedgerUnavailable
from appliance.ledger import KeyStore, Ledger, ensure_admin_key


@pytest.fixture
def store(path: Path) -> Iterator[KeyStore]:
    with closing(KeyStore.open(path, clock=lambda: 1_700_000_000.0)) as opened:
        yield opened


def test_a_secret_is_256_bits_and_only_its_digest_is_stored(store: KeyStore, path: Path) -> None:
    key, secret = store.create("app", role="operator")
    _, other = store.create("app 2")
    assert secret.startswith("ak-") and len(secret) == 46  # 43 characters of base64 carry 256 bits
    assert secret != other
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT digest, role, tenant_id FROM keys WHERE id = ?", (key.id,)).fetchone()
        dump = "\n".join(connection.iterdump())
    assert row == (hashlib.sha256(secret.encode()).hexdigest(), "operator", "default")
    assert secret not in dump and secret[3:] not in dump


def test_a_list_shows_everything_but_the_secret(store: KeyStore) -> None:
    key, _ = store.create("app", role="admin")
    info = next(info for info in store.list() if info.id == key.id)
    assert (info.name, info.role, info.tenant) == ("app", "admin", "default")
    assert (info.created_ms, info.revoked_ms) == (1_700_000_000_000, None)
    store.revoke(key.id)
    store.revoke(key.id)
    assert next(info.revoked_ms for info in store.list() if info.id == key.id) == 1_700_000_000_000


def test_names_are_unique_among_live_keys_and_free_again_after(store: KeyStore) -> None:
    first, _ = store.create(" app ")
    with pytest.raises(ValueError, match="'app' already"):
        store.create("app")
    store.revoke(first.id)
    second, _ = store.create("app")
    assert second.id != first.id


@pytest.mark.parametrize("name", ["", "   ", "a" * 65, "line\nbreak", "nul\0"])
def test_names_that_would_garble_a_list_are_refused(store: KeyStore, name: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 printable characters"):
        store.create(name)


def test_names_may_be_in_any_script_and_hold_sql(store: KeyStore) -> None:
    for name in ("ग्राहक सेवा", "'); DROP TABLE keys; --"):
        key, _ = store.create(name)
        assert key.name in {info.name for info in store.list()}


def test_what_does_not_exist_is_named(store: KeyStore) -> None:
    with pytest.raises(ValueError, match="'root' is not a role; choose one of admin, operator, client"):
        store.create("app", role="root")
    with pytest.raises(LookupError, match="no tenant 'acme'"):
        store.create("app", tenant="acme")
    with pytest.raises(LookupError, match="no key with the id 'key_0'"):
        store.revoke("key_0")
    assert [info.name for info in store.list()] == ["web"]


def test_the_first_start_makes_one_admin_key(tmp_path: Path) -> None:
    path, file = tmp_path / "ledger.db", tmp_path / "admin.key"
    created, secret = ensure_admin_key(path, file)
    assert created and secret is not None
    assert file.read_text() == secret + "\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert ensure_admin_key(path, file) == (False, None)
    with closing(Ledger.open(path)) as ledger:
        key = ledger.authenticate(secret)
    assert key is not None and key.role == "admin"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["admin.key", "ledger.db", "ledger.db.lock"]


def test_a_deleted_file_is_no_reason_for_another_key(tmp_path: Path) -> None:
    path, file = tmp_path / "ledger.db", tmp_path / "admin.key"
    ensure_admin_key(path, file)
    file.unlink()
    assert ensure_admin_key(path, file) == (False, None)
    assert not file.exists()


def test_without_a_live_admin_key_another_is_made(tmp_path: Path) -> None:
    path, file = tmp_path / "ledger.db", tmp_path / "admin.key"
    _, first = ensure_admin_key(path, file)
    with closing(KeyStore.open(path)) as store:
        store.revoke(store.list()[0].id)
        store.create("admin")  # a client has taken the name
    created, second = ensure_admin_key(path, file)
    assert created and second is not None and second != first
    assert file.read_text() == second + "\n"
    with closing(KeyStore.open(path)) as store:
        assert [info.name for info in store.list() if info.role == "admin"] == ["admin", "admin-2"]


def test_starts_at_once_agree_on_one_key(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "admin.key"
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: ensure_admin_key(path, file), range(4)))
    (secret,) = [secret for created, secret in results if created]
    assert secret is not None and file.read_text() == secret + "\n"


def test_a_file_that_cannot_be_written_leaves_no_key(path: Path, tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match=r"admin.key cannot be written"):
        ensure_admin_key(path, tmp_path / "absent" / "admin.key")
    with closing(KeyStore.open(path)) as store:
        assert [info.role for info in store.list()] == ["client"]


def test_a_locked_ledger_is_a_sentence(store: KeyStore, path: Path) -> None:
    store._connection.execute("PRAGMA busy_timeout=50")
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match="write lock"):
            store.create("app")
        with pytest.raises(LedgerUnavailable, match="write lock"):
            store.revoke(store.list()[0].id)
    store.create("app")
