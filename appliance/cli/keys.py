"""``appliance keys create | list | show | set | revoke``: on the ledger itself, whether a gateway runs or not."""

from __future__ import annotations

import json
from typing import Any

import click

from appliance.cli.ledger import Open, as_json, date, opened, print_fields, print_json, print_table

_NONE = "none"


@click.group()
def keys() -> None:
    """The keys that clients send as `Authorization: Bearer …`."""


def _limits(command: Any) -> Any:
    """The options that ``create`` and ``set`` share."""
    for option in reversed(
        [
            click.option("--model", "models", multiple=True, help="A model it may use (repeat; default: all)."),
            click.option("--endpoint", "endpoints", multiple=True, help="Such as chat.completions (repeat)."),
            click.option(
                "--residency", help="local_only, hosted_redacted or hosted_allowed, if stricter than its tenant's."
            ),
            click.option("--requests-per-minute", help="A number, or none."),
            click.option("--tokens-per-minute", help="A number, or none."),
            click.option("--max-concurrent", help="Requests running at once: a number, or none."),
            click.option("--cap", help="A month's money: 50, $50, ₹4000 or none."),
            click.option("--expires", help="A date such as 2026-12-31, or none."),
        ]
    ):
        command = option(command)
    return command


@keys.command()
@click.argument("name")
@click.option("--role", type=click.Choice(["admin", "operator", "client"]), default="client", show_default=True)
@click.option("--tenant", default="default", show_default=True)
@_limits
@as_json
def create(name: str, role: str, tenant: str, as_json: bool, **options: Any) -> None:
    """Make a key called NAME. Its secret is printed once and stored nowhere."""
    from appliance.ledger.stores import keys as store

    with opened() as ledger:
        made = store.create(ledger.engine, ledger.actor, name, role, tenant, **_fields(ledger, options))
        ledger.heard()
    if as_json:
        print_json({"id": made.key.id, "name": made.key.name, "role": made.key.role, "secret": made.secret})
        return
    click.echo(made.secret)
    click.echo(f"{made.key.id}: {made.key.role} key {made.key.name!r}; this is the only time it is shown", err=True)


@keys.command("list")
@click.option("--tenant", help="Only this tenant's.")
@as_json
def list_keys(tenant: str | None, as_json: bool) -> None:
    """All keys, without their secrets."""
    from appliance.ledger.stores import keys as store

    with opened() as ledger:
        found = store.listed(ledger.engine, tenant)
    if as_json:
        print_json(found)
        return
    print_table(
        ["ID", "NAME", "ROLE", "TENANT", "CREATED", "STATE"],
        [(k.id, k.name, k.role, k.tenant, date(k.created_ms), "revoked" if k.revoked_ms else "live") for k in found],
    )


@keys.command()
@click.argument("key_id", metavar="ID")
@as_json
def show(key_id: str, as_json: bool) -> None:
    """Everything about one key but its secret."""
    from appliance.ledger.stores import keys as store

    with opened() as ledger:
        found = store.get(ledger.engine, key_id)
    (print_json if as_json else print_fields)(found)


@keys.command("set")
@click.argument("key_id", metavar="ID")
@_limits
@as_json
def set_key(key_id: str, as_json: bool, **options: Any) -> None:
    """Change what the key with this ID may do; what is not named stays."""
    from appliance.ledger.stores import keys as store

    with opened() as ledger:
        found = store.configure(ledger.engine, ledger.actor, key_id, **_fields(ledger, options))
        ledger.heard()
    (print_json if as_json else print_fields)(found)


@keys.command()
@click.argument("key_id", metavar="ID")
@as_json
def revoke(key_id: str, as_json: bool) -> None:
    """End the key with this ID for good; a running gateway refuses it within a second."""
    from appliance.ledger.stores import keys as store

    with opened() as ledger:
        store.revoke(ledger.engine, ledger.actor, key_id)
        ledger.heard()
    click.echo(json.dumps({"id": key_id, "revoked": True}) if as_json else f"revoked {key_id}")


def _fields(ledger: Open, options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, as the store wants them. Raises ValueError."""
    from appliance.ledger.stores import prices, values

    fields: dict[str, Any] = {}
    for name in ("models", "endpoints"):
        if options[name]:
            fields[name] = [] if options[name] == (_NONE,) else options[name]
    if options["residency"] is not None:
        fields["residency"] = None if options["residency"] == _NONE else options["residency"]
    for name in ("requests_per_minute", "tokens_per_minute", "max_concurrent"):
        if (text := options[name]) is not None:
            fields[name] = None if text == _NONE else _number(text, name)
    if options["cap"] is not None:
        fields["cap_nusd"] = values.cap(options["cap"], prices.inr_per_usd(ledger.engine))
    if (text := options["expires"]) is not None:
        fields["expires_ms"] = None if text == _NONE else ledger.moment(text)
    return fields


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{name.replace('_', ' ')} is {text[:40]!r}; give a number, or none")
    return int(text)
