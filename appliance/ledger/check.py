"""Whether a ledger is what it should be: its pages, and its sums against each other.

What it is: ``check`` reads one consistent view, beside running gateways too, and gives a line a question.
What it refuses to be: a repair. It changes nothing; what is wrong is for a person to look at, with a backup at hand.
What it costs: a few passes over requests and calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from sqlalchemy import Connection, text

from appliance.ledger.core import engine, reading
from appliance.ledger.upgrade import HEAD, revision_of

_SHOWN = 3
_DAY_MS = 86_400_000

# Each gives what is wrong: rows of one column that name it. Requests from before 0002 have no month and no sums.
_QUESTIONS: tuple[tuple[str, str], ...] = (
    (
        "budgets equal the money of their requests",
        "SELECT scope || ' ' || scope_id || ' ' || month FROM ("
        " SELECT scope, scope_id, month, spent_nusd AS spent FROM budgets"
        " UNION ALL SELECT 'key', key_id, month, -(hosted_nusd + energy_nusd) FROM requests WHERE month IS NOT NULL"
        " UNION ALL SELECT 'tenant', tenant_id, month, -(hosted_nusd + energy_nusd) FROM requests"
        " WHERE month IS NOT NULL"
        " UNION ALL SELECT 'shadow', tenant_id, month, -(hosted_nusd + energy_nusd) FROM requests"
        " WHERE month IS NOT NULL AND endpoint = 'shadow') AS x GROUP BY scope, scope_id, month HAVING sum(spent) <> 0",
    ),
    (
        "what is held back belongs to requests that run",
        "SELECT scope || ' ' || scope_id || ' ' || month FROM ("
        " SELECT scope, scope_id, month, reserved_nusd AS held FROM budgets"
        " UNION ALL SELECT 'key', key_id, month, -reserved_nusd FROM requests WHERE status = 'open'"
        " UNION ALL SELECT 'tenant', tenant_id, month, -reserved_nusd FROM requests WHERE status = 'open'"
        " UNION ALL SELECT 'shadow', tenant_id, month, -reserved_nusd FROM requests WHERE status = 'open'"
        " AND endpoint = 'shadow') AS x"
        " GROUP BY scope, scope_id, month HAVING sum(held) <> 0",
    ),
    (
        "requests equal the sums of their calls",
        "SELECT r.id FROM requests AS r JOIN (SELECT request_id, sum(hosted_nusd) AS hosted, sum(work_ns) AS work,"
        " sum(prompt_tokens) AS prompt, sum(completion_tokens) AS completion FROM calls GROUP BY request_id) AS c"
        " ON c.request_id = r.id WHERE r.month IS NOT NULL AND (r.hosted_nusd <> c.hosted OR r.work_ns <> c.work"
        " OR r.prompt_tokens <> c.prompt OR r.completion_tokens <> c.completion)",
    ),
    (
        "conversations equal the sums of their requests",
        "SELECT c.tenant_id || ' ' || c.id FROM conversations AS c LEFT JOIN (SELECT tenant_id, conversation_id,"
        " sum(CASE WHEN endpoint IN ('shadow', 'handoff') THEN 0 ELSE 1 END) AS n, sum(hosted_nusd) AS hosted,"
        " sum(energy_nusd) AS energy, sum(work_ns) AS work FROM requests"
        " WHERE conversation_id IS NOT NULL AND total_ms IS NOT NULL GROUP BY tenant_id, conversation_id) AS r"
        " ON r.tenant_id = c.tenant_id AND r.conversation_id = c.id WHERE coalesce(r.n, 0) <> c.requests"
        " OR coalesce(r.hosted, 0) <> c.hosted_nusd OR coalesce(r.energy, 0) <> c.energy_nusd"
        " OR coalesce(r.work, 0) <> c.work_ns",
    ),
    (
        "every answered request has its attempts and calls",
        # past the tenant's log_days retention has taken them
        "SELECT r.id FROM requests AS r JOIN tenants AS t ON t.id = r.tenant_id LEFT JOIN attempts AS a"
        " ON a.request_id = r.id LEFT JOIN calls AS c ON c.request_id = a.request_id AND c.attempt_ordinal = a.ordinal"
        " WHERE r.status = 'ok' AND c.request_id IS NULL"
        f" AND r.at_ms > :now_ms - {_DAY_MS} * CAST(t.log_days AS BIGINT)",
    ),
    (
        "every settled request says how it ended",
        "SELECT id FROM requests WHERE status <> 'open' AND (finished_ms IS NULL OR (status <> 'lost' AND total_ms"
        " IS NULL))",
    ),
    (
        "no attempt, call, outcome, text, decision or history is without what it belongs to",
        "SELECT 'attempt ' || a.request_id FROM attempts AS a LEFT JOIN requests AS r ON r.id = a.request_id"
        " WHERE r.id IS NULL"
        " UNION ALL SELECT 'call ' || c.request_id FROM calls AS c LEFT JOIN attempts AS a"
        " ON a.request_id = c.request_id AND a.ordinal = c.attempt_ordinal WHERE a.request_id IS NULL"
        " UNION ALL SELECT 'request ' || r.id FROM requests AS r LEFT JOIN conversations AS c"
        " ON c.tenant_id = r.tenant_id AND c.id = r.conversation_id"
        " WHERE r.conversation_id IS NOT NULL AND c.id IS NULL"
        " UNION ALL SELECT 'outcome ' || o.id FROM outcomes AS o LEFT JOIN conversations AS c"
        " ON c.tenant_id = o.tenant_id AND c.id = o.conversation_id WHERE c.id IS NULL"
        " UNION ALL SELECT 'text ' || x.request_id FROM texts AS x LEFT JOIN requests AS r ON r.id = x.request_id"
        " AND r.tenant_id = x.tenant_id WHERE r.id IS NULL"
        " UNION ALL SELECT 'decision of ' || d.request_id FROM decisions AS d LEFT JOIN requests AS r"
        " ON r.id = d.request_id WHERE r.id IS NULL"
        " UNION ALL SELECT 'history of ' || h.conversation_id FROM threads AS h LEFT JOIN conversations AS c"
        " ON c.tenant_id = h.tenant_id AND c.id = h.conversation_id"
        " WHERE h.conversation_id IS NOT NULL AND c.id IS NULL",
    ),
    (
        "requests and keys are of the same tenant",
        "SELECT r.id FROM requests AS r JOIN keys AS k ON k.id = r.key_id WHERE k.tenant_id <> r.tenant_id",
    ),
)


class Line(Struct, frozen=True):
    """One question and its answer; ``detail`` names what is wrong."""

    question: str
    ok: bool
    detail: str = ""


class Verdict(Struct, frozen=True):
    """All of them. ``schema`` is the ledger's."""

    ok: bool
    schema: str
    lines: tuple[Line, ...]


