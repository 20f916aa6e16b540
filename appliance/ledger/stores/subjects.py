"""What the ledger holds of one person, and erasing it: the rights of the DPDP Act 2023, sections 11 and 12.

What it is: a subject is the pseudonym of the ``user`` a caller sent; whoever asks gives that ``user`` again. ``export``
is everything about it; ``erase`` deletes its text and cuts the link, unless the law or a hold says to keep it longer.
What it refuses to be: silent about what stays. The answer says what, until when and why.
"""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection, Delete, Engine, Update, delete, select, update

from appliance.ledger.core import reading
from appliance.ledger.ids import new_id
from appliance.ledger.pseudonyms import subject_of
from appliance.ledger.schema import (
    conversations,
    idempotency,
    outcomes,
    requests,
    tenants,
    texts,
    threads,
    translations,
)
from appliance.ledger.stores import conversations as looking
from appliance.ledger.stores import outcomes as saying
from appliance.ledger.stores.changes import Actor, change
from appliance.ledger.stores.pages import MOST

_DAY_MS = 86_400_000
LONGEST_USER = 512  # as the API takes it


class Kept(Struct, frozen=True):
    """What an erasure leaves, until when (None: as long as money is kept) and why."""

    what: str
    rows: int
    until_ms: int | None
    why: str


class Erased(Struct, frozen=True):
    """What became of a request for erasure."""

    id: str
    tenant_id: str
    conversations: int
    erased: dict[str, int]
    kept: tuple[Kept, ...]


class StoredText(Struct, frozen=True):
    """What was asked and answered in one request, where the tenant stores text."""

    request_id: str
    at_ms: int
    prompt: str
    answer: str


class RememberedTranslation(Struct, frozen=True):
    """A text of a conversation with its translation, in the translation memory."""

    at_ms: int
    source: str
    target: str
    text: str
    translation: str


class Exported(Struct, frozen=True):
    """A conversation of a subject with all that is said in it and about it."""

    conversation: looking.ConversationInfo
    outcomes: list[saying.OutcomeInfo]
    texts: list[StoredText]
    translations: list[RememberedTranslation]


class Export(Struct, frozen=True):
    """All the ledger holds of a subject."""

    tenant_id: str
    subject: str
    conversations: list[Exported]


def export(engine: Engine, actor: Actor, tenant_id: str, user: str) -> Export:
    """Everything about a ``user``: conversations, outcomes, stored text; the audit says who asked.

    Raises ValueError, LookupError (tenant), LedgerUnavailable.
    """
    subject = _subject(engine, tenant_id, user)
    found: list[Exported] = []
    at: str | None = None
    while True:
        page = looking.listed(engine, tenant_id, subject=subject, limit=MOST, at=at)
        for one in page.items:
            with reading(engine) as connection:
                said = _texts(connection, tenant_id, one.id)
                made = _translations(connection, tenant_id, one.id)
            found.append(Exported(one, saying.history(engine, tenant_id, one.id), said, made))
        at = page.next
        if at is None:
            break
    with change(engine, actor, heard=False) as changing:
        changing.record(
            "subject.export", subject, tenant_id=tenant_id, after={"subject": subject, "conversations": len(found)}
        )
    return Export(tenant_id, subject, found)


class _Found(Struct, frozen=True):
    """What is of a subject, read before anything is locked: a scan under the write lock would hold up requests."""

    last_seen: dict[str, int]  # of each conversation
    histories: list[bytes]
    answers: list[tuple[str, str]]  # key id and name


def erase(engine: Engine, actor: Actor, tenant_id: str, user: str) -> Erased:
    """Erase what may be erased of a ``user``, and say what stays. Raises ValueError, LookupError, LedgerUnavailable."""
    subject = _subject(engine, tenant_id, user)
    found = _find(engine, tenant_id, subject)
    with change(engine, actor, heard=False) as changing:
        connection, now_ms = changing.connection, changing.now_ms
        tenant = connection.execute(
            # a hold that is being set is waited for, and one that comes later comes after the erasure
            select(tenants.c.legal_hold, tenants.c.log_days).where(tenants.c.id == tenant_id).with_for_update(read=True)
        ).one()
        erasure_id = new_id("era", now_ms)
        if tenant.legal_hold:
            result = _held(erasure_id, tenant_id, len(found.last_seen))
        else:
            result = _erase(connection, erasure_id, tenant_id, found, tenant.log_days * _DAY_MS, now_ms)
        changing.record(
            "subject.erase",
            erasure_id,
            tenant_id=tenant_id,
            after={
                "subject": subject,
                "conversations": len(found.last_seen),
                "erased": result.erased,
                "kept": [f"{kept.what}: {kept.why}" for kept in result.kept],
            },
        )
    return result


