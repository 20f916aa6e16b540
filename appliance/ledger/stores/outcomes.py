"""What became of a conversation, as its caller says it.

What it is: outcomes are rows that stay; the newest one decides the conversation's state. Saying the same again adds
nothing, saying something else keeps both.
What it refuses to be: a judge. Silence is told apart (``presumed_resolved``), and a new turn reopens.
"""

from __future__ import annotations

from typing import Any, cast

from msgspec import Struct
from sqlalchemy import Connection, Engine, Row, RowMapping, insert, select, update

from appliance.ledger.core import reading, transaction
from appliance.ledger.ids import new_id
from appliance.ledger.said import Said
from appliance.ledger.schema import conversations, outcomes
from appliance.ledger.stores import values
from appliance.ledger.stores.changes import Actor, Change
from appliance.ledger.stores.pages import Page, paged

SOURCES = ("api", "silence", "reopened")


class OutcomeInfo(Struct, frozen=True):
    """One recorded outcome. ``source``: api, silence or reopened."""

    id: str
    at_ms: int
    source: str
    key_id: str | None
    resolved: bool | None
    handed_to_human: bool | None
    csat: int | None
    note: str | None


_COLUMNS = [outcomes.c[field] for field in OutcomeInfo.__struct_fields__]


def record(
    engine: Engine,
    tenant_id: str,
    conversation_id: str,
    key_id: str | None,
    said: Said,
    now_ms: int,
    actor: Actor | None = None,
) -> OutcomeInfo | None:
    """Record what ``said``; the newest outcome of the conversation. None where there is no such conversation.

    ``actor``: an operator who says it in the caller's place, for the audit.
    """
    with transaction(engine) as connection:
        which = (conversations.c.tenant_id == tenant_id, conversations.c.id == conversation_id)
        query = select(conversations.c.state).where(*which)
        state = connection.execute(query.with_for_update()).scalar()
        if state is None:
            return None
        last = _newest(connection, tenant_id, conversation_id)
        same = last is not None and last.source == "api" and _said(last) == said
        if same and (said.state is None or said.state == state):
            return _info(cast("Row[Any]", last))
        if last is not None:  # the newest counts, also within one millisecond or after a clock went back
            now_ms = max(now_ms, last.at_ms + 1)
        new = OutcomeInfo(
            new_id("out", now_ms), now_ms, "api", key_id, said.resolved, said.handed_to_human, said.csat, said.note
        )
        row = {field: getattr(new, field) for field in OutcomeInfo.__struct_fields__}
        connection.execute(insert(outcomes).values(tenant_id=tenant_id, conversation_id=conversation_id, **row))
        if actor is not None:
            line = {"state": said.state, "csat": said.csat, "note": said.note is not None}
            Change(connection, actor).record("outcome.set", conversation_id, tenant_id=tenant_id, after=line)
        if said.state is not None:
            connection.execute(update(conversations).where(*which).values(state=said.state, state_ms=now_ms))
        return new


class OutcomeRow(OutcomeInfo, frozen=True, kw_only=True):
    """One recorded outcome with what it is about."""

    tenant_id: str
    conversation_id: str


def page(
    engine: Engine,
    tenant_id: str | None,
    *,
    conversation_id: str | None = None,
    source: str | None = None,
    at: str | None = None,
    limit: int = 50,
) -> Page[OutcomeRow]:
    """Outcomes, newest first. Raises ValueError for a bad cursor, limit or source."""
    if source is not None:
        values.one_of(source, SOURCES, "the source")
    c, fields = outcomes.c, OutcomeRow.__struct_fields__
    query = select(*(c[field] for field in fields))
    for column, value in ((c.tenant_id, tenant_id), (c.conversation_id, conversation_id), (c.source, source)):
        if value is not None:
            query = query.where(column == value)

    def make(row: RowMapping) -> OutcomeRow:
        return OutcomeRow(**{field: row[field] for field in fields})

    return paged(engine, query, (c.at_ms, c.id), make, at=at, limit=limit, descending=True)


def history(engine: Engine, tenant_id: str, conversation_id: str) -> list[OutcomeInfo]:
    """Every outcome of a conversation, oldest first."""
    query = (
        select(*_COLUMNS)
        .where(outcomes.c.tenant_id == tenant_id, outcomes.c.conversation_id == conversation_id)
        .order_by(outcomes.c.at_ms, outcomes.c.id)
    )
    with reading(engine) as connection:
        return [_info(row) for row in connection.execute(query)]


def _newest(connection: Connection, tenant_id: str, conversation_id: str) -> Row[Any] | None:
    query = (
        select(*_COLUMNS)
        .where(outcomes.c.tenant_id == tenant_id, outcomes.c.conversation_id == conversation_id)
        .order_by(outcomes.c.at_ms.desc(), outcomes.c.id.desc())
        .limit(1)
    )
    return connection.execute(query).first()


def _said(row: Row[Any]) -> Said:
    return Said(*(getattr(row, field) for field in Said.__struct_fields__))


def _info(row: Row[Any]) -> OutcomeInfo:
    return OutcomeInfo(**row._mapping)
