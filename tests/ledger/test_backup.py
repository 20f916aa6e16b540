"""Backups, restoring them and checking a ledger, from and into both databases."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ledger.conftest import Look, Values
from ledger.postgres_server import PostgresServer
from sqlalchemy import text

from appliance.errors import LedgerUnavailable
from appliance.ledger import Ledger
from appliance.ledger.backup import backup, manifest_path, verified
from appliance.ledger.check import check
from appliance.ledger.core import engine, transaction
from appliance.ledger.ids import new_id
from appliance.ledger.restore import restore
from appliance.ledger.said import Said
from appliance.ledger.schema import metadata
from appliance.ledger.stores import glossaries, memory, outcomes, tenants
from appliance.ledger.stores.changes import Actor
from appliance.ledger.upgrade import HEAD, prepare
from appliance.types import Turn

Where = Path | str
NOW_MS = 1_795_000_000_000


def used(where: Where, secret: str) -> None:
    """Requests with money and text, one that is left open, an outcome."""
    made = engine(where)
    tenants.configure(made, Actor("test"), "default", store_text=True, translation_memory=True, cap_nusd=10**12)
    glossaries.put(made, Actor("test"), "default", "shop", [glossaries.NewTerm("खाता", "account", note="\\N")])
    memory.put(made, Actor("test"), "default", [memory.NewEntry("hi", "en", "नमस्ते\n\t", "Hello")])

    async def run() -> None:
        ledger = Ledger.open(where)
        ledger.start(asyncio.get_running_loop())
        key = ledger.authenticate(secret)
        assert key is not None
        values = Values()
        for n in range(3):
            admission = values.admission(
                key, new_id("req", NOW_MS + n), NOW_MS + n, turn=Turn(conversation_id=f"c{n % 2}"), reserve_nusd=50
            )
            admitted = await ledger.admit(admission)
            fields = {"thread": bytes([n]) * 24, "prompt": '["\\u0000 हिन्दी \\\\N\\t"]', "answer": "उत्तर\n\\."}
            done = values.outcome(admission.request.id, attempts=2, hosted_nusd=7, **fields)
            await ledger.settle(admission, admitted, done)
        await ledger.admit(values.admission(key, new_id("req", NOW_MS + 9), NOW_MS + 9, reserve_nusd=50))
        ledger.close()

    asyncio.run(run())
    outcomes.record(made, "default", "c1", None, Said(True, note="ठीक"), NOW_MS + 20)
    made.dispose()


def everything(where: Where) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table but the gateways', as plain values."""
    look = Look(where)
    found = {}
    for table in metadata.sorted_tables:
        columns = ", ".join(f'"{column.name}"' for column in table.columns)
        rows = look(f"SELECT {columns} FROM {table.name}")
        found[table.name] = sorted(
            (
                tuple(bytes(v) if isinstance(v, memoryview) else int(v) if isinstance(v, bool) else v for v in r)
                for r in rows
            ),
            key=repr,
        )
    look.db.close()
    return found


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Where]:
    """A place without a ledger in each database."""
    if request.param == "sqlite":
        yield tmp_path / "elsewhere" / "ledger.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.create()
    yield url
    server.drop(url)


def test_a_backup_holds_everything_and_goes_into_either_database(
    where: Where, secret: str, target: Where, tmp_path: Path
) -> None:
    used(where, secret)
    file = tmp_path / "backup.db"
    manifest = backup(where, file)
    assert (manifest.schema, manifest.rows["requests"], manifest.rows["texts"]) == (HEAD, 4, 3)
    assert manifest.database == ("postgresql" if isinstance(where, str) else "sqlite")
    for path in (file, manifest_path(file)):
        assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir() if "backup" in p.name) == ["backup.db", "backup.db.json"]
    assert everything(file) == everything(where)
    done = restore(target, file)
    assert done.aside is None
    assert everything(target) == everything(where)
    assert check(target).ok
    Ledger.open(target).close()


