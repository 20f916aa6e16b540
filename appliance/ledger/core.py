"""SQLAlchemy over the ledger, for everything that is not in a request's way.

What it is: ``engine(where)``, a transaction helper that turns drivers' errors into sentences, and ``bump``, which tells
gateways that what they hold in memory has changed.
What it refuses to be: imported by the hot path. It costs 25 MB and 0.2 s where it is first used.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import Connection, Engine, NullPool, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError

from appliance.errors import LedgerUnavailable
from appliance.ledger import postgres, sqlite

_WRITES = "ledger_writes"  # an execution option of ours
_LOCK_WAIT_S = 10.0
_LOCK_NAP_S = 0.0003
_BUMP = text("UPDATE meta SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) WHERE name = 'auth_version'")


def engine(where: Path | str, *, read_only: bool = False) -> Engine:
    """An engine on the ledger, without a pool: a command line uses it once, a gateway's housekeeping once a minute."""
    if isinstance(where, str):
        # tried before use: a server that was restarted would otherwise cost the next caller an error
        return create_engine(
            "postgresql+psycopg://",
            creator=lambda: postgres.open_connection(where, manual=True),
            pool_pre_ping=True,
        )
    made = create_engine("sqlite://", creator=lambda: sqlite.connect(where, read_only=read_only), poolclass=NullPool)

    @event.listens_for(made, "begin")
    def _begin(bound: Connection) -> None:
        # pysqlite would leave DDL outside of transactions
        if bound.get_execution_options().get(_WRITES, True) and not read_only:
            _take_the_lock(bound)
        else:
            bound.exec_driver_sql("BEGIN")

    return made


def _take_the_lock(bound: Connection) -> None:
    """BEGIN IMMEDIATE, tried often: SQLite's own waiting naps for 100 ms and starves beside a busy gateway."""
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            bound.exec_driver_sql("BEGIN IMMEDIATE")
            return
        except OperationalError as e:
            busy = isinstance(e.orig, sqlite3.Error) and sqlite.is_busy(e.orig)
            if not busy or time.monotonic() >= deadline:
                raise
        time.sleep(_LOCK_NAP_S)


@contextmanager
def reading(made: Engine) -> Iterator[Connection]:
    """A consistent view that holds up no writer. Raises LedgerUnavailable."""
    with sentences(), made.connect() as connection:
        options = {_WRITES: False}
        if made.dialect.name == "postgresql":
            options["isolation_level"] = "REPEATABLE READ"  # type: ignore[assignment]
        with connection.execution_options(**options).begin():
            yield connection


@contextmanager
def transaction(made: Engine) -> Iterator[Connection]:
    """One transaction; committed when the block ends, undone when it raises. Raises LedgerUnavailable."""
    with sentences(), made.begin() as connection:
        yield connection


@contextmanager
def sentences() -> Iterator[None]:
    """Drivers' errors as the ledger's."""
    try:
        yield
    except DBAPIError as e:
        failure = _sentence(e)  # its own cause is without statements, values, hosts and users
        raise failure from failure.__cause__
    except sqlite3.Error as e:
        raise sqlite.unavailable(e) from e
    except psycopg.Error as e:
        postgres.raise_unavailable(e)


def bump(connection: Connection) -> None:
    """Make every gateway read keys, tenants and prices again, within a second of the commit."""
    connection.execute(_BUMP)


def _sentence(error: DBAPIError) -> LedgerUnavailable:
    driver = error.orig
    if isinstance(driver, psycopg.DataError) and driver.sqlstate is None:
        # never sent: PostgreSQL has no text with a NUL in it, where SQLite would take it and find nothing
        raise ValueError("a value holds a NUL character; take it out") from error
    if isinstance(driver, sqlite3.Error):
        return sqlite.unavailable(driver)
    if isinstance(driver, psycopg.Error):
        return postgres.unavailable(driver)
    return LedgerUnavailable(f"the ledger cannot be used: {type(error).__name__}; see the log")