def _find(engine: Engine, tenant_id: str, subject: str) -> _Found:
    of_it = (conversations.c.tenant_id == tenant_id, conversations.c.subject == subject)
    seen = select(conversations.c.id, conversations.c.last_seen_ms).where(*of_it).order_by(conversations.c.id)
    ids = select(conversations.c.id).where(*of_it)
    # an HMAC over what was said: no text, but with the tenant's secret a text could be tried against it
    histories = select(threads.c.hash).where(threads.c.tenant_id == tenant_id, threads.c.conversation_id.in_(ids))
    answers = (
        select(idempotency.c.key_id, idempotency.c.name)
        .join(requests, requests.c.id == idempotency.c.request_id)
        .where(requests.c.tenant_id == tenant_id, requests.c.conversation_id.in_(ids))
        .where(idempotency.c.http_status.is_not(None))
    )
    with reading(engine) as connection:
        return _Found(
            {row.id: row.last_seen_ms for row in connection.execute(seen)},
            list(connection.execute(histories).scalars()),
            [(row.key_id, row.name) for row in connection.execute(answers)],
        )


def _held(erasure_id: str, tenant_id: str, count: int) -> Erased:
    why = "a legal hold is on this tenant; erasure can be asked for again when it is lifted"
    return Erased(erasure_id, tenant_id, count, {}, (Kept("everything", count, None, why),) if count else ())


def _erase(connection: Connection, erasure_id: str, tenant_id: str, found: _Found, log_ms: int, now_ms: int) -> Erased:
    erased = {"texts": 0, "translations": 0, "notes": 0, "histories": 0, "answers": 0, "links": 0}
    for name, last_seen_ms in found.last_seen.items():
        for what, statement in _statements(tenant_id, name).items():
            erased[what] += connection.execute(statement).rowcount
        if last_seen_ms + log_ms <= now_ms:
            its_row = (conversations.c.tenant_id == tenant_id, conversations.c.id == name)
            erased["links"] += connection.execute(update(conversations).where(*its_row).values(subject=None)).rowcount
    for known in found.histories:
        its = (threads.c.tenant_id == tenant_id, threads.c.hash == known)
        erased["histories"] += connection.execute(delete(threads).where(*its)).rowcount
    for key_id, name in found.answers:
        its = (idempotency.c.key_id == key_id, idempotency.c.name == name)
        erased["answers"] += connection.execute(delete(idempotency).where(*its)).rowcount
    kept = []
    linked = [last_seen_ms + log_ms for last_seen_ms in found.last_seen.values() if last_seen_ms + log_ms > now_ms]
    if linked:
        why = "logs of processing are kept for at least a year (DPDP Rules 2025, rule 6), without text"
        kept.append(Kept("the link between the pseudonym and its requests", len(linked), max(linked), why))
    if found.last_seen:
        why = "the sums of money and time of a conversation are accounts; they hold no text and no name"
        kept.append(Kept("costs and times of its conversations", len(found.last_seen), None, why))
    return Erased(erasure_id, tenant_id, len(found.last_seen), erased, tuple(kept))


def _statements(tenant_id: str, conversation_id: str) -> dict[str, Delete | Update]:
    """What goes of one conversation."""
    text = (texts.c.tenant_id == tenant_id, texts.c.conversation_id == conversation_id)
    note = (outcomes.c.tenant_id == tenant_id, outcomes.c.conversation_id == conversation_id)
    made = (translations.c.tenant_id == tenant_id, translations.c.conversation_id == conversation_id)
    return {
        "texts": delete(texts).where(*text),
        "translations": delete(translations).where(*made),
        "notes": update(outcomes).where(*note, outcomes.c.note.is_not(None)).values(note=None),
    }


def _subject(engine: Engine, tenant_id: str, user: str) -> str:
    if not user or len(user) > LONGEST_USER:
        raise ValueError(f"the user is 1 to {LONGEST_USER} characters; give what the caller sends as 'user'")
    with reading(engine) as connection:
        secret = connection.execute(select(tenants.c.secret).where(tenants.c.id == tenant_id)).scalar()
    if secret is None:
        raise LookupError(f"there is no tenant {tenant_id[:80]!r}; `appliance tenants list` shows the tenants")
    return subject_of(bytes.fromhex(secret), user)


def _texts(connection: Connection, tenant_id: str, conversation_id: str) -> list[StoredText]:
    query = (
        select(texts.c.request_id, texts.c.at_ms, texts.c.prompt, texts.c.answer)
        .where(texts.c.tenant_id == tenant_id, texts.c.conversation_id == conversation_id)
        .order_by(texts.c.request_id)
    )
    return [StoredText(**row._mapping) for row in connection.execute(query)]


def _translations(connection: Connection, tenant_id: str, conversation_id: str) -> list[RememberedTranslation]:
    c = translations.c
    query = select(*(c[field] for field in RememberedTranslation.__struct_fields__))
    query = query.where(c.tenant_id == tenant_id, c.conversation_id == conversation_id).order_by(c.id)
    return [RememberedTranslation(**row._mapping) for row in connection.execute(query)]
