"""Putting a backup in a ledger's place.

What it is: the checksum first, then everything beside the ledger, then one atomic step. What was there stays aside: a
file ``ledger.db.replaced-…`` beside it, or a schema ``replaced_…`` in its database.
What it refuses to be: careless. A ledger that a gateway uses is never replaced, one that holds anything only by force,
and a newer schema, in the backup or in the place, not at all.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfile

from msgspec import Struct

from appliance.errors import LedgerUnavailable
from appliance.ledger.backup import Manifest, partial, sha256_of, sync, verified
from appliance.ledger.db import EntryFault
from appliance.ledger.db import connect as open_db
from appliance.ledger.lock import FileLock
from appliance.ledger.sqlite import connect, not_writable, unavailable
from appliance.ledger.upgrade import ADVISORY_LOCK, HEAD, migrate, prepare, revision_of

_FORCE = "; use --force to replace it, it is kept aside"
_HOLDS = ("requests", "conversations", "keys", "audit")
_BEATING_MS = 15_000


class Restored(Struct, frozen=True):
    """What was restored, and where what was there before is; None where there was nothing."""

    backup: Manifest
    aside: str | None


def restore(where: Path | str, file: Path, *, force: bool = False, clock: Callable[[], float] = time.time) -> Restored:
    """Put ``file`` in the place of the ledger ``where``. Raises ValueError, LedgerUnavailable."""
    manifest = verified(file)
    revision = revision_of(file)  # refuses what is newer
    if revision != manifest.schema:
        raise ValueError(f"{file} has schema {revision} and its manifest says {manifest.schema}; use another backup")
    if (kind := _kind_of(where)) not in (None, manifest.kind):
        raise ValueError(f"{file} is of a {manifest.kind} ledger and the one here is {kind}; the two never mix")
    stamp = datetime.fromtimestamp(clock(), UTC).strftime("%Y%m%d_%H%M%S")
    try:
        if isinstance(where, Path):
            return Restored(manifest, _into_sqlite(where, file, manifest, force, stamp, clock))
        return Restored(manifest, _into_postgres(where, file, manifest, force, stamp))
    except sqlite3.Error as e:
        raise unavailable(e) from e
    except OSError as e:
        raise not_writable("the ledger", e) from e


def _kind_of(where: Path | str) -> str | None:
    """Whether a ledger is real or simulated; None where there is none, or none that can be read."""
    try:
        if revision_of(where) is None:
            return None
        db = open_db(where)
    except LedgerUnavailable:
        return None  # said where it matters, and force may mean it
    try:
        found = db.query("SELECT value FROM meta WHERE name = 'kind'")
    except (EntryFault, LedgerUnavailable):  # an older one without the table
        return None
    finally:
        db.close()
    return str(found[0][0]) if found else None


def _into_sqlite(
    path: Path, file: Path, manifest: Manifest, force: bool, stamp: str, clock: Callable[[], float]
) -> str | None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(path, 0.0)  # a gateway holds it for its life
    try:
        there = path.exists() and path.stat().st_size > 0
        if there and not force:
            _refuse_what_holds_something(path)
        with partial(path) as part:
            copyfile(file, part)
            if sha256_of(part) != manifest.sha256:
                raise ValueError(f"{file} changed while it was read; see who writes it, and try again")
            with closing(connect(part)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
            sync(part)
            aside = _put_aside(path, stamp) if there else None
            os.replace(part, path)
            sync(path.parent)
        prepare(path, clock, lock)
        return aside
    finally:
        lock.release()


def _refuse_what_holds_something(path: Path) -> None:
    if revision_of(path) is None:
        return
    with closing(connect(path, read_only=True)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for name in _HOLDS:
            if name in tables and (count := connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]):
                raise ValueError(f"the ledger holds {count} {name}{_FORCE}")


def _put_aside(path: Path, stamp: str) -> str:
    """A second name for what is there, before the first is given away: at no moment there is no ledger."""
    wal = path.with_name(path.name + "-wal")
    try:
        with closing(connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error:
        pass  # damaged, which may be why a backup is restored; its WAL goes aside with it
    aside = path.with_name(f"{path.name}.replaced-{stamp}")
    if aside.exists():
        raise ValueError(f"{aside.name} exists already; wait a second and try again")
    if wal.exists() and wal.stat().st_size:
        if _readable(path):
            raise LedgerUnavailable("another process has the ledger open; end it first", code="ledger_in_use")
        os.replace(wal, aside.with_name(aside.name + "-wal"))
    os.link(path, aside)
    # SQLite would take an old WAL for one of the new file
    for name in ("-wal", "-shm"):
        path.with_name(path.name + name).unlink(missing_ok=True)
    return aside.name


def _readable(path: Path) -> bool:
    try:
        with closing(connect(path, read_only=True)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        return False
    return True


def _into_postgres(url: str, file: Path, manifest: Manifest, force: bool, stamp: str) -> str | None:
    from sqlalchemy import text

    from appliance.ledger.backup_postgres import copy_in
    from appliance.ledger.core import engine, sentences
    from appliance.ledger.postgres import take_your_time

    there = revision_of(url) is not None  # refuses what is newer, or no ledger
    with tempfile.TemporaryDirectory(prefix="appliance-restore-") as directory:
        current = file
        if manifest.schema != HEAD:
            current = Path(directory) / "ledger.db"
            copyfile(file, current)
            prepare(current)
        made = engine(url)
        try:
            with sentences(), made.begin() as bound:
                take_your_time(bound.connection.driver_connection)
                bound.execute(text("SET LOCAL lock_timeout = 0"))
                bound.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
                aside = None
                if there:
                    _refuse_what_is_used(bound, force)
                    aside = f"replaced_{stamp}"
                    _move_aside(bound, aside)
                migrate(bound, HEAD)
                copy_in(bound, current)
        finally:
            made.dispose()
    return aside


def _refuse_what_is_used(bound: object, force: bool) -> None:
    from sqlalchemy import Connection, inspect, text

    assert isinstance(bound, Connection)
    tables = inspect(bound).get_table_names()
    if "gateways" in tables:
        # locked: a gateway that starts now waits, and then finds the restored ledger
        bound.execute(text("LOCK TABLE gateways IN ACCESS EXCLUSIVE MODE"))
        alive = bound.execute(
            text(
                "SELECT count(*) FROM gateways WHERE ended_ms IS NULL"
                " AND beat_ms > extract(epoch FROM clock_timestamp()) * 1000 - :beating"
            ),
            {"beating": _BEATING_MS},
        ).scalar()
        if alive:
            raise LedgerUnavailable(
                f"{alive} gateways use this ledger; stop them first (one that was killed is taken for dead after"
                f" {_BEATING_MS // 1000} s)",
                code="ledger_in_use",
            )
    for name in _HOLDS:
        if not force and name in tables and (count := bound.execute(text(f"SELECT count(*) FROM {name}")).scalar()):
            raise ValueError(f"the ledger holds {count} {name}{_FORCE}")


def _move_aside(bound: object, schema: str) -> None:
    from sqlalchemy import Connection, inspect, text

    assert isinstance(bound, Connection)
    bound.execute(text(f"CREATE SCHEMA {schema}"))
    for name in inspect(bound).get_table_names():
        bound.execute(text(f'ALTER TABLE "{name}" SET SCHEMA {schema}'))
    has_function = (
        "SELECT 1 FROM pg_proc WHERE proname = 'audit_refuse' AND pronamespace = current_schema()::regnamespace"
    )
    if bound.execute(text(has_function)).first() is not None:
        bound.execute(text(f"ALTER FUNCTION audit_refuse() SET SCHEMA {schema}"))
