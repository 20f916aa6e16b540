"""Looking at conversations and requests: lists with filters, one whole, and why a request went the way it went.

What it refuses to be: across tenants by accident. Every question names the tenant it is about, or says ``None`` for
all, which only an admin key or the command line may.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

from msgspec import Struct
from sqlalchemy import ColumnElement, Engine, Row, RowMapping, select

from appliance.ledger.core import reading
from appliance.ledger.ids import first_id
from appliance.ledger.schema import attempts, calls, conversations, requests, texts
from appliance.ledger.stores import values
from appliance.ledger.stores.pages import Page, paged
from appliance.types import Channel, Status

T = TypeVar("T", bound=Struct)
_CLOCKS_APART_MS = 3_600_000  # of the gateways that gave a conversation and its requests their times

STATES = ("open", "resolved", "unresolved", "handed_to_human", "presumed_resolved")


class ConversationInfo(Struct, frozen=True):
    """A conversation with its sums. Times in Unix milliseconds, money in nano-USD, work in nanoseconds."""

    tenant_id: str
    id: str
    key_id: str
    channel: str
    language: str | None
    intent: str | None
    value_class: str | None
    subject: str | None
    opened_ms: int
    last_seen_ms: int
    state: str
    state_ms: int
    reopened: int
    requests: int
    answered_by: str | None
    escalated: bool
    hosted_nusd: int
    energy_nusd: int
    work_ns: int


class CallInfo(Struct, frozen=True):
    """One engine call."""

    ordinal: int
    engine: str
    model: str
    status: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    thinking_tokens: int
    audio_s: float
    characters: int
    finish_reason: str | None
    ttft_ms: float | None
    total_ms: float
    provider: str
    hosted_nusd: int
    work_ns: int


class AttemptInfo(Struct, frozen=True):
    """One route that was tried, and why."""

    ordinal: int
    engine: str
    model: str
    route: str
    reason: str
    status: str
    error_code: str | None
    total_ms: float
    calls: tuple[CallInfo, ...] = ()


class RequestInfo(Struct, frozen=True):
    """A request. ``finished_ms`` and what comes with it are None while it is open."""

    id: str
    tenant_id: str
    key_id: str
    conversation_id: str | None
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
    route: str | None
    reason: str | None
    escalated: bool
    hosted_nusd: int
    energy_nusd: int
    work_ns: int


class Explained(Struct, frozen=True):
    """A request with everything that was tried for it."""

    request: RequestInfo
    attempts: tuple[AttemptInfo, ...]


def _wanted(fields: Mapping[ColumnElement[Any], str | None]) -> list[ColumnElement[bool]]:
    return [column == value for column, value in fields.items() if value is not None]


def _make(kind: type[T]) -> Callable[[RowMapping], T]:
    fields = kind.__struct_fields__
    return lambda row: kind(**{field: row[field] for field in fields})


def _columns(table: Any, kind: type[Struct]) -> list[Any]:
    return [table.c[field] for field in kind.__struct_fields__ if field != "calls"]


def listed(
    engine: Engine,
    tenant_id: str | None,
    *,
    at: str | None = None,
    limit: int = 50,
    state: str | None = None,
    channel: str | None = None,
    intent: str | None = None,
    language: str | None = None,
    subject: str | None = None,
    since_ms: int | None = None,
    before_ms: int | None = None,
    most: int | None = None,
) -> Page[ConversationInfo]:
    """Newest first; opened from ``since_ms`` on and before ``before_ms``. Raises ValueError for what is not known.

    Those of a subject whole; otherwise out of ``most`` conversations at most, as ``paged`` says.
    """
    if state is not None:
        values.one_of(state, STATES, "the state")
    if channel is not None:
        values.one_of(channel, get_args(Channel), "the channel")
    c = conversations.c
    query = select(*_columns(conversations, ConversationInfo))
    wanted = _wanted(
        {
            # as an expression, or SQLite reads and sorts all of a tenant for a page (0.6 s of 200,000); the index
            # on opened_ms has them in order. Those of a person are few and wanted whole
            (c.tenant_id if subject is not None else c.tenant_id + ""): tenant_id,
            c.state: state,
            c.channel: channel,
            c.intent: intent,
            c.language: language,
            c.subject: subject,
        }
    )
    if since_ms is not None:
        query = query.where(c.opened_ms >= values.unix_ms(since_ms, "since"))
    if before_ms is not None:
        query = query.where(c.opened_ms < values.unix_ms(before_ms, "before"))
    order = (c.opened_ms, c.tenant_id, c.id)
    return paged(
        engine, query, order, _make(ConversationInfo), at=at, limit=limit, descending=True, wanted=wanted,
        most=None if subject is not None else most,
    )  # fmt: skip


def get(engine: Engine, tenant_id: str, conversation_id: str) -> ConversationInfo | None:
    """One conversation; None where the tenant has none of that id."""
    c = conversations.c
    query = select(*_columns(conversations, ConversationInfo)).where(c.tenant_id == tenant_id, c.id == conversation_id)
    with reading(engine) as connection:
        row = connection.execute(query).first()
    return None if row is None else ConversationInfo(**row._mapping)


def last_text(engine: Engine, tenant_id: str, conversation_id: str) -> tuple[str, str] | None:
    """What was asked last (the messages as JSON) and what was answered; None where no text is stored."""
    c = texts.c
    query = select(c.prompt, c.answer).where(c.tenant_id == tenant_id, c.conversation_id == conversation_id)
    with reading(engine) as connection:
        row = connection.execute(query.order_by(c.at_ms.desc(), c.request_id.desc()).limit(1)).first()
    return None if row is None else (row.prompt, row.answer)


def requests_listed(
    engine: Engine,
    tenant_id: str | None,
    *,
    conversation_id: str | None = None,
    key_id: str | None = None,
    status: str | None = None,
    since_ms: int | None = None,
    before_ms: int | None = None,
    at: str | None = None,
    limit: int = 50,
    most: int | None = None,
) -> Page[RequestInfo]:
    """Newest first; of one conversation or key, if it is named, out of ``most`` requests at most. Raises ValueError.

    Ids sort by time, so a page costs what it looks at and not what the table holds; an index for each filter would cost
    every request.
    """
    if status is not None:
        values.one_of(status, tuple(Status), "the status")
    c = requests.c
    query = select(*_columns(requests, RequestInfo))
    wanted = _wanted({c.tenant_id: tenant_id, c.conversation_id: conversation_id, c.key_id: key_id, c.status: status})
    if conversation_id is not None and tenant_id is not None:
        opened_ms = _opened(engine, tenant_id, conversation_id)
        if opened_ms is None:
            return Page([], None)
        query = query.where(c.id >= first_id("req", opened_ms - _CLOCKS_APART_MS))
    if since_ms is not None:
        query = query.where(c.id >= first_id("req", values.unix_ms(since_ms, "since")))
    if before_ms is not None:
        query = query.where(c.id < first_id("req", values.unix_ms(before_ms, "before")))
    return paged(
        engine, query, (c.id,), _make(RequestInfo), at=at, limit=limit, descending=True, wanted=wanted, most=most
    )


def _opened(engine: Engine, tenant_id: str, conversation_id: str) -> int | None:
    """When it was opened, which none of its requests is older than."""
    c = conversations.c
    query = select(c.opened_ms).where(c.tenant_id == tenant_id, c.id == conversation_id)
    with reading(engine) as connection:
        return connection.execute(query).scalar()


def explained(engine: Engine, tenant_id: str | None, request_id: str) -> Explained | None:
    """A request with its attempts and calls; None where there is none (of that tenant)."""
    query = select(*_columns(requests, RequestInfo)).where(requests.c.id == request_id)
    if tenant_id is not None:
        query = query.where(requests.c.tenant_id == tenant_id)
    with reading(engine) as connection:
        row = connection.execute(query).first()
        if row is None:
            return None
        tried = connection.execute(
            select(*_columns(attempts, AttemptInfo))
            .where(attempts.c.request_id == request_id)
            .order_by(attempts.c.ordinal)
        ).all()
        made = connection.execute(
            select(calls.c.attempt_ordinal, *_columns(calls, CallInfo))
            .where(calls.c.request_id == request_id)
            .order_by(calls.c.attempt_ordinal, calls.c.ordinal)
        ).all()
    return Explained(RequestInfo(**row._mapping), tuple(_attempt(one, made) for one in tried))


def _attempt(row: Row[Any], made: Any) -> AttemptInfo:
    own = (dict(call._mapping) for call in made if call.attempt_ordinal == row.ordinal)
    return AttemptInfo(
        **row._mapping,
        calls=tuple(CallInfo(**{name: c[name] for name in CallInfo.__struct_fields__}) for c in own),
    )
