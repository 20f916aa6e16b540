"""Brings a ledger file to the schema this code knows: creates it, upgrades it, or refuses it.

What it is: ``prepare(path)``. A file that is current costs one query; only a new or older one loads Alembic, and is
upgraded inside one transaction, so a process killed half-way leaves the file as it was.
What it refuses to be: a downgrade. A newer schema is refused with one sentence and not written to.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from appliance.errors import LedgerUnavailable
from appliance.ledger.lock import FileLock
from appliance.ledger.sqlite import connect, not_writable, unavailable

# Oldest first; a test compares them with migrations/versions.
REVISIONS = ("0001",)
HEAD = REVISIONS[-1]
DEFAULT_TENANT = "default"
_LOCK_WAIT_S = 5.0


def prepare(path: Path, clock: Callable[[], float] = time.time, held: FileLock | None = None) -> None:
    """Make ``path`` a ledger at HEAD. ``held``: the file's lock, if the caller has it already.

    Raises LedgerUnavailable with one sentence: newer schema, not a ledger, in use, or SQLite's own trouble.
    """
    try:
        if _revision(path) == HEAD:
            return
        lock = held or FileLock(path, _LOCK_WAIT_S)
        try:
            if _revision(path) != HEAD:  # somebody else may have been first
                _upgrade(path, int(clock() * 1000))
        finally:
            if held is None:
                lock.release()
    except sqlite3.Error as e:
        raise unavailable(e) from e
    except OSError as e:
        raise not_writable("the ledger", e) from e


def _revision(path: Path) -> str | None:
    """The file's schema revision; None for a file that is absent or empty."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists() or path.stat().st_size == 0:
        return None
    connection = connect(path, read_only=True)
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return None
        rows = (
            []
            if "alembic_version" not in tables
            else connection.execute("SELECT version_num FROM alembic_version").fetchall()
        )
    finally:
        connection.close()
    if len(rows) != 1:
        raise LedgerUnavailable("ledger.db is a SQLite database but not a ledger; move it away", code="ledger_foreign")
    revision = str(rows[0][0])
    if revision not in REVISIONS:
        raise LedgerUnavailable(
            f"ledger.db has schema {revision}, newer than {HEAD} which this version knows; install the newer version"
            " of the appliance again, or restore a backup of ledger.db from before its upgrade",
            code="ledger_newer",
        )
    return revision


def _upgrade(path: Path, now_ms: int) -> None:
    _create_private(path)
    connection = connect(path)
    try:
        connection.execute("PRAGMA journal_mode=WAL")  # persistent, and not possible inside a transaction
    finally:
        connection.close()
    # here and not above: 0.3 s and 40 MB that only a new or older file is worth
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import Connection, NullPool, create_engine, event, text

    engine = create_engine("sqlite://", creator=lambda: connect(path), poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def _begin(bound: Connection) -> None:
        # pysqlite would leave DDL outside of transactions
        bound.exec_driver_sql("BEGIN IMMEDIATE")

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with engine.begin() as bound:
        config.attributes["connection"] = bound
        command.upgrade(config, HEAD)
        bound.execute(
            text(
                "INSERT INTO tenants (id, name, cache_salt, created_ms) SELECT :id, :id, :salt, :now"
                " WHERE NOT EXISTS (SELECT 1 FROM tenants)"
            ),
            {"id": DEFAULT_TENANT, "salt": secrets.token_urlsafe(32), "now": now_ms},
        )


def _create_private(path: Path) -> None:
    # SQLite would create it by umask; the WAL takes over the mode of the file
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