def check(where: Path | str, clock: Callable[[], float] = time.time) -> Verdict:
    """Look at the ledger ``where``. Raises ValueError (none, or an older schema), LedgerUnavailable (newer, broken)."""
    revision = revision_of(where)
    if revision is None:
        raise ValueError("there is no ledger yet, so there is nothing to check")
    if revision != HEAD:
        raise ValueError(f"the ledger has schema {revision}, older than {HEAD}; run `appliance db upgrade` first")
    made = engine(where, read_only=True)
    try:
        with reading(made) as connection:
            lines = [_pages(connection)]
            if lines[0].ok:
                now_ms = int(clock() * 1000)
                lines += [_answered(connection, question, query, now_ms) for question, query in _QUESTIONS]
    finally:
        made.dispose()
    return Verdict(all(line.ok for line in lines), revision, tuple(lines))


def _pages(connection: Connection) -> Line:
    if connection.dialect.name != "sqlite":
        from appliance.ledger.postgres import take_your_time

        take_your_time(connection.connection.driver_connection)
        return Line("the database can be read", True, "PostgreSQL holds its pages and foreign keys right itself")
    found = [str(row[0]) for row in connection.exec_driver_sql(f"PRAGMA integrity_check({_SHOWN})")]
    if found != ["ok"]:
        return Line("pages and indexes are whole", False, "; ".join(found))
    broken = {f"{row[0]} without its {row[2]}" for row in connection.exec_driver_sql("PRAGMA foreign_key_check")}
    return Line("pages, indexes and foreign keys are whole", not broken, "; ".join(sorted(broken)))


def _answered(connection: Connection, question: str, query: str, now_ms: int) -> Line:
    values = {"now_ms": now_ms} if ":now_ms" in query else {}
    wrong = connection.execute(text(query), values).scalars().all()
    if not wrong:
        return Line(question, True)
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return Line(question, False, ", ".join(map(str, wrong[:_SHOWN])) + more)
