"""Judged requests with what became of them: what a policy is fitted to and replayed on.

What it is: ``judged``, the decisions of a stretch of time with their conversations' ends.
What it refuses to be: on a request's way, or text. Rows older than a tenant's period for details are gone.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct
from sqlalchemy import Engine, RowMapping, select

from appliance.ledger.core import reading
from appliance.ledger.ids import first_id
from appliance.ledger.schema import conversations, decisions, requests
from appliance.types import Decision, Reason

_RESOLVED = {"resolved": True, "presumed_resolved": True, "unresolved": False, "handed_to_human": False}


class Row(Struct, frozen=True):
    """One decision. ``resolved`` None: its conversation is open, or it has none.

    ``answered``: the route of the answer that left; None where the request failed.
    """

    request_id: str
    conversation: str
    opened_ms: int
    resolved: bool | None
    hosted_nusd: int
    answered: str | None
    decision: Decision


def judged(engine: Engine, since_ms: int, until_ms: int, tenant_id: str | None = None) -> list[Row]:
    """Of requests that came from ``since_ms`` on and before ``until_ms``, oldest first. Raises LedgerUnavailable."""
    r, c = requests.c, conversations.c
    query = (
        select(decisions, r.at_ms, r.tenant_id, r.conversation_id, r.hosted_nusd, r.status)
        .add_columns(r.route.label("answered"), c.state, c.opened_ms)
        .join(requests, r.id == decisions.c.request_id)
        .outerjoin(conversations, (c.tenant_id == r.tenant_id) & (c.id == r.conversation_id))
        .where(decisions.c.request_id >= first_id("req", since_ms), decisions.c.request_id < first_id("req", until_ms))
        .order_by(decisions.c.request_id)
    )
    if tenant_id is not None:
        query = query.where(r.tenant_id == tenant_id)
    with reading(engine) as connection:
        return [_row(found) for found in connection.execute(query).mappings()]


def _row(found: RowMapping) -> Row:
    fields = {name: found[name] for name in Decision.__struct_fields__}
    fields["reason"] = None if found["reason"] is None else Reason(found["reason"])
    # null: a signal that was no number; it says nothing
    signals = msgspec.json.decode(found["signals"], type=dict[str, float | None])
    fields["signals"] = {name: value for name, value in signals.items() if value is not None}
    return Row(
        found["request_id"],
        f"{found['tenant_id']}/{found['conversation_id'] or found['request_id']}",
        found["opened_ms"] or found["at_ms"],
        _RESOLVED.get(found["state"]),
        found["hosted_nusd"],
        found["answered"] if found["status"] == "ok" else None,
        Decision(**fields),
    )
