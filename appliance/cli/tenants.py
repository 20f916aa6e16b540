"""``appliance tenants create | list | show | set | disable | enable``."""

from __future__ import annotations

from typing import Any

import click

from appliance.cli.ledger import Open, as_json, date, money, opened, paged, print_fields, print_json, print_page

_NONE = "none"
_LISTS = ("regions", "languages")
_PLAIN = (
    "name", "residency", "store_text", "translation_memory", "text_days", "log_days", "legal_hold", "presume_after_h",
)  # fmt: skip


@click.group()
def tenants() -> None:
    """Whose traffic it is, where it may go, what it may cost, how long its text stays."""


def _fields(command: Any) -> Any:
    """The options that ``create`` and ``set`` share."""
    for option in reversed(
        [
            click.option("--name", help="What reports call it."),
            click.option("--residency", help="local_only, hosted_redacted or hosted_allowed."),
            click.option("--region", "regions", multiple=True, help="Where hosted models may run (repeat), or none."),
            click.option("--language", "languages", multiple=True, help="Such as hi (repeat), or none for all."),
            click.option("--cap", help="A month's money: 50, $50, ₹4000 or none."),
            click.option("--store-text/--no-store-text", default=None, help="Keep prompts and answers."),
            click.option(
                "--translation-memory/--no-translation-memory",
                default=None,
                help="Keep translations for the next time, where text is kept.",
            ),
            click.option("--text-days", type=int, help="How long they are kept."),
            click.option("--log-days", type=int, help="How long requests keep their details; 365 at least."),
            click.option("--legal-hold/--no-legal-hold", default=None, help="While it is on nothing is deleted."),
            click.option("--presume-after-h", type=int, help="Hours of silence that count as presumed resolved."),
        ]
    ):
        command = option(command)
    return command


@tenants.command()
@click.argument("tenant_id", metavar="ID")
@_fields
@as_json
def create(tenant_id: str, as_json: bool, **options: Any) -> None:
    """Make a tenant called ID."""
    from appliance.ledger.stores import tenants as store

    with opened() as ledger:
        made = store.create(ledger.engine, ledger.actor, tenant_id, **_given(ledger, options))
        ledger.heard()
    (print_json if as_json else print_fields)(made)


@tenants.command("list")
@paged
def list_tenants(limit: int, at: str | None, as_json: bool) -> None:
    """All tenants."""
    from appliance.ledger.stores import tenants as store

    with opened() as ledger:
        found = store.page(ledger.engine, limit=limit, at=at)
    print_page(
        found,
        ["ID", "NAME", "RESIDENCY", "CAP USD", "TEXT", "HOLD", "CREATED", "STATE"],
        lambda t: (
            t.id,
            t.name,
            t.residency,
            money(t.cap_nusd),
            f"{t.text_days} days" if t.store_text else "not kept",
            t.legal_hold,
            date(t.created_ms),
            "disabled" if t.disabled_ms else "live",
        ),
        as_json,
    )


@tenants.command()
@click.argument("tenant_id", metavar="ID")
@as_json
def show(tenant_id: str, as_json: bool) -> None:
    """One tenant."""
    from appliance.ledger.stores import tenants as store

    with opened() as ledger:
        found = store.get(ledger.engine, tenant_id)
    (print_json if as_json else print_fields)(found)


@tenants.command("set")
@click.argument("tenant_id", metavar="ID")
@_fields
@as_json
def set_tenant(tenant_id: str, as_json: bool, **options: Any) -> None:
    """Change the tenant ID; what is not named stays."""
    from appliance.ledger.stores import tenants as store

    with opened() as ledger:
        fields = _given(ledger, options)
        if not fields:
            raise ValueError("nothing is to be changed; `appliance tenants set --help` lists what can be")
        found = store.configure(ledger.engine, ledger.actor, tenant_id, **fields)
        ledger.heard()
    (print_json if as_json else print_fields)(found)


@tenants.command()
@click.argument("tenant_id", metavar="ID")
@as_json
def disable(tenant_id: str, as_json: bool) -> None:
    """End its traffic: its keys stop within a second. Nothing is deleted."""
    _disable(tenant_id, True, as_json)


@tenants.command()
@click.argument("tenant_id", metavar="ID")
@as_json
def enable(tenant_id: str, as_json: bool) -> None:
    """Let it in again."""
    _disable(tenant_id, False, as_json)


def _disable(tenant_id: str, disabled: bool, as_json: bool) -> None:
    from appliance.ledger.stores import tenants as store

    with opened() as ledger:
        found = store.disable(ledger.engine, ledger.actor, tenant_id, disabled)
        ledger.heard()
    if as_json:
        print_json(found)
    else:
        click.echo(f"{'disabled' if disabled else 'enabled'} {found.id}")


def _given(ledger: Open, options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, as the store wants them. Raises ValueError."""
    from appliance.ledger.stores import prices, values

    fields = {name: options[name] for name in _PLAIN if options[name] is not None}
    for name in _LISTS:
        if options[name]:
            fields[name] = [] if options[name] == (_NONE,) else options[name]
    if options["cap"] is not None:
        fields["cap_nusd"] = values.cap(options["cap"], prices.inr_per_usd(ledger.engine))
    return fields
