"""Brings a ledger to the schema this code knows: creates it, upgrades it, or refuses it.

What it is: ``prepare(where)``. A ledger that is current costs one query; only a new or older one loads Alembic, and is
upgraded inside one transaction, so a process killed half-way leaves it as it was.
What it refuses to be: a downgrade. A newer schema is refused with one sentence and not written to.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.errors import LedgerUnavailable
from appliance.ledger.lock import FileLock
from appliance.ledger.sqlite import connect, not_writable, unavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection

# Oldest first; a test compares them with migrations/versions.
REVISIONS = ("0001", "0002", "0003", "0004", "0005")
HEAD = REVISIONS[-1]
DEFAULT_TENANT = "default"
_DEFAULT_TENANT = (
    "INSERT INTO tenants (id, name, cache_salt, secret, created_ms)"
    " SELECT CAST(:id AS TEXT), CAST(:id AS TEXT), CAST(:salt AS TEXT), CAST(:secret AS TEXT), CAST(:now AS BIGINT)"
    " WHERE NOT EXISTS (SELECT 1 FROM tenants)"
)
_LOCK_WAIT_S = 5.0
# one number for every appliance: two that start at once upgrade one after the other
ADVISORY_LOCK = 0x6170706C


def prepare(where: Path | str, clock: Callable[[], float] = time.time, held: FileLock | None = None) -> None:
    """Make ``where`` (a SQLite file or a PostgreSQL URL) a ledger at HEAD. ``held``: the file's lock, if it is had.

    Raises LedgerUnavailable with one sentence: newer schema, not a ledger, in use, or the store's own trouble.
    """
    now_ms = int(clock() * 1000)
    if isinstance(where, str):
        _prepare_postgres(where, now_ms)
        return
    try:
        if _sqlite_revision(where) == HEAD:
            return
        lock = held or FileLock(where, _LOCK_WAIT_S)
        try:
            if _sqlite_revision(where) != HEAD:  # somebody else may have been first
                _upgrade_sqlite(where, now_ms)
        finally:
            if held is None:
                lock.release()
    except sqlite3.Error as e:
        raise unavailable(e) from e
    except OSError as e:
        raise not_writable("the ledger", e) from e


def revision_of(where: Path | str) -> str | None:
    """The schema revision; None where there is no ledger yet. Raises LedgerUnavailable as ``prepare`` does."""
    if isinstance(where, Path):
        try:
            return _sqlite_revision(where) if where.exists() else None
        except sqlite3.Error as e:
            raise unavailable(e) from e
    from appliance.ledger.postgres import PostgresDb

    db = PostgresDb(where)
    try:
        return _postgres_revision(db.query)
    finally:
        db.close()


def _sqlite_revision(path: Path) -> str | None:
    """The file's schema revision; None for a file that is absent or empty."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists() or path.stat().st_size == 0:
        return None
    connection = connect(path, read_only=True)
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return _known(tables, lambda sql: connection.execute(sql).fetchall(), "ledger.db", "SQLite")
    finally:
        connection.close()


def _postgres_revision(query: Callable[[str], list[Any]]) -> str | None:
    tables = {name for (name,) in query("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")}
    return _known(tables, query, "the ledger's database", "PostgreSQL")


def _known(tables: set[str], query: Callable[[str], Sequence[Any]], what: str, kind: str) -> str | None:
    if not tables:
        return None
    rows = [] if "alembic_version" not in tables else query("SELECT version_num FROM alembic_version")
    if len(rows) != 1:
        raise LedgerUnavailable(
            f"{what} is a {kind} database but not a ledger; move it away, or name an empty one", code="ledger_foreign"
        )
    revision = str(rows[0][0])
    if revision not in REVISIONS:
        raise LedgerUnavailable(
            f"{what} has schema {revision}, newer than {HEAD} which this version knows; install the newer version"
            " of the appliance again, or restore a backup of the ledger from before its upgrade",
            code="ledger_newer",
        )
    return revision


def _upgrade_sqlite(path: Path, now_ms: int) -> None:
    create_private(path)
    connection = connect(path)
    try:
        connection.execute("PRAGMA journal_mode=WAL")  # persistent, and not possible inside a transaction
    finally:
        connection.close()
    from appliance.ledger.core import engine

    with engine(path).begin() as bound:
        _migrate(bound, now_ms)


def _prepare_postgres(url: str, now_ms: int) -> None:
    from appliance.ledger.postgres import PostgresDb, take_your_time

    db = PostgresDb(url)
    try:
        if _postgres_revision(db.query) == HEAD:
            return
    finally:
        db.close()
    from sqlalchemy import text

    from appliance.ledger.core import engine, sentences

    made = engine(url)
    try:
        with sentences(), made.begin() as bound:
            take_your_time(bound.connection.driver_connection)
            bound.execute(text("SET LOCAL lock_timeout = 0"))
            bound.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
            current = _postgres_revision(lambda sql: list(bound.execute(text(sql)).fetchall()))
            if current != HEAD:  # somebody else may have been first
                _migrate(bound, now_ms)
    finally:
        made.dispose()


def migrate(bound: Connection, revision: str) -> None:
    """Bring the database of ``bound``, inside its transaction, forward to ``revision``."""
    # here and not above: 0.3 s and 40 MB that only a new or older ledger is worth
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = bound
    command.upgrade(config, revision)


def _migrate(bound: Connection, now_ms: int) -> None:
    from sqlalchemy import text

    migrate(bound, HEAD)
    bound.execute(
        text(_DEFAULT_TENANT),
        {"id": DEFAULT_TENANT, "salt": secrets.token_urlsafe(32), "secret": secrets.token_hex(32), "now": now_ms},
    )


def create_private(path: Path) -> None:
    """An empty file that only its owner can read, unless there is one."""
    # SQLite would create it by umask; the WAL takes over the mode of the file
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
