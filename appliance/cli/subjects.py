"""``appliance subjects export | erase``: the rights of a person under the DPDP Act 2023."""

from __future__ import annotations

import click

from appliance.cli.ledger import as_json, date, opened, print_json, print_table


@click.group()
def subjects() -> None:
    """What is held of a person. USER is what the caller sends as `user`; the ledger holds only a pseudonym of it."""


@subjects.command()
@click.argument("user")
@click.option("--tenant", default="default", show_default=True)
def export(user: str, tenant: str) -> None:
    """Everything about USER as JSON: conversations, outcomes, stored text."""
    from appliance.ledger.stores import subjects as store

    with opened() as ledger:
        found = store.export(ledger.engine, ledger.actor, tenant, user)
    print_json(found)


@subjects.command()
@click.argument("user")
@click.option("--tenant", default="default", show_default=True)
@as_json
def erase(user: str, tenant: str, as_json: bool) -> None:
    """Erase what may be erased of USER, and say what stays, until when and why."""
    from appliance.ledger.stores import subjects as store

    with opened() as ledger:
        done = store.erase(ledger.engine, ledger.actor, tenant, user)
    if as_json:
        print_json(done)
        return
    erased = ", ".join(f"{count} {what}" for what, count in done.erased.items() if count) or "nothing"
    click.echo(f"{done.id}: {done.conversations} conversations; erased {erased}")
    if done.kept:
        print_table(
            ["STAYS", "ROWS", "UNTIL", "WHY"],
            [(k.what, k.rows, date(k.until_ms), k.why) for k in done.kept],
        )
