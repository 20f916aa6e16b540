"""A PostgreSQL ledger into a SQLite file and back, with COPY.

What it is: ``copy_out`` reads every table in one REPEATABLE READ transaction; ``copy_in`` fills a new schema in the
transaction of its caller.
What it refuses to be: a way to change anything on the way. Columns go by name, values as they are; text that SQLite
holds and PostgreSQL cannot (a NUL) is the one exception.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import BigInteger, Boolean, Connection, Double, Integer, LargeBinary, Table

from appliance.ledger.core import engine, sentences
from appliance.ledger.postgres import open_connection, take_your_time
from appliance.ledger.schema import metadata
from appliance.ledger.upgrade import create_private, migrate

_BATCH = 5000
# The Python types differ, so the binary form is read by name; BigInteger is an Integer, and comes before it.
_TYPES = ((BigInteger, "int8"), (Integer, "int4"), (Double, "float8"), (Boolean, "bool"), (LargeBinary, "bytea"))


def copy_out(url: str, part: Path, revision: str) -> None:
    """Everything of the ledger at ``url`` into the SQLite file ``part``. Raises LedgerUnavailable."""
    empty_ledger(part, revision)
    with sentences(), closing(sqlite3.connect(part)) as writing, open_connection(url, manual=True) as reading:
        writing.execute("PRAGMA synchronous=OFF")  # the whole file is synced before it gets its name
        reading.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reading.read_only = True
        take_your_time(reading)
        for table in metadata.sorted_tables:
            names = _columns(writing, table)
            if names:
                _table_out(reading, writing, table, names)
        writing.commit()


def copy_in(bound: Connection, file: Path) -> None:
    """Everything of the SQLite ledger ``file`` into the empty tables of ``bound``."""
    driver: Any = bound.connection.driver_connection
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as reading, driver.cursor() as cursor:
        for name in ("meta", "tenants"):  # what a new ledger begins with
            cursor.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)))
        for table in metadata.sorted_tables:
            columns = list(table.columns)
            names = [column.name for column in columns]
            flags = [isinstance(column.type, Boolean) for column in columns]
            into = sql.SQL("COPY {} ({}) FROM STDIN").format(
                sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, names))
            )
            rows = reading.execute(f"SELECT {', '.join(_quoted(names))} FROM {table.name}")
            with cursor.copy(into) as copy:
                for row in rows:
                    copy.write_row([_value(value, flag) for value, flag in zip(row, flags, strict=True)])


def empty_ledger(path: Path, revision: str) -> None:
    """A SQLite ledger at ``revision`` without a row in it."""
    create_private(path)
    made = engine(path)
    try:
        with made.begin() as bound:
            migrate(bound, revision)
            for table in metadata.sorted_tables:
                if table.name in ("meta", "tenants") and made.dialect.has_table(bound, table.name):
                    bound.execute(table.delete())
    finally:
        made.dispose()


def _table_out(
    reading: psycopg.Connection[Any], writing: sqlite3.Connection, table: Table, names: Sequence[str]
) -> None:
    query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT BINARY)").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(table.name)
    )
    insert = f"INSERT INTO {table.name} ({', '.join(_quoted(names))}) VALUES ({', '.join('?' * len(names))})"
    with reading.cursor() as cursor, cursor.copy(query) as copy:
        copy.set_types([_type(table.columns[name].type) for name in names])
        rows = iter(copy.rows())
        while batch := list(islice(rows, _BATCH)):
            writing.executemany(insert, batch)


def _columns(connection: sqlite3.Connection, table: Table) -> list[str]:
    """Those of the table at the file's revision; none where it did not exist yet."""
    there = {row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")}
    return [column.name for column in table.columns if column.name in there]


def _type(kind: Any) -> str:
    return next((name for known, name in _TYPES if isinstance(kind, known)), "text")


def _value(value: Any, flag: bool) -> Any:
    if flag and value is not None:
        return bool(value)
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) and "\0" in value else value


def _quoted(names: Sequence[str]) -> Iterator[str]:
    return (f'"{name}"' for name in names)
