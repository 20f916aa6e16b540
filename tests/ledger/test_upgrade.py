"""Creating, upgrading and refusing a ledger file."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

import appliance.ledger
from appliance.errors import LedgerUnavailable
from appliance.ledger import Ledger
from appliance.ledger.core import engine
from appliance.ledger.db import connect
from appliance.ledger.lock import FileLock
from appliance.ledger.schema import metadata
from appliance.ledger.upgrade import HEAD, REVISIONS, prepare

# what revision 0001's code inserted
_TENANT_OF_0001 = (
    "INSERT INTO tenants (id, name, cache_salt, created_ms) SELECT :id, :id, :salt, :now"
    " WHERE NOT EXISTS (SELECT 1 FROM tenants)"
)


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def test_a_new_ledger_is_private_durable_and_has_its_tenant(tmp_path: Path) -> None:
    path = tmp_path / "new" / "home" / "ledger.db"
    prepare(path, lambda: 1_700_000_000.25)
    assert path.stat().st_mode & 0o777 == 0o600
    assert query(path, "PRAGMA journal_mode") == [("wal",)]
    assert query(path, "SELECT version_num FROM alembic_version") == [(HEAD,)]
    ((tenant_id, name, salt, created_ms),) = query(path, "SELECT id, name, cache_salt, created_ms FROM tenants")
    assert (tenant_id, name, created_ms) == ("default", "default", 1_700_000_000_250)
    assert len(str(salt)) >= 43


def test_the_migrations_make_the_schema(where: Path | str) -> None:
    made = engine(where)
    with made.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    made.dispose()


def test_sqlite_tables_are_one_b_tree_each(path: Path) -> None:
    made = query(path, "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name != 'alembic_version'")
    assert {name for name, _ in made} == {table.name for table in metadata.sorted_tables}
    assert all("WITHOUT ROWID" in str(sql) for _, sql in made)
    partial = query(path, "SELECT name FROM sqlite_master WHERE type = 'index' AND sql LIKE '% WHERE %' ORDER BY name")
    assert partial == [("keys_live_name",), ("requests_open",)]


def test_an_older_ledger_is_upgraded_with_what_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    with monkeypatch.context() as patch:
        patch.setattr("appliance.ledger.upgrade.HEAD", "0001")
        patch.setattr("appliance.ledger.upgrade._DEFAULT_TENANT", _TENANT_OF_0001)
        prepare(path)
    rows = (
        "INSERT INTO keys VALUES ('key_1', 'default', 'web', 'client', 'aa', 1, NULL)",
        "INSERT INTO requests VALUES ('req_1', 'default', 'key_1', 'completions', 'm', 1, 5, 'ok', 200, NULL, 1, 1, 6)",
        "INSERT INTO attempts VALUES ('req_1', 0, 'chat', 'm', 'local', 'routine', 'ok', NULL, 1.5)",
        "INSERT INTO calls VALUES ('req_1', 0, 0, 'chat', 'm', 'ok', 3, 2, 1, 0.5, 'stop', 1.0, 1.5)",
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        for row in rows:
            connection.execute(row)
    prepare(path)
    assert query(path, "SELECT version_num FROM alembic_version") == [(HEAD,)]
    assert query(path, "SELECT id, status, reserved_nusd, conversation_id FROM requests") == [("req_1", "ok", 0, None)]
    assert query(path, "SELECT prompt_tokens, provider FROM calls") == [(3, "local")]
    ((residency, secret),) = query(path, "SELECT residency, secret FROM tenants")
    assert residency == "local_only"
    assert len(str(secret)) == 64
    assert dict(query(path, "SELECT name, value FROM meta"))["kind"] == "real"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'nobody'",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit (id, at_ms, actor, action, target) SELECT id, 1, 'nobody', 'x', 'y' FROM audit",
        "REPLACE INTO audit (id, at_ms, actor, action, target) SELECT id, 1, 'nobody', 'x', 'y' FROM audit",
    ],
)
def test_the_audit_is_append_only(where: Path | str, statement: str) -> None:
    if "REPLACE" in statement and isinstance(where, str):
        pytest.skip("PostgreSQL has no REPLACE")
    made = engine(where)
    with made.connect() as connection, pytest.raises(DBAPIError, match="append-only"):
        connection.execute(text(statement))
    made.dispose()


def test_the_code_knows_every_revision() -> None:
    directory = ScriptDirectory(str(Path(appliance.ledger.__file__).parent / "migrations"))
    assert [script.revision for script in directory.walk_revisions()][::-1] == list(REVISIONS)
    assert directory.get_current_head() == HEAD


def test_the_schema_compiles_for_postgresql() -> None:
    dialect = postgresql.dialect()
    for table in metadata.sorted_tables:
        assert "WITHOUT ROWID" not in str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert str(CreateIndex(index).compile(dialect=dialect))


def test_a_newer_schema_of_postgresql_is_refused_and_left_alone(url: str) -> None:
    db = connect(url)
    db.run("UPDATE alembic_version SET version_num = ?", [("0999",)])
    before = db.query("SELECT relname, n_tup_ins FROM pg_stat_user_tables ORDER BY relname")
    with pytest.raises(LedgerUnavailable, match=r"has schema 0999, newer than \d{4}"):
        Ledger.open(url)
    assert db.query("SELECT relname, n_tup_ins FROM pg_stat_user_tables ORDER BY relname") == before
    assert db.query("SELECT count(*) FROM gateways") == [(0,)]
    db.close()


def test_a_postgresql_database_of_something_else_is_refused(postgres_server: Any) -> None:
    url = postgres_server.create()
    db = connect(url)
    db.run("CREATE TABLE songs (title TEXT)", [()])
    with pytest.raises(LedgerUnavailable, match="not a ledger"):
        prepare(url)
    db.close()
    postgres_server.drop(url)


@pytest.mark.parametrize("opener", [Ledger.open, prepare])
def test_a_newer_schema_is_refused_and_left_alone(path: Path, opener: Callable[[Path], object]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    before = path.read_bytes()
    with pytest.raises(LedgerUnavailable, match=r"has schema 0999, newer than \d{4}") as caught:
        opener(path)
    assert caught.value.code == "ledger_newer"
    assert path.read_bytes() == before
    wal = path.with_name("ledger.db-wal")
    assert not wal.exists() or wal.stat().st_size == 0


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    query(path, "CREATE TABLE songs (title TEXT)")
    with pytest.raises(LedgerUnavailable, match="not a ledger"):
        prepare(path)
    assert query(path, "SELECT name FROM sqlite_master") == [("songs",)]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database at all " * 100)
    before = path.read_bytes()
    with pytest.raises(LedgerUnavailable, match="not a SQLite database"):
        prepare(path)
    assert path.read_bytes() == before


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for opener in (Ledger.open, prepare):
        with pytest.raises(LedgerUnavailable, match="APPLIANCE_HOME writable"):
            opener(tmp_path / "file" / "ledger.db")


def test_an_upgrade_that_fails_leaves_the_file_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    real = command.upgrade

    def fail_at_the_end(config: object, revision: str) -> None:
        real(config, revision)
        raise sqlite3.OperationalError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", fail_at_the_end)
        with pytest.raises(LedgerUnavailable):
            prepare(path)
    assert query(path, "SELECT name FROM sqlite_master") == []
    prepare(path)
    assert query(path, "SELECT id FROM tenants") == [("default",)]


def test_an_upgrade_under_a_running_gateway_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.ledger.upgrade._LOCK_WAIT_S", 0.0)
    path = tmp_path / "ledger.db"
    lock = FileLock(path, 0.0)
    with pytest.raises(LedgerUnavailable, match="stop it first"):
        prepare(path)
    lock.release()
    prepare(path)


_PREPARE = """
import sys
from pathlib import Path
from appliance.ledger.upgrade import prepare
print("ready")
sys.stdin.readline()
prepare(sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1]))
"""


def test_processes_that_start_at_once_make_one_ledger(
    tmp_path: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    path = tmp_path / "ledger.db"
    processes = [spawn(_PREPARE, path) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert query(path, "SELECT id FROM tenants") == [("default",)]


def test_processes_that_start_at_once_make_one_postgresql_ledger(
    postgres_server: Any, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    url = postgres_server.create()
    processes = [spawn(_PREPARE, url) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    db = connect(url)
    assert db.query("SELECT id FROM tenants") == [("default",)]
    db.close()
    postgres_server.drop(url)