def test_a_backup_beside_a_busy_gateway_is_one_moment(where: Where, secret: str, tmp_path: Path) -> None:
    """Sums agree in it although requests are settled all the while."""
    ledger = Ledger.open(where)
    key = ledger.authenticate(secret)
    assert key is not None
    stop, answered = threading.Event(), threading.Event()

    async def traffic() -> None:
        ledger.start(asyncio.get_running_loop())
        values = Values()
        n = 0
        while not stop.is_set():
            n += 1
            admission = values.admission(key, new_id("req", NOW_MS + n), NOW_MS + n, reserve_nusd=9)
            admitted = await ledger.admit(admission)
            await ledger.settle(admission, admitted, values.outcome(admission.request.id, hosted_nusd=3))
            answered.set()

    thread = threading.Thread(target=lambda: asyncio.run(traffic()))
    thread.start()
    try:
        assert answered.wait(10)
        for n in range(3):
            backup(where, tmp_path / f"backup-{n}.db")
            verdict = check(tmp_path / f"backup-{n}.db")
            assert verdict.ok, verdict
        assert check(where).ok
    finally:
        stop.set()
        thread.join()
        ledger.close()


def test_a_backup_never_replaces_a_file_and_leaves_none_half_made(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    file.write_text("dear")
    with pytest.raises(ValueError, match="exists already"):
        backup(path, file)
    assert file.read_text() == "dear"
    with pytest.raises(ValueError, match="no ledger yet"):
        backup(tmp_path / "none.db", tmp_path / "other.db")
    with pytest.raises(LedgerUnavailable, match="cannot be written"):
        backup(path, tmp_path / "no" / "directory.db")
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("ledger.db")) == ["backup.db"]


