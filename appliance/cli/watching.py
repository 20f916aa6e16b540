"""``appliance audit``, ``budgets`` and ``jobs``: to look at."""

from __future__ import annotations

import json

import click

from appliance.cli.ledger import date, money, opened, paged, print_page


@click.command()
@click.option("--tenant", help="Only what is about this tenant.")
@click.option("--actor", help="A key's id, or cli: and a user of this machine.")
@click.option("--action", help="Such as key.create.")
@click.option("--target", help="The id it was done to.")
@paged
def audit(
    tenant: str | None,
    actor: str | None,
    action: str | None,
    target: str | None,
    limit: int,
    at: str | None,
    as_json: bool,
) -> None:
    """Who changed what, newest first. Lines are only ever added."""
    from appliance.ledger.stores import watching

    with opened() as ledger:
        found = watching.audited(ledger.engine, tenant, actor=actor, action=action, target=target, limit=limit, at=at)
    print_page(
        found,
        ["AT", "ACTOR", "ACTION", "TENANT", "TARGET", "BEFORE", "AFTER"],
        lambda a: (date(a.at_ms), a.actor, a.action, a.tenant_id, a.target, _short(a.before), _short(a.after)),
        as_json,
    )


@click.command()
@click.option("--tenant", help="Only this tenant and its keys.")
@click.option("--month", help="Such as 2026-11.")
@click.option("--scope", help="tenant or key.")
@paged
def budgets(
    tenant: str | None, month: str | None, scope: str | None, limit: int, at: str | None, as_json: bool
) -> None:
    """What months have spent, and hold back for requests that run."""
    from appliance.ledger.months import parse_month
    from appliance.ledger.stores import watching

    with opened() as ledger:
        number = None if month is None else parse_month(month)
        found = watching.spent(ledger.engine, tenant, month=number, scope=scope, limit=limit, at=at)
    print_page(
        found,
        ["MONTH", "SCOPE", "ID", "TENANT", "SPENT USD", "HELD USD", "CAP USD"],
        lambda b: (
            b.month,
            b.scope,
            b.scope_id,
            b.tenant_id,
            money(b.spent_nusd),
            money(b.reserved_nusd),
            money(b.cap_nusd),
        ),
        as_json,
    )


@click.command()
@paged
def jobs(limit: int, at: str | None, as_json: bool) -> None:
    """What runs by itself, and when it last did."""
    from appliance.ledger.stores import watching

    with opened() as ledger:
        found = watching.jobs_page(ledger.engine, limit=limit, at=at)
    print_page(
        found,
        ["JOB", "LAST RAN", "WHAT CAME OF IT"],
        lambda j: (j.name, date(j.ran_ms), j.detail),
        as_json,
    )


def _short(fields: dict[str, object] | None) -> str:
    return "-" if fields is None else json.dumps(fields, ensure_ascii=False)
