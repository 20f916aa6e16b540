"""What goes with time: text, kept answers, histories, the details of requests. Money stays.

What it is: each tenant's own periods; a legal hold stops all of it. Requests and conversations with their sums are
never deleted: they hold no text and no name, and the month's money is made of them.
What it refuses to be: fast. Rows go in batches, so that a gateway's writes pass between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Delete, Engine, delete, select

from appliance.ledger.admitting import KEPT_MS
from appliance.ledger.core import reading, transaction
from appliance.ledger.ids import first_id
from appliance.ledger.schema import (
    attempts,
    calls,
    decisions,
    idempotency,
    requests,
    tenants,
    texts,
    threads,
    translations,
)

_BATCH = 500
_AT_ONCE = 50_000  # found in one look, dropped in batches
_DAY_MS = 86_400_000
_THREAD_DAYS = 90  # a history that nobody went on with for so long opens a new conversation


class Gone(Struct, frozen=True):
    """How many rows of each kind a run has deleted."""

    texts: int = 0
    answers: int = 0
    threads: int = 0
    details: int = 0
    translations: int = 0


def expire_answers(engine: Engine, now_ms: int) -> int:
    """Answers kept for an Idempotency-Key, after their ten minutes."""
    ended = idempotency.c.http_status.is_not(None)
    return _deleted(engine, delete(idempotency).where(ended, idempotency.c.at_ms < now_ms - KEPT_MS))


def run(engine: Engine, now_ms: int) -> Gone:
    """Delete what is past its period, for every tenant without a legal hold."""
    with reading(engine) as connection:
        ids = connection.execute(select(tenants.c.id).order_by(tenants.c.id)).scalars().all()
    total = Gone(answers=expire_answers(engine, now_ms))
    for tenant_id in ids:
        gone = [_all(engine, tenant_id, now_ms, kind) for kind in (_TEXTS, _THREADS, _DETAILS, _TRANSLATIONS)]
        total = Gone(
            total.texts + gone[0],
            total.answers,
            total.threads + gone[1],
            total.details + gone[2],
            total.translations + gone[3],
        )
    return total


def _deleted(engine: Engine, statement: Delete) -> int:
    with transaction(engine) as connection:
        return connection.execute(statement).rowcount


class _Kind(Struct, frozen=True):
    """What is deleted together: how its rows are found, without a lock, and how those found are dropped."""

    days: Callable[[int, int], int]  # of text_days and log_days
    find: Callable[[Connection, str, int], Sequence[Any]]
    drop: Callable[[Connection, str, Sequence[Any]], int]


def _all(engine: Engine, tenant_id: str, now_ms: int, kind: _Kind) -> int:
    """Batch after batch; a hold or another period that is set meanwhile ends it, the next day begins anew."""
    gone = 0
    while True:
        with reading(engine) as connection:
            days = _days(connection, tenant_id, kind)
            before_ms = now_ms - (days or 0) * _DAY_MS
            found = [] if days is None else kind.find(connection, tenant_id, before_ms)
        if not found:
            return gone
        for start in range(0, len(found), _BATCH):
            with transaction(engine) as connection:
                if _days(connection, tenant_id, kind, lock=True) != days:
                    return gone
                gone += kind.drop(connection, tenant_id, found[start : start + _BATCH])


def _days(connection: Connection, tenant_id: str, kind: _Kind, lock: bool = False) -> int | None:
    """The period; None under a hold. With ``lock``, neither changes before the transaction ends."""
    c = tenants.c
    query = select(c.legal_hold, c.text_days, c.log_days).where(c.id == tenant_id)
    row = connection.execute(query.with_for_update(read=True) if lock else query).one()
    return None if row.legal_hold else kind.days(row.text_days, row.log_days)


def _old_texts(connection: Connection, tenant_id: str, before_ms: int) -> Sequence[Any]:
    query = (
        select(texts.c.request_id)
        .where(texts.c.tenant_id == tenant_id, texts.c.at_ms < before_ms)
        # ids sort by time and a text is younger than its request, so the scan ends at the first that stays
        .where(texts.c.request_id < first_id("req", before_ms))
        .order_by(texts.c.request_id)
        .limit(_AT_ONCE)
    )
    return connection.execute(query).scalars().all()


def _drop_texts(connection: Connection, tenant_id: str, found: Sequence[Any]) -> int:
    mine = (texts.c.tenant_id == tenant_id, texts.c.request_id.in_(found))
    return connection.execute(delete(texts).where(*mine)).rowcount


def _old_threads(connection: Connection, tenant_id: str, before_ms: int) -> Sequence[Any]:
    query = select(threads.c.hash).where(threads.c.tenant_id == tenant_id, threads.c.at_ms < before_ms)
    return connection.execute(query.limit(_AT_ONCE)).scalars().all()


def _drop_threads(connection: Connection, tenant_id: str, found: Sequence[Any]) -> int:
    mine = (threads.c.tenant_id == tenant_id, threads.c.hash.in_(found))
    return connection.execute(delete(threads).where(*mine)).rowcount


def _old_details(connection: Connection, tenant_id: str, before_ms: int) -> Sequence[Any]:
    query = (
        select(attempts.c.request_id)
        .distinct()
        .join(requests, requests.c.id == attempts.c.request_id)
        .where(requests.c.tenant_id == tenant_id, attempts.c.request_id < first_id("req", before_ms))
        .order_by(attempts.c.request_id)
        .limit(_AT_ONCE)
    )
    return connection.execute(query).scalars().all()


def _drop_details(connection: Connection, _: str, found: Sequence[Any]) -> int:
    connection.execute(delete(calls).where(calls.c.request_id.in_(found)))
    connection.execute(delete(decisions).where(decisions.c.request_id.in_(found)))
    connection.execute(delete(attempts).where(attempts.c.request_id.in_(found)))
    return len(found)


def _old_translations(connection: Connection, tenant_id: str, before_ms: int) -> Sequence[Any]:
    c = translations.c
    query = select(c.hash).where(c.tenant_id == tenant_id)
    wants = select(tenants.c.store_text, tenants.c.translation_memory).where(tenants.c.id == tenant_id)
    if all(connection.execute(wants).one()):  # else all of it goes: the tenant has opted out since
        query = query.where(c.at_ms < before_ms)
    return connection.execute(query.limit(_AT_ONCE)).scalars().all()


def _drop_translations(connection: Connection, tenant_id: str, found: Sequence[Any]) -> int:
    mine = (translations.c.tenant_id == tenant_id, translations.c.hash.in_(found))
    return connection.execute(delete(translations).where(*mine)).rowcount


_TEXTS = _Kind(lambda text_days, _: text_days, _old_texts, _drop_texts)
_THREADS = _Kind(lambda *_: _THREAD_DAYS, _old_threads, _drop_threads)
_DETAILS = _Kind(lambda _, log_days: log_days, _old_details, _drop_details)
_TRANSLATIONS = _Kind(lambda text_days, _: text_days, _old_translations, _drop_translations)
