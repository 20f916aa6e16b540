"""Looking at what the ledger recorded, for tests, the command line and the curious.

What it is: ``Reader``, a read-only connection with two questions.
What it refuses to be: on the gateway's hot path, or a report (those come with prices and conversations).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from appliance.ledger.sqlite import connect, unavailable

_T = TypeVar("_T", bound=Struct)


class CallRow(Struct, frozen=True):
    """A row of ``calls``."""

    attempt_ordinal: int
    ordinal: int
    engine: str
    model: str
    status: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    audio_s: float
    finish_reason: str | None
    ttft_ms: float | None
    total_ms: float


class AttemptRow(Struct, frozen=True):
    """A row of ``attempts`` with its calls."""

    ordinal: int
    engine: str
    model: str
    route: str
    reason: str
    status: str
    error_code: str | None
    total_ms: float
    calls: tuple[CallRow, ...] = ()


class RequestRow(Struct, frozen=True):
    """A row of ``requests`` with its attempts. ``finished_ms`` and what comes with it are None while it is open."""

    id: str
    tenant_id: str
    key_id: str
    endpoint: str
    model: str
    stream: bool
    at_ms: int
    status: str
    http_status: int | None
    error_code: str | None
    total_ms: float | None
    ttft_ms: float | None
    finished_ms: int | None
    attempts: tuple[AttemptRow, ...] = ()


class Reader:
    """Open with ``Reader.open``, close after use; a gateway may write meanwhile."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Reader:
        """Over the existing ledger at ``path``. Raises LedgerUnavailable."""
        try:
            return cls(connect(path, read_only=True))
        except sqlite3.Error as e:
            raise unavailable(e) from e

    def counts(self) -> dict[str, int]:
        """How many requests have each status; a status without requests is absent."""
        return {str(s): int(n) for s, n in self._rows("SELECT status, count(*) FROM requests GROUP BY status")}

    def totals(self) -> tuple[int, int, int]:
        """How many requests, attempts and calls there are."""
        query = "SELECT (SELECT count(*) FROM requests), (SELECT count(*) FROM attempts), (SELECT count(*) FROM calls)"
        ((requests, attempts, calls),) = self._rows(query)
        return requests, attempts, calls

    def ids(self) -> list[str]:
        """All request ids, oldest first."""
        return [row[0] for row in self._rows("SELECT id FROM requests ORDER BY id")]

    def request(self, request_id: str) -> RequestRow | None:
        """One request with everything that belongs to it."""
        rows = self._select(RequestRow, "requests WHERE id = ?", request_id)
        return msgspec.structs.replace(rows[0], attempts=self._attempts(request_id)) if rows else None

    def _attempts(self, request_id: str) -> tuple[AttemptRow, ...]:
        calls = self._select(CallRow, "calls WHERE request_id = ? ORDER BY attempt_ordinal, ordinal", request_id)
        return tuple(
            msgspec.structs.replace(attempt, calls=tuple(c for c in calls if c.attempt_ordinal == attempt.ordinal))
            for attempt in self._select(AttemptRow, "attempts WHERE request_id = ? ORDER BY ordinal", request_id)
        )

    def _select(self, row_type: type[_T], rest: str, *parameters: object) -> list[_T]:
        """Rows as ``row_type``: its fields that have no default are the columns."""
        columns = [field.name for field in msgspec.structs.fields(row_type) if field.required]
        rows = self._rows(f"SELECT {', '.join(columns)} FROM {rest}", *parameters)
        # not strict: SQLite has no booleans
        return [msgspec.convert(dict(zip(columns, row, strict=True)), row_type, strict=False) for row in rows]

    def _rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, parameters).fetchall()
        except sqlite3.Error as e:
            raise unavailable(e) from e

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
