"""Translation memory: what was translated once for a tenant, where it opted into that and into keeping text.

What it is: ``look_up`` and ``keep`` for whoever translates, ``page``, ``put`` and ``clear`` for operators. A text as it
was said hits exactly; one that reads alike (``translation/memory.py``) hits as such, a person's translation first.
What it refuses to be: another place for text. Without both opt-ins nothing is read or written, what is there goes with
the tenant's ``text_days`` and with the erasure of the person who said it, and a legal hold keeps it.
What it costs: one query for any number of texts up to 200; the oldest in use make way at 50,000 a tenant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import Connection, Engine, RowMapping, delete, func, insert, or_, select, update

from appliance.languages import UnknownLanguage, parse
from appliance.ledger.core import reading, transaction
from appliance.ledger.ids import new_id
from appliance.ledger.schema import tenants, translations
from appliance.ledger.stores import values
from appliance.ledger.stores.changes import Actor, change
from appliance.ledger.stores.pages import Page, paged
from appliance.translation.memory import LONGEST, Keys, fitted, keys

MOST_ENTRIES = 50_000  # of a tenant
MOST_TEXTS = 200  # at once
_LONGEST_TRANSLATION = 2 * LONGEST
_DAY_MS = 86_400_000
_BATCH = 200
_c = translations.c


class Hit(Struct, frozen=True):
    """A remembered translation; ``exact`` where the text was the same to the last character."""

    translation: str
    exact: bool
    origin: str


class NewEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """A text with its translation; languages in any dialect of codes."""

    source: str
    target: str
    text: str
    translation: str
    variant: str = ""


class EntryInfo(Struct, frozen=True):
    """What is remembered. ``used_ms`` is right to a day."""

    id: str
    tenant_id: str
    source: str
    target: str
    variant: str
    text: str
    translation: str
    origin: str
    conversation_id: str | None
    at_ms: int
    used_ms: int


class Cleared(Struct, frozen=True):
    """How many entries went, and how many stay."""

    tenant_id: str
    cleared: int
    entries: int


class Remembered(Struct, frozen=True):
    """How many entries were put, and how many there are."""

    tenant_id: str
    put: int
    entries: int


def look_up(
    engine: Engine, tenant_id: str, source: str, target: str, texts: Sequence[str], now_ms: int, variant: str = ""
) -> list[Hit | None]:
    """What is remembered of each of ``texts`` (200 at most). Raises ValueError, LedgerUnavailable."""
    if len(texts) > MOST_TEXTS:
        raise ValueError(f"{len(texts)} texts are looked up at once; {MOST_TEXTS} is most")
    wanted = [keys(text, source, target, variant) for text in texts]
    # what a person gave without saying for which variant holds for each that has nothing of its own
    plain = [keys(text, source, target) for text in texts] if variant else []
    rows: Sequence[RowMapping] = []
    with reading(engine) as connection:
        if wanted and _opted_in(connection, tenant_id):
            query = select(_c.hash, _c.alike, _c.translation, _c.origin, _c.at_ms, _c.used_ms)
            query = query.where(_c.tenant_id == tenant_id, _c.alike.in_({key.alike for key in (*wanted, *plain)}))
            rows = connection.execute(query).mappings().all()
    if plain:
        general = {key.alike for key in plain}
        rows = [row for row in rows if row["origin"] == "person" or bytes(row["alike"]) not in general]
    exact = {bytes(row["hash"]): row for row in rows}
    alike: dict[bytes, RowMapping] = {}
    for row in sorted(rows, key=lambda r: (r["origin"] == "person", r["at_ms"])):
        alike[bytes(row["alike"])] = row
    found = [exact.get(key.exact) or alike.get(key.alike) for key in wanted]
    for n, key in enumerate(plain):
        its = found[n]
        if its is None or its["origin"] != "person":
            found[n] = exact.get(key.exact) or alike.get(key.alike) or found[n]
    _used(engine, tenant_id, (row for row in found if row is not None), now_ms)
    return [
        None
        if row is None
        else Hit(fitted(row["translation"], text), bytes(row["hash"]) in (key.exact, other.exact), row["origin"])
        for row, key, other, text in zip(found, wanted, plain or wanted, texts, strict=True)
    ]


def keep(
    engine: Engine,
    tenant_id: str,
    source: str,
    target: str,
    pairs: Iterable[tuple[str, str]],
    now_ms: int,
    *,
    variant: str = "",
    conversation_id: str | None = None,
) -> int:
    """Remember what a model made of texts; what is remembered already stays. Returns how many are new.

    Empty and long texts, and those of tenants that did not opt in, are left out without a word.
    """
    rows = {}
    for text, translation in pairs:
        bare, made = text.strip(), translation.strip()
        if bare and made and len(bare) <= LONGEST and len(made) <= _LONGEST_TRANSLATION and "\0" not in bare + made:
            row = _row(keys(bare, source, target, variant), source, target, variant, bare, made, "model", now_ms)
            rows[row["hash"]] = {**row, "tenant_id": tenant_id, "conversation_id": conversation_id}
    if not rows:
        return 0
    with reading(engine) as connection:  # so that a tenant that did not opt in never waits for the write lock
        if not _opted_in(connection, tenant_id):
            return 0
    with transaction(engine) as connection:
        if not _opted_in(connection, tenant_id, lock=True):
            return 0
        there = set(_there(connection, tenant_id, rows))
        new = [row for name, row in rows.items() if name not in there]
        new = new[: _room(connection, tenant_id, len(new))]
        if new:
            connection.execute(insert(translations), new)
        return len(new)


def put(engine: Engine, actor: Actor, tenant_id: str, new: Sequence[NewEntry]) -> Remembered:
    """Remember what people translated; it replaces what was there. All or none. Raises ValueError, LookupError."""
    if not new:
        raise ValueError("there is nothing to put; give at least one text with its translation")
    with change(engine, actor, heard=False) as changing:
        connection = changing.connection
        if not _opted_in(connection, tenant_id, lock=True):
            raise ValueError(
                f"tenant {tenant_id!r} keeps no translations; `appliance tenants set {tenant_id} --store-text"
                " --translation-memory` opts in"
            )
        rows = {}
        for number, one in enumerate(new, 1):
            row = _checked(one, number, changing.now_ms)
            rows[row["hash"]] = {**row, "tenant_id": tenant_id, "conversation_id": None}
        there = list(_there(connection, tenant_id, rows))
        for name in there:
            connection.execute(delete(translations).where(_c.tenant_id == tenant_id, _c.hash == name))
        if _room(connection, tenant_id, len(rows)) < len(rows):
            raise ValueError(f"a memory holds {MOST_ENTRIES} entries at most; clear some, or put fewer")
        connection.execute(insert(translations), list(rows.values()))
        changing.record("memory.put", tenant_id, tenant_id=tenant_id, after={"entries": len(rows)})
        return Remembered(tenant_id, len(rows), _count(connection, tenant_id))


def clear(
    engine: Engine,
    actor: Actor,
    tenant_id: str,
    *,
    source: str | None = None,
    target: str | None = None,
    entry_id: str | None = None,
) -> Cleared:
    """Forget everything, or what is of a language, or one entry. Raises ValueError under a legal hold, LookupError."""
    where = [_c.tenant_id == tenant_id]
    where += [] if source is None else [_c.source == _language(source)]
    where += [] if target is None else [_c.target == _language(target)]
    where += [] if entry_id is None else [_c.id == entry_id]
    with change(engine, actor, heard=False) as changing:
        connection = changing.connection
        if _tenant(connection, tenant_id, lock=True).legal_hold:
            raise ValueError("a legal hold is on this tenant and keeps its text; clear the memory when it is lifted")
        gone = connection.execute(delete(translations).where(*where)).rowcount
        if entry_id is not None and not gone:
            raise LookupError(f"there is no entry {entry_id[:80]!r} in this memory; `appliance memory list` shows them")
        what = {"source": source, "target": target, "id": entry_id, "cleared": gone}
        changing.record("memory.clear", tenant_id, tenant_id=tenant_id, after=what)
        return Cleared(tenant_id, gone, _count(connection, tenant_id))


def page(
    engine: Engine,
    tenant_id: str,
    *,
    source: str | None = None,
    target: str | None = None,
    containing: str | None = None,
    at: str | None = None,
    limit: int = 50,
) -> Page[EntryInfo]:
    """What is remembered, oldest first. ``containing`` looks into texts and translations. Raises ValueError."""
    query = select(*(_c[field] for field in EntryInfo.__struct_fields__)).where(_c.tenant_id == tenant_id)
    if source is not None:
        query = query.where(_c.source == _language(source))
    if target is not None:
        query = query.where(_c.target == _language(target))
    if containing is not None:
        query = query.where(
            or_(_c.text.contains(containing, autoescape=True), _c.translation.contains(containing, autoescape=True))
        )
    return paged(engine, query, (_c.id,), _info, at=at, limit=limit)


def _info(row: RowMapping) -> EntryInfo:
    return EntryInfo(**{field: row[field] for field in EntryInfo.__struct_fields__})


def _checked(one: NewEntry, number: int, now_ms: int) -> dict[str, Any]:
    try:
        source, target = _language(one.source), _language(one.target)
        text = values.free(one.text, "the text", LONGEST).strip()
        translation = values.free(one.translation, "the translation", _LONGEST_TRANSLATION).strip()
        variant = values.free(one.variant, "the variant", 64)
    except ValueError as e:
        raise ValueError(f"entry {number}: {e.args[0]}") from None
    if not text or not translation:
        raise ValueError(f"entry {number}: text and translation are needed; leave out a line without one of them")
    made_of = keys(text, source, target, variant)
    return _row(made_of, source, target, variant, text, translation, "person", now_ms)


def _row(
    made_of: Keys,
    source: str,
    target: str,
    variant: str,
    text: str,
    translation: str,
    origin: Literal["model", "person"],
    now_ms: int,
) -> dict[str, Any]:
    return {
        "id": new_id("mem", now_ms),
        "hash": made_of.exact,
        "alike": made_of.alike,
        "source": source,
        "target": target,
        "variant": variant,
        "text": text,
        "translation": translation,
        "origin": origin,
        "at_ms": now_ms,
        "used_ms": now_ms,
    }


def _language(code: str) -> str:
    try:
        return parse(code)
    except UnknownLanguage as e:
        raise ValueError(e.message) from None


def _tenant(connection: Connection, tenant_id: str, lock: bool = False) -> Any:
    c = tenants.c
    query = select(c.store_text, c.translation_memory, c.legal_hold).where(c.id == tenant_id)
    # shared: requests pass, and an opt-out or a hold that is being set comes before or after
    row = connection.execute(query.with_for_update(read=True) if lock else query).first()
    if row is None:
        raise LookupError(f"there is no tenant {tenant_id[:80]!r}; `appliance tenants list` shows the tenants")
    return row


def _opted_in(connection: Connection, tenant_id: str, lock: bool = False) -> bool:
    row = _tenant(connection, tenant_id, lock)
    return bool(row.store_text and row.translation_memory)


def _there(connection: Connection, tenant_id: str, hashes: Iterable[bytes]) -> Iterator[bytes]:
    """Those of ``hashes`` that are remembered."""
    names = list(hashes)
    for start in range(0, len(names), _BATCH):
        some = _c.hash.in_(names[start : start + _BATCH])
        for found in connection.execute(select(_c.hash).where(_c.tenant_id == tenant_id, some)).scalars():
            yield bytes(found)


def _room(connection: Connection, tenant_id: str, wanted: int) -> int:
    """How many of ``wanted`` new entries there is room for, made where there was none by those unused for longest."""
    over = _count(connection, tenant_id) + wanted - MOST_ENTRIES
    if over > 0 and not _tenant(connection, tenant_id).legal_hold:
        # a twentieth more, so that a full memory does not sort itself for every text
        oldest = select(_c.hash).where(_c.tenant_id == tenant_id).order_by(_c.used_ms, _c.at_ms)
        oldest = oldest.limit(over + MOST_ENTRIES // 20)
        gone = delete(translations).where(_c.tenant_id == tenant_id, _c.hash.in_(oldest.scalar_subquery()))
        over -= connection.execute(gone).rowcount
    return wanted if over <= 0 else max(0, wanted - over)


def _count(connection: Connection, tenant_id: str) -> int:
    query = select(func.count()).select_from(translations).where(_c.tenant_id == tenant_id)
    return int(connection.execute(query).scalar_one())


def _used(engine: Engine, tenant_id: str, rows: Iterable[RowMapping], now_ms: int) -> None:
    """Once a day and entry, so that a hit is hardly ever a write."""
    stale = [bytes(row["hash"]) for row in rows if row["used_ms"] <= now_ms - _DAY_MS]
    if stale:
        with transaction(engine) as connection:
            mine = (_c.tenant_id == tenant_id, _c.hash.in_(stale))
            connection.execute(update(translations).where(*mine).values(used_ms=now_ms))
