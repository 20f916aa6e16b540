"""Admin routes of glossaries and translation memory: their bodies, handlers and rows of the table.

What it refuses to be: a place for rules, as ``routes``: what a term may be and who opted in is the stores' to say.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from appliance.api.admin.route import AdminRoute, Asked, Handler, Listing, Name, OfTenant, OneOf, listed

_Text = Annotated[str, Meta(min_length=1, max_length=200)]
_Code = Annotated[str, Meta(min_length=1, max_length=64, description="a language in any code or name, or * for all")]
_Language = Annotated[str, Meta(min_length=1, max_length=64, description="a language in any code or name")]
_Case = Annotated[
    Literal["smart", "any", "exact"],
    Meta(description="exact minds capitals, any does not, smart minds them in terms without small letters"),
]


class TermBody(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """One term."""

    term: Annotated[_Text, Meta(description="the words in the source language, 1 to 200 characters")]
    translation: Annotated[_Text | None, Meta(description="what they become; left out or null: they stay")] = None
    source: _Code = "*"
    target: _Code = "*"
    case: _Case = "smart"
    note: Annotated[Annotated[str, Meta(max_length=200)], Meta(description="for people")] = ""


class TermsBody(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Terms to be put."""

    terms: Annotated[list[TermBody], Meta(min_length=1, max_length=500, description="1 to 500 terms")]


class TermNamed(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Which term, as its list shows it."""

    term: Annotated[_Text, Meta(description="the words")]
    source: _Code = "*"
    target: _Code = "*"
    case: _Case = "smart"


class TermsNamed(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Terms to be deleted."""

    terms: Annotated[list[TermNamed], Meta(min_length=1, max_length=500, description="1 to 500 terms")]


class TermListing(Listing, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A list of one tenant."""

    tenant: OfTenant = None


class MemoryListing(TermListing, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """What is remembered, oldest first."""

    source: _Language | None = None
    target: _Language | None = None
    containing: Annotated[
        Annotated[str, Meta(min_length=1, max_length=200)] | None, Meta(description="part of a text or translation")
    ] = None


class EntryBody(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A text with its translation."""

    source: _Language
    target: _Language
    text: Annotated[str, Meta(min_length=1, max_length=2000, description="1 to 2000 characters")]
    translation: Annotated[str, Meta(min_length=1, max_length=4000, description="1 to 4000 characters")]
    variant: Annotated[
        Annotated[str, Meta(max_length=64)], Meta(description="what else decides it, as its list shows")
    ] = ""


class EntriesBody(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Translations to be remembered."""

    entries: Annotated[list[EntryBody], Meta(min_length=1, max_length=500, description="1 to 500 entries")]


class ClearBody(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """What is to be forgotten: everything, or what is of a language, or one entry."""

    source: _Language | None = None
    target: _Language | None = None
    id: Annotated[Name | None, Meta(description="an entry's id, as the list shows it")] = None


def glossaries_listed(asked: Asked, query: TermListing, _: None) -> Any:
    """By tenant and name."""
    from appliance.ledger.stores import glossaries

    return listed(glossaries.page(asked.engine, asked.tenants(query.tenant), at=query.cursor, limit=query.limit))


def terms_listed(asked: Asked, query: TermListing, _: None) -> Any:
    """By form."""
    from appliance.ledger.stores import glossaries

    tenant, name = asked.tenant(query.tenant), asked.path["glossary"]
    return listed(glossaries.terms_page(asked.engine, tenant, name, at=query.cursor, limit=query.limit))


def terms_put(asked: Asked, query: OneOf, body: TermsBody) -> Any:
    """All or none."""
    from appliance.ledger.stores import glossaries

    new = [glossaries.NewTerm(t.term, t.translation, t.source, t.target, t.case, t.note) for t in body.terms]
    return glossaries.put(asked.engine, asked.actor, asked.tenant(query.tenant), asked.path["glossary"], new)


def terms_deleted(asked: Asked, query: OneOf, body: TermsNamed) -> Any:
    """All or none."""
    from appliance.ledger.stores import glossaries

    keys = [glossaries.TermKey(t.term, t.source, t.target, t.case) for t in body.terms]
    return glossaries.remove(asked.engine, asked.actor, asked.tenant(query.tenant), asked.path["glossary"], keys)


def glossary_deleted(asked: Asked, query: OneOf, _: None) -> Any:
    """With all its terms."""
    from appliance.ledger.stores import glossaries

    return glossaries.drop(asked.engine, asked.actor, asked.tenant(query.tenant), asked.path["glossary"])


def memory_listed(asked: Asked, query: MemoryListing, _: None) -> Any:
    """Oldest first."""
    from appliance.ledger.stores import memory

    found = memory.page(
        asked.engine,
        asked.tenant(query.tenant),
        source=query.source,
        target=query.target,
        containing=query.containing,
        at=query.cursor,
        limit=query.limit,
    )
    return listed(found)


def memory_put(asked: Asked, query: OneOf, body: EntriesBody) -> Any:
    """All or none."""
    from appliance.ledger.stores import memory

    new = [memory.NewEntry(e.source, e.target, e.text, e.translation, e.variant) for e in body.entries]
    return memory.put(asked.engine, asked.actor, asked.tenant(query.tenant), new)


def memory_cleared(asked: Asked, query: OneOf, body: ClearBody) -> Any:
    """Everything, or part of it."""
    from appliance.ledger.stores import memory

    return memory.clear(
        asked.engine,
        asked.actor,
        asked.tenant(query.tenant),
        source=body.source,
        target=body.target,
        entry_id=body.id,
    )


def _get(path: str, handler: Handler, answer: str, summary: str, query: type[Struct]) -> AdminRoute:
    return AdminRoute("GET", f"/v1/admin{path}", "operator", handler, answer, summary, query)


def _post(path: str, handler: Handler, answer: str, summary: str, body: type[Struct] | None = None) -> AdminRoute:
    return AdminRoute("POST", f"/v1/admin{path}", "operator", handler, answer, summary, OneOf, body)


_TERMS = "/glossaries/{glossary}/terms"
_MEMORY = "/translation-memory"
ROUTES: tuple[AdminRoute, ...] = (
    _get("/glossaries", glossaries_listed, "[]stores.glossaries.GlossaryInfo", "Glossaries", TermListing),
    _get(_TERMS, terms_listed, "[]stores.glossaries.TermInfo", "Terms of a glossary", TermListing),
    _post(_TERMS, terms_put, "stores.glossaries.Counted", "Put terms, all or none", TermsBody),
    _post(f"{_TERMS}/delete", terms_deleted, "stores.glossaries.Counted", "Delete terms, all or none", TermsNamed),
    _post(
        "/glossaries/{glossary}/delete",
        glossary_deleted,
        "stores.glossaries.Counted",
        "Delete a glossary with its terms",
    ),
    _get(_MEMORY, memory_listed, "[]stores.memory.EntryInfo", "Remembered translations, oldest first", MemoryListing),
    _post(_MEMORY, memory_put, "stores.memory.Remembered", "Remember translations by people, all or none", EntriesBody),
    _post(f"{_MEMORY}/clear", memory_cleared, "stores.memory.Cleared", "Forget translations", ClearBody),
)
