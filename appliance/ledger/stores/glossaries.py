"""Glossaries: a tenant's words and what becomes of them in a translation (``translation/glossary.py``).

What it is: list, put, delete, load; a glossary is there while it has terms. Terms of one form and the same languages
are one entry, and putting it again replaces it.
What it refuses to be: shared. Every function is of one tenant; what is another's cannot be named here.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, get_args

from msgspec import Struct
from sqlalchemy import Connection, Engine, RowMapping, bindparam, delete, func, insert, select

from appliance.languages import UnknownLanguage, parse
from appliance.ledger.core import reading
from appliance.ledger.schema import glossary_terms, tenants
from appliance.ledger.stores import values
from appliance.ledger.stores.changes import Actor, change
from appliance.ledger.stores.pages import Page, paged
from appliance.translation.glossary import ANY, LONGEST, Case, Matcher, Term, form_of

MOST_TERMS = 10_000  # of a tenant, all its glossaries together
_LONGEST_NOTE = 200
_SHOWN_IN_AUDIT = 20
_c = glossary_terms.c


class GlossaryInfo(Struct, frozen=True):
    """A glossary and how much is in it."""

    tenant_id: str
    glossary: str
    terms: int
    changed_ms: int


class TermInfo(Struct, frozen=True):
    """An entry. ``translation`` None: the term stays as the customer wrote it."""

    tenant_id: str
    glossary: str
    term: str
    translation: str | None
    source: str
    target: str
    case: str
    note: str
    at_ms: int


class NewTerm(Struct, frozen=True, forbid_unknown_fields=True):
    """An entry to be put; languages in any dialect of codes, ``*`` for every one."""

    term: str
    translation: str | None = None
    source: str = ANY
    target: str = ANY
    case: Case = "smart"
    note: str = ""


class TermKey(Struct, frozen=True, forbid_unknown_fields=True):
    """Which entry."""

    term: str
    source: str = ANY
    target: str = ANY
    case: Case = "smart"


class Counted(Struct, frozen=True):
    """How many entries were put or deleted, and how many the glossary has now."""

    tenant_id: str
    glossary: str
    changed: int
    terms: int


def page(engine: Engine, tenant: str | None, *, at: str | None = None, limit: int = 50) -> Page[GlossaryInfo]:
    """Glossaries by tenant and name. Raises ValueError for a bad cursor or limit."""
    inner = select(_c.tenant_id, _c.glossary, func.count().label("terms"), func.max(_c.at_ms).label("changed_ms"))
    if tenant is not None:
        inner = inner.where(_c.tenant_id == tenant)
    sums = inner.group_by(_c.tenant_id, _c.glossary).subquery()
    columns = (sums.c.tenant_id, sums.c.glossary)
    return paged(engine, select(*sums.c), columns, lambda row: _made(GlossaryInfo, row), at=at, limit=limit)


def terms_page(
    engine: Engine, tenant_id: str, glossary: str, *, at: str | None = None, limit: int = 50
) -> Page[TermInfo]:
    """The entries of one, by form. Raises ValueError for a bad cursor or limit."""
    query = select(*(_c[field] for field in TermInfo.__struct_fields__))
    query = query.where(_c.tenant_id == tenant_id, _c.glossary == values.identifier(glossary, "a glossary's name"))
    columns = (_c.form, _c.source, _c.target)
    return paged(engine, query, columns, lambda row: _made(TermInfo, row), at=at, limit=limit)


def put(engine: Engine, actor: Actor, tenant_id: str, glossary: str, new: Sequence[NewTerm]) -> Counted:
    """All of ``new`` or, where one is wrong, none. Raises ValueError, LookupError, LedgerUnavailable."""
    glossary = values.identifier(glossary, "a glossary's name")
    if not new:
        raise ValueError("there is no term to put; give at least one")
    rows = _rows(new)
    with change(engine, actor) as changing:
        connection = changing.connection
        _locked(connection, tenant_id)
        mine = {"tenant_id": tenant_id, "glossary": glossary, "at_ms": changing.now_ms}
        known = select(_c.form, _c.source, _c.target).where(_c.tenant_id == tenant_id, _c.glossary == glossary)
        replaced = {tuple(row) for row in connection.execute(known)} & rows.keys()
        if replaced:
            which = [{"at_form": form, "at_source": source, "at_target": target} for form, source, target in replaced]
            connection.execute(_delete_many(tenant_id, glossary), which)
        there = connection.execute(select(func.count()).where(_c.tenant_id == tenant_id)).scalar_one()
        if there + len(rows) > MOST_TERMS:
            raise ValueError(
                f"the glossaries of this tenant would have {there + len(rows)} terms; delete some, {MOST_TERMS} is most"
            )
        connection.execute(insert(glossary_terms), [{**mine, **row} for row in rows.values()])
        changing.record("glossary.put", glossary, tenant_id=tenant_id, after=_told(list(rows.values())))
        return Counted(tenant_id, glossary, len(rows), _count(connection, tenant_id, glossary))


def remove(engine: Engine, actor: Actor, tenant_id: str, glossary: str, keys: Sequence[TermKey]) -> Counted:
    """Delete entries: all that are named or, where one is not there, none. Raises ValueError, LookupError."""
    glossary = values.identifier(glossary, "a glossary's name")
    with change(engine, actor) as changing:
        _locked(changing.connection, tenant_id)
        for key in keys:
            statement = _delete(tenant_id, glossary, _key(key.term, key.case, key.source, key.target))
            if not changing.connection.execute(statement).rowcount:
                raise LookupError(
                    f"there is no term {key.term[:80]!r} from {key.source} to {key.target} in {glossary!r};"
                    " its list shows source, target and case as they must be given"
                )
        told = [{"term": key.term, "source": key.source, "target": key.target} for key in keys]
        changing.record("glossary.remove", glossary, tenant_id=tenant_id, before=_told(told))
        return Counted(tenant_id, glossary, len(keys), _count(changing.connection, tenant_id, glossary))


def drop(engine: Engine, actor: Actor, tenant_id: str, glossary: str) -> Counted:
    """Delete a glossary with all its terms. Raises ValueError, LookupError."""
    glossary = values.identifier(glossary, "a glossary's name")
    with change(engine, actor) as changing:
        _locked(changing.connection, tenant_id)
        mine = (_c.tenant_id == tenant_id, _c.glossary == glossary)
        gone = changing.connection.execute(delete(glossary_terms).where(*mine)).rowcount
        if not gone:
            raise LookupError(f"there is no glossary {glossary!r}; `appliance glossaries list` shows what there is")
        changing.record("glossary.drop", glossary, tenant_id=tenant_id, before={"terms": gone})
        return Counted(tenant_id, glossary, gone, 0)


def load(engine: Engine, tenant_id: str, glossary: str | None = None) -> tuple[Term, ...]:
    """The entries as translations use them; none where there is no such glossary. Without a name those of all."""
    query = select(_c.term, _c.translation, _c.case, _c.source, _c.target).where(_c.tenant_id == tenant_id)
    if glossary is not None:
        query = query.where(_c.glossary == glossary)
    query = query.order_by(_c.glossary, _c.form, _c.source, _c.target)
    with reading(engine) as connection:
        return tuple(Term(*row) for row in connection.execute(query))


class Loaded:
    """Matchers in memory, of the newest glossaries: ``version`` is the ledger's, which every change raises."""

    def __init__(self, engine: Callable[[], Engine], most: int = 256) -> None:
        self._engine = engine
        self._most = most
        self._lock = threading.Lock()
        self._version = -1
        self._made: OrderedDict[tuple[str, str, str, str], Matcher | None] = OrderedDict()

    def matcher(self, tenant_id: str, glossary: str, source: str, target: str, version: int) -> Matcher | None:
        """For one direction; None where the tenant has no such glossary. Blocks for a read where it is not known."""
        key = (tenant_id, glossary, source, target)
        with self._lock:
            if version != self._version:
                self._made.clear()
                self._version = version
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        terms = load(self._engine(), tenant_id, glossary)
        made = Matcher(terms, source, target) if terms else None
        with self._lock:
            if version == self._version:
                self._made[key] = made
                while len(self._made) > self._most:
                    self._made.popitem(last=False)
        return made