@pytest.mark.parametrize("damage", ["bit", "short", "no manifest", "bad manifest", "newer", "another schema"])
def test_a_backup_that_is_not_what_was_written_is_refused(path: Path, tmp_path: Path, damage: str) -> None:
    file, target = tmp_path / "backup.db", tmp_path / "target" / "ledger.db"
    backup(path, file)
    raw = bytearray(file.read_bytes())
    if damage == "bit":
        raw[len(raw) // 2] ^= 1
        file.write_bytes(raw)
    elif damage == "short":
        file.write_bytes(raw[:-4096])
    elif damage == "no manifest":
        manifest_path(file).unlink()
    elif damage == "bad manifest":
        manifest_path(file).write_text("{}")
    elif damage == "newer":
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = '0999'")
        shutil.copy(path, file)
        fields = json.loads(manifest_path(file).read_text())
        from appliance.ledger.backup import sha256_of

        fields.update(bytes=file.stat().st_size, sha256=sha256_of(file))
        manifest_path(file).write_text(json.dumps(fields))
    else:
        fields = json.loads(manifest_path(file).read_text())
        manifest_path(file).write_text(json.dumps({**fields, "schema": "0001"}))
    with pytest.raises((ValueError, LedgerUnavailable)) as caught:
        restore(target, file)
    says = {
        "no manifest": "is missing",
        "bad manifest": "no manifest",
        "newer": "newer than",
        "another schema": "schema",
    }
    assert says.get(damage, "damaged") in str(caught.value)
    assert not target.exists()


def test_a_ledger_in_use_or_that_holds_something_is_not_replaced(where: Where, secret: str, tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    backup(where, file)
    used(where, secret)
    before = everything(where)
    with pytest.raises(ValueError, match=r"holds \d+ requests; use --force"):
        restore(where, file)
    ledger = Ledger.open(where)
    with pytest.raises(LedgerUnavailable, match=r"stop (it|them) first") as caught:
        restore(where, file, force=True)
    assert caught.value.code == "ledger_in_use"
    ledger.close()
    now = everything(where)
    assert now["texts"] == before["texts"] and len(now["requests"]) == 4


def test_by_force_what_was_there_stays_aside(where: Where, secret: str, tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    backup(where, file)
    used(where, secret)
    before = everything(where)
    done = restore(where, file, force=True, clock=lambda: 1_795_000_000.0)
    assert done.aside is not None
    assert everything(where)["requests"] == []
    assert check(where).ok
    if isinstance(where, Path):
        assert everything(where.with_name(done.aside)) == before
        assert where.stat().st_mode & 0o777 == 0o600
        assert sqlite3.connect(where).execute("PRAGMA journal_mode").fetchone() == ("wal",)
    else:
        look = Look(where)
        assert look(f"SELECT count(*) FROM {done.aside}.requests") == [(4,)]
        look.db.close()
    # and the audit of the restored one is append-only again
    made = engine(where)
    with pytest.raises(LedgerUnavailable), transaction(made) as connection:
        connection.execute(text("INSERT INTO audit VALUES ('a', 1, 'x', NULL, 'x', 'x', NULL, NULL)"))
        connection.execute(text("DELETE FROM audit"))
    made.dispose()


@pytest.mark.parametrize("place", ["sqlite", "postgresql"])
def test_a_newer_ledger_is_left_alone(place: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    where: Where = request.getfixturevalue("path" if place == "sqlite" else "url")
    file = tmp_path / "backup.db"
    backup(where, file)
    look = Look(where)
    look.db.run("UPDATE alembic_version SET version_num = ?", [("0999",)])
    for act in (
        lambda: restore(where, file, force=place == "postgresql"),
        lambda: check(where),
        lambda: backup(where, tmp_path / "another.db"),
    ):
        with pytest.raises(LedgerUnavailable, match="newer than"):
            act()
    assert look("SELECT version_num FROM alembic_version") == [("0999",)]
    look.db.close()


def test_an_older_backup_is_upgraded(tmp_path: Path, target: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    from ledger.test_upgrade import _TENANT_OF_0001

    old, file = tmp_path / "old.db", tmp_path / "backup.db"
    with monkeypatch.context() as patch:
        patch.setattr("appliance.ledger.upgrade.HEAD", "0001")
        patch.setattr("appliance.ledger.upgrade._DEFAULT_TENANT", _TENANT_OF_0001)
        prepare(old)
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("INSERT INTO keys VALUES ('key_1', 'default', 'web', 'client', 'aa', 1, NULL)")
    with pytest.raises(ValueError, match="db upgrade"):
        check(old)
    assert backup(old, file).schema == "0001"
    restore(target, file)
    look = Look(target)
    assert look("SELECT version_num FROM alembic_version") == [(HEAD,)]
    assert look("SELECT id, cap_nusd FROM keys") == [("key_1", None)]
    assert len(str(look.column("SELECT secret FROM tenants")[0])) == 64
    look.db.close()


WRONG = {
    "budgets equal": "UPDATE budgets SET spent_nusd = spent_nusd + 1 WHERE scope = 'key'",
    "held back": "UPDATE budgets SET reserved_nusd = 0 WHERE scope = 'tenant'",
    "sums of their calls": "UPDATE calls SET hosted_nusd = 8 WHERE attempt_ordinal = 1",
    "sums of their requests": "UPDATE conversations SET requests = 9 WHERE id = 'c0'",
    "attempts and calls": "DELETE FROM calls WHERE request_id = (SELECT min(id) FROM requests)",
    "how it ended": "UPDATE requests SET finished_ms = NULL WHERE status = 'ok'",
    "without what it belongs to": "UPDATE outcomes SET conversation_id = 'gone'",
}


def test_check_finds_what_is_wrong(where: Where, secret: str) -> None:
    """One fault after the other is put in, and each is found beside those before it."""
    used(where, secret)
    assert check(where, lambda: NOW_MS / 1000).ok
    look = Look(where)
    for n, (wrong, statement) in enumerate(WRONG.items(), 1):
        look.db.run(statement, [()])
        verdict = check(where, lambda: NOW_MS / 1000)
        found = [line for line in verdict.lines if not line.ok]
        assert not verdict.ok and all(line.detail for line in found)
        assert len(found) == n and any(wrong in line.question for line in found), (wrong, verdict)
    look.db.close()


def test_check_finds_damaged_pages(path: Path, secret: str) -> None:
    used(path, secret)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'conversations_opened'").fetchone()
        size = connection.execute("PRAGMA page_size").fetchone()
    raw = bytearray(path.read_bytes())
    start = (root[0] - 1) * size[0]
    raw[start + size[0] - 200 : start + size[0]] = bytes(200)
    path.write_bytes(raw)
    verdict = check(path)
    assert not verdict.ok and not verdict.lines[0].ok and verdict.lines[0].detail


def test_a_damaged_ledger_gives_way_to_a_backup(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    backup(path, file)
    path.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(LedgerUnavailable, match="not a SQLite database"):
        restore(path, file)
    done = restore(path, file, force=True)
    assert done.aside is not None and path.with_name(done.aside).read_bytes().startswith(b"not a database")
    assert check(path).ok
    assert verified(file).kind == "real"


def test_simulated_and_real_never_mix(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    shutil.copy(path, tmp_path / "simulated.db")
    with closing(sqlite3.connect(tmp_path / "simulated.db")) as connection, connection:
        connection.execute("UPDATE meta SET value = 'simulated' WHERE name = 'kind'")
    assert backup(tmp_path / "simulated.db", file).kind == "simulated"
    with pytest.raises(ValueError, match="never mix"):
        restore(path, file, force=True)
