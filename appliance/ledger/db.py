"""One connection to the ledger, whichever database holds it.

What it is: ``Db``, the few operations that the hot path needs, with ``?`` placeholders and the same errors on SQLite
and PostgreSQL; ``connect`` chooses by the type of its argument.
What it refuses to be: a query builder. Everything off the hot path is SQLAlchemy Core over ``core.engine``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from appliance.errors import LedgerUnavailable

Value = int | float | str | bytes | bool | None
Row = tuple[Any, ...]


class EntryFault(Exception):
    """The entry's own fault: a constraint it breaks or a value that does not fit. The store is fine."""


class Retry(LedgerUnavailable):
    """Another transaction was in the way (a deadlock, a serialization failure): the same group may pass now."""


def nothing() -> None:
    """For callers of ``begin`` who have nothing to do while they wait."""


class Db(Protocol):
    """One connection; one thread at a time; autocommit outside ``begin`` … ``commit``.

    Raises LedgerUnavailable when the store cannot be used and EntryFault when it refuses a value.
    """

    dialect: Literal["sqlite", "postgresql"]

    def begin(self, while_waiting: Callable[[], None] = nothing, durable: bool = True) -> None:
        """Start to write; on a broken connection, after opening a new one.

        What is committed without ``durable`` outlives this process, and a power cut from the next durable one on.
        """
        ...

    def commit(self) -> None:
        """Make it durable, if ``begin`` was asked to; visible to everybody in any case."""
        ...

    def rollback(self) -> None:
        """Undo everything since ``begin``; never raises, and does nothing outside of a transaction."""
        ...

    def savepoint(self) -> None:
        """One level inside a transaction."""
        ...

    def release(self) -> None:
        """Keep what came since ``savepoint``."""
        ...

    def undo(self) -> None:
        """Drop what came since ``savepoint``, and the savepoint."""
        ...

    def run(self, sql: str, rows: Sequence[Row]) -> int:
        """Execute once per row; the number of rows touched in all."""
        ...

    def send(self, sql: str, rows: Sequence[Row]) -> None:
        """``run`` where the number does not matter; what goes wrong may be raised later, at last by ``commit``."""
        ...

    def query(self, sql: str, row: Row = ()) -> list[Row]:
        """All rows of a statement that gives some."""
        ...

    def changed(self) -> bool:
        """Whether ``meta.auth_version`` differs from what the last call saw; True the first time."""
        ...

    def close(self) -> None:
        """Close the connection; may be called twice."""
        ...


def connect(where: Path | str) -> Db:
    """A connection to the SQLite file or PostgreSQL URL ``where``, which must hold a ledger already."""
    if isinstance(where, Path):
        from appliance.ledger.sqlite import SqliteDb

        return SqliteDb(where)
    from appliance.ledger.postgres import PostgresDb

    return PostgresDb(where)