def _rows(new: Sequence[NewTerm]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Columns by key; of two entries with one key the later holds. Raises ValueError that says which is wrong."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for number, one in enumerate(new, 1):
        try:
            key = _key(one.term, one.case, one.source, one.target)
            translation = None if one.translation is None else _words(one.translation, "the translation")
            note = values.free(one.note, "the note", _LONGEST_NOTE)
        except ValueError as e:
            raise ValueError(f"term {number}: {e.args[0]}") from None
        form, source, target = key
        found[key] = {
            "form": form, "source": source, "target": target, "term": _words(one.term, "the term"),
            "translation": translation, "case": one.case, "note": note,
        }  # fmt: skip
    return found


def _key(term: str, case: str, source: str, target: str) -> tuple[str, str, str]:
    words = _words(term, "the term")
    values.one_of(case, get_args(Case), "the case")
    form, exact = form_of(Term(words, case=case))  # type: ignore[arg-type]  # one of them, checked above
    return ("=" if exact else "~") + form, _language(source), _language(target)


def _language(code: str) -> str:
    if code.strip() == ANY:
        return ANY
    try:
        return parse(code)
    except UnknownLanguage as e:
        raise ValueError(e.message) from None


def _words(text: str, what: str) -> str:
    words = " ".join(values.free(text, what, LONGEST).split())
    # joiners cannot be printed, and Indic words need them
    if not words or not all(c.isprintable() or c in "\u200c\u200d" for c in words):
        raise ValueError(f"{what} is 1 to {LONGEST} printable characters; got {text[:80]!r}")
    if "{{" in words or "}}" in words:
        raise ValueError(f"{what} holds {{{{ or }}}}, which mark places in a text; leave them out")
    return words


def _locked(connection: Connection, tenant_id: str) -> None:
    """Changes of one tenant's glossaries pass one after the other. Raises LookupError."""
    # without the key, so that requests of the tenant, which refer to its row, do not wait
    query = select(tenants.c.id).where(tenants.c.id == tenant_id).with_for_update(key_share=True)
    if connection.execute(query).first() is None:
        raise LookupError(f"there is no tenant {tenant_id[:80]!r}; `appliance tenants list` shows the tenants")


def _delete(tenant_id: str, glossary: str, key: tuple[str, str, str]) -> Any:
    form, source, target = key
    return delete(glossary_terms).where(
        _c.tenant_id == tenant_id, _c.glossary == glossary, _c.form == form, _c.source == source, _c.target == target
    )


def _delete_many(tenant_id: str, glossary: str) -> Any:
    its = (_c.form == bindparam("at_form"), _c.source == bindparam("at_source"), _c.target == bindparam("at_target"))
    return delete(glossary_terms).where(_c.tenant_id == tenant_id, _c.glossary == glossary, *its)


def _count(connection: Connection, tenant_id: str, glossary: str) -> int:
    query = select(func.count()).where(_c.tenant_id == tenant_id, _c.glossary == glossary)
    return int(connection.execute(query).scalar_one())


def _told(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the audit keeps of many entries: all of a few, else their number."""
    if len(rows) > _SHOWN_IN_AUDIT:
        return {"terms": len(rows)}
    return {"terms": [{name: row[name] for name in row if name in TermInfo.__struct_fields__} for row in rows]}


def _made(kind: Any, row: RowMapping) -> Any:
    return kind(**{field: row[field] for field in kind.__struct_fields__})
