"""Conversations nobody has said anything about: after enough silence they are presumed resolved.

What it refuses to be: a resolution. ``presumed_resolved`` is its own state everywhere, and reports show it apart.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Engine, cast, insert, literal, select, update

from appliance.ledger.core import reading, transaction
from appliance.ledger.ids import new_id
from appliance.ledger.schema import conversations, outcomes, tenants
from appliance.ledger.stores.pages import beyond

_BATCH = 200
_HOUR_MS = 3_600_000


def presume(engine: Engine, now_ms: int) -> int:
    """Mark open, answered conversations that have been silent for the tenant's ``presume_after_h``."""
    c, count = conversations.c, 0
    # milliseconds pass 32 bits, and PostgreSQL would take both numbers for such
    wait_ms = cast(tenants.c.presume_after_h, BigInteger) * literal(_HOUR_MS, BigInteger)
    silent = c.last_seen_ms < literal(now_ms, BigInteger) - wait_ms
    still = (c.state == "open", c.requests > 0, silent)
    query = (
        select(c.tenant_id, c.id, c.last_seen_ms)
        .join(tenants, tenants.c.id == c.tenant_id)
        .where(*still, c.answered_by.is_not(None))
        .order_by(c.tenant_id, c.id)
        .limit(_BATCH)
    )
    last: tuple[str, str] | None = None
    while True:
        # on from the last one: a table of a million would otherwise be read from its start for every batch
        following = query if last is None else query.where(beyond((c.tenant_id, c.id), last))
        with reading(engine) as connection:
            found = connection.execute(following).all()
        if not found:
            return count
        last = (found[-1].tenant_id, found[-1].id)
        with transaction(engine) as connection:
            for tenant_id, name, last_seen_ms in found:
                # seen again since: its new turn must not be taken for silence
                same = (c.tenant_id == tenant_id, c.id == name, c.state == "open", c.last_seen_ms == last_seen_ms)
                values = {"state": "presumed_resolved", "state_ms": now_ms}
                if connection.execute(update(conversations).where(*same).values(**values)).rowcount:
                    row = {"id": new_id("out", now_ms), "tenant_id": tenant_id, "conversation_id": name}
                    connection.execute(insert(outcomes).values(**row, at_ms=now_ms, source="silence"))
                    count += 1
