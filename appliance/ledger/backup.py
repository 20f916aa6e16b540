"""Backups: one SQLite file with a manifest beside it, whichever database the ledger is in.

What it is: ``backup`` writes a consistent copy while gateways run, ``verified`` says whether a file still is what was
written. A PostgreSQL ledger is copied out, table by table with COPY inside one REPEATABLE READ transaction, into a
SQLite file of the same schema: that needs nothing but Python where pg_dump would have to be installed and be as new as
the server, it can be checked and looked into on any machine, and it can be restored into either database.
What it refuses to be: half a backup. The file appears under its name only when it is complete, synced and checked.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

import appliance
from appliance.errors import LedgerUnavailable
from appliance.ledger.sqlite import connect, not_writable, unavailable
from appliance.ledger.upgrade import revision_of

_CHUNK = 1024 * 1024
_COUNTED = ("tenants", "keys", "conversations", "requests", "attempts", "calls", "outcomes", "texts", "audit")


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """What lies beside a backup as ``NAME.json``. ``rows`` are counts of the tables people ask about."""

    format: int
    database: str  # that the ledger was in: sqlite or postgresql
    schema: str
    ledger_id: str
    kind: str  # real, or simulated
    made_ms: int
    appliance: str
    bytes: int
    sha256: str
    rows: dict[str, int]


def manifest_path(file: Path) -> Path:
    """Where the manifest of a backup lies."""
    return file.with_name(file.name + ".json")


def backup(where: Path | str, file: Path, clock: Callable[[], float] = time.time) -> Manifest:
    """Write a backup of ``where`` to ``file``, which must not exist. Raises ValueError, LedgerUnavailable."""
    if file.exists() or manifest_path(file).exists():
        raise ValueError(f"{file} exists already; name another file, backups are never overwritten")
    revision = revision_of(where)
    if revision is None:
        raise ValueError("there is no ledger yet, so there is nothing to back up")
    with _trouble(), partial(file) as part:
        if isinstance(where, Path):
            _copy_sqlite(where, part)
        else:
            from appliance.ledger.backup_postgres import copy_out

            copy_out(where, part, revision)
        manifest = _described(part, "sqlite" if isinstance(where, Path) else "postgresql", revision, clock)
        with partial(manifest_path(file)) as written:
            written.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
            publish(written, manifest_path(file))  # first: a file that is there is a whole backup
        publish(part, file)
    return manifest


def verified(file: Path) -> Manifest:
    """The manifest, if ``file`` is what it says. Raises ValueError with a sentence."""
    try:
        manifest = msgspec.json.decode(manifest_path(file).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise ValueError(f"{manifest_path(file)} is missing; a backup is its file and this one together") from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise ValueError(f"{manifest_path(file)} is no manifest of a backup ({e}); use another backup") from None
    if manifest.format != 1:
        raise ValueError(f"{file} is a backup of format {manifest.format}; a newer version of the appliance reads it")
    try:
        size, found = file.stat().st_size, sha256_of(file)
    except OSError as e:
        raise ValueError(f"{file} cannot be read ({e.strerror})") from None
    if (size, found) != (manifest.bytes, manifest.sha256):
        raise ValueError(f"{file} is not what was written (its SHA-256 differs); it is damaged, use another backup")
    return manifest


def sha256_of(file: Path) -> str:
    """Hex, in chunks."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def partial(file: Path) -> Iterator[Path]:
    """A private file beside ``file`` to be filled; gone afterwards, whatever happens."""
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield part
    finally:
        for name in (part.name, part.name + "-journal", part.name + "-wal", part.name + "-shm"):
            with suppress(FileNotFoundError):
                part.with_name(name).unlink()


def publish(part: Path, file: Path) -> None:
    """Give a filled file its name, durably; never over another one. Raises ValueError."""
    sync(part)
    try:
        os.link(part, file)
    except FileExistsError:
        raise ValueError(f"{file} exists already; name another file") from None
    sync(file.parent)


def sync(path: Path) -> None:
    """fsync of a file or a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy_sqlite(source: Path, part: Path) -> None:
    """In one step: a snapshot that holds up no writer, where a copy in steps begins anew at every commit."""
    with closing(connect(source, read_only=True)) as reading, closing(sqlite3.connect(part)) as writing:
        reading.backup(writing, pages=-1)
        writing.execute("PRAGMA journal_mode=DELETE")  # one file, readable where nothing can be written


def _described(part: Path, database: str, revision: str, clock: Callable[[], float]) -> Manifest:
    with closing(connect(part, read_only=True)) as reading:
        ((verdict,), *_) = reading.execute("PRAGMA integrity_check").fetchall()
        if verdict != "ok":
            raise LedgerUnavailable(f"the copy is damaged ({verdict}); run `appliance db check` and look at the disk")
        tables = {name for (name,) in reading.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        rows = {
            name: int(reading.execute(f"SELECT count(*) FROM {name}").fetchone()[0])
            for name in _COUNTED
            if name in tables
        }
        about = dict(reading.execute("SELECT name, value FROM meta")) if "meta" in tables else {}
    return Manifest(
        1,
        database,
        revision,
        about.get("ledger_id", ""),
        about.get("kind", "real"),
        int(clock() * 1000),
        appliance.__version__,
        part.stat().st_size,
        sha256_of(part),
        rows,
    )


@contextmanager
def _trouble() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as e:
        raise unavailable(e) from e
    except OSError as e:
        raise not_writable("the backup", e) from e
