"""``appliance glossaries list | show | put | delete | import`` and ``memory list | import | clear``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from appliance.cli.ledger import as_json, date, opened, paged, print_fields, print_json, print_page
from appliance.cli.tables import read

_file = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
_tenant = click.option("--tenant", default="default", show_default=True)
_case = click.option("--case", default="smart", show_default=True, help="smart, any or exact: whether capitals count.")


def _languages(command: Any) -> Any:
    for name in ("target", "source"):
        command = click.option(f"--{name}", default="*", show_default=True, help="A language, or * for all.")(command)
    return command


@click.group()
def glossaries() -> None:
    """Words of a tenant that stay, or become one thing, in every translation."""


@glossaries.command("list")
@click.option("--tenant", help="Of one tenant only.")
@paged
def list_glossaries(tenant: str | None, limit: int, at: str | None, as_json: bool) -> None:
    """By tenant and name."""
    from appliance.ledger.stores import glossaries as store

    with opened() as ledger:
        found = store.page(ledger.engine, tenant, limit=limit, at=at)
    print_page(
        found,
        ["TENANT", "GLOSSARY", "TERMS", "CHANGED"],
        lambda g: (g.tenant_id, g.glossary, g.terms, date(g.changed_ms)),
        as_json,
    )


@glossaries.command()
@click.argument("glossary")
@_tenant
@paged
def show(glossary: str, tenant: str, limit: int, at: str | None, as_json: bool) -> None:
    """Its terms."""
    from appliance.ledger.stores import glossaries as store

    with opened() as ledger:
        found = store.terms_page(ledger.engine, tenant, glossary, limit=limit, at=at)
    print_page(
        found,
        ["TERM", "BECOMES", "FROM", "TO", "CASE", "NOTE"],
        lambda t: (t.term, "(stays)" if t.translation is None else t.translation, t.source, t.target, t.case, t.note),
        as_json,
    )


@glossaries.command()
@click.argument("glossary")
@click.argument("term")
@click.argument("translation", required=False)
@_languages
@_case
@click.option("--note", default="", help="For people.")
@_tenant
@as_json
def put(
    glossary: str,
    term: str,
    translation: str | None,
    source: str,
    target: str,
    case: str,
    note: str,
    tenant: str,
    as_json: bool,
) -> None:
    """TERM becomes TRANSLATION, or stays as it is where none is given. It replaces the same term's entry."""
    from appliance.ledger.stores import glossaries as store

    new = store.NewTerm(term, translation, source, target, case, note)  # type: ignore[arg-type]  # the store checks
    with opened() as ledger:
        done = store.put(ledger.engine, ledger.actor, tenant, glossary, [new])
        ledger.heard()
    (print_json if as_json else print_fields)(done)


@glossaries.command("import")
@click.argument("glossary")
@_file
@_tenant
@as_json
def import_terms(glossary: str, file: Path, tenant: str, as_json: bool) -> None:
    """Put every term of FILE (.csv, .tsv or .json), or none if one is wrong.

    Columns: term, and if wanted translation (empty: the term stays), source, target, case, note.
    """
    from appliance.ledger.stores import glossaries as store

    with opened() as ledger:
        done = store.put(ledger.engine, ledger.actor, tenant, glossary, read(file, store.NewTerm))
        ledger.heard()
    (print_json if as_json else print_fields)(done)


@glossaries.command()
@click.argument("glossary")
@click.argument("term", required=False)
@click.option("--all", "everything", is_flag=True, help="The whole glossary.")
@_languages
@_case
@_tenant
@as_json
def delete(
    glossary: str,
    term: str | None,
    everything: bool,
    source: str,
    target: str,
    case: str,
    tenant: str,
    as_json: bool,
) -> None:
    """Delete TERM, or with --all the glossary."""
    from appliance.ledger.stores import glossaries as store

    with opened() as ledger:
        if (term is None) != everything:
            raise ValueError("name a term, or give --all for the whole glossary")
        if term is None:
            done = store.drop(ledger.engine, ledger.actor, tenant, glossary)
        else:
            key = store.TermKey(term, source, target, case)  # type: ignore[arg-type]  # the store checks
            done = store.remove(ledger.engine, ledger.actor, tenant, glossary, [key])
        ledger.heard()
    (print_json if as_json else print_fields)(done)


@click.group()
def memory() -> None:
    """Translations that are kept for the next time, where a tenant wants that (`tenants set --translation-memory`)."""


@memory.command("list")
@click.option("--source", help="From a language.")
@click.option("--target", help="To a language.")
@click.option("--containing", help="Part of a text or translation.")
@_tenant
@paged
def list_entries(
    tenant: str,
    source: str | None,
    target: str | None,
    containing: str | None,
    limit: int,
    at: str | None,
    as_json: bool,
) -> None:
    """Oldest first."""
    from appliance.ledger.stores import memory as store

    with opened() as ledger:
        found = store.page(
            ledger.engine, tenant, source=source, target=target, containing=containing, limit=limit, at=at
        )
    print_page(
        found,
        ["ID", "FROM", "TO", "BY", "USED", "TEXT", "TRANSLATION"],
        lambda e: (e.id, e.source, e.target, e.origin, date(e.used_ms), e.text, e.translation),
        as_json,
    )


@memory.command("import")
@_file
@_tenant
@as_json
def import_entries(file: Path, tenant: str, as_json: bool) -> None:
    """Remember the translations of FILE (.csv, .tsv or .json), made by people; all, or none if one is wrong.

    Columns: source, target, text, translation, and if wanted variant.
    """
    from appliance.ledger.stores import memory as store

    with opened() as ledger:
        done = store.put(ledger.engine, ledger.actor, tenant, read(file, store.NewEntry))
    (print_json if as_json else print_fields)(done)


@memory.command()
@click.option("--source", help="Only from a language.")
@click.option("--target", help="Only to a language.")
@click.option("--id", "entry_id", help="Only one entry.")
@click.option("--all", "everything", is_flag=True, help="All of it.")
@_tenant
@as_json
def clear(
    source: str | None, target: str | None, entry_id: str | None, everything: bool, tenant: str, as_json: bool
) -> None:
    """Forget translations."""
    from appliance.ledger.stores import memory as store

    with opened() as ledger:
        if not (source or target or entry_id or everything):
            raise ValueError("say what is to be forgotten: --source, --target, --id, or --all for everything")
        done = store.clear(ledger.engine, ledger.actor, tenant, source=source, target=target, entry_id=entry_id)
    (print_json if as_json else print_fields)(done)
