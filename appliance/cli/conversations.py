"""``appliance conversations list | show``, ``requests list | explain``, ``outcome``."""

from __future__ import annotations

import time

import click

from appliance.cli.common import Failure
from appliance.cli.ledger import (
    as_json,
    date,
    money,
    opened,
    paged,
    print_fields,
    print_json,
    print_page,
    print_table,
)

_DEFAULT = "default"


@click.group()
def conversations() -> None:
    """What was talked about, how it ended and what it cost."""


@conversations.command("list")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--state", help="open, resolved, unresolved, handed_to_human or presumed_resolved.")
@click.option("--channel", help="whatsapp, voice, ivr, web or api.")
@click.option("--intent")
@click.option("--language", help="Such as hi or hin_Deva.")
@click.option("--since", help="Opened on this date or later.")
@click.option("--before", help="Opened before this date.")
@paged
def list_conversations(
    tenant: str | None,
    state: str | None,
    channel: str | None,
    intent: str | None,
    language: str | None,
    since: str | None,
    before: str | None,
    limit: int,
    at: str | None,
    as_json: bool,
) -> None:
    """Conversations, newest first."""
    from appliance.languages import parse
    from appliance.ledger.stores import conversations as store

    with opened() as ledger:
        found = store.listed(
            ledger.engine,
            tenant,
            state=state,
            channel=channel,
            intent=intent,
            language=None if language is None else parse(language),
            since_ms=ledger.moment(since),
            before_ms=ledger.moment(before),
            limit=limit,
            at=at,
        )
    print_page(
        found,
        ["ID", "TENANT", "OPENED", "STATE", "CHANNEL", "LANGUAGE", "INTENT", "REQUESTS", "ROUTE", "HOSTED USD"],
        lambda c: (
            c.id,
            c.tenant_id,
            date(c.opened_ms),
            c.state,
            c.channel,
            c.language,
            c.intent,
            c.requests,
            c.answered_by,
            money(c.hosted_nusd),
        ),
        as_json,
    )


@conversations.command()
@click.argument("conversation_id", metavar="ID")
@click.option("--tenant", default=_DEFAULT, show_default=True)
@as_json
def show(conversation_id: str, tenant: str, as_json: bool) -> None:
    """One conversation with its outcomes and requests."""
    from appliance.ledger.stores import conversations as store
    from appliance.ledger.stores import outcomes

    with opened() as ledger:
        found = store.get(ledger.engine, tenant, conversation_id)
        if found is None:
            raise LookupError(_unknown(conversation_id, tenant))
        said = outcomes.history(ledger.engine, tenant, conversation_id)
        its = store.requests_listed(ledger.engine, tenant, conversation_id=conversation_id, limit=1000)
    if as_json:
        print_json({"conversation": found, "outcomes": said, "requests": its.items})
        return
    print_fields(found)
    if said:
        click.echo()
        print_table(
            ["OUTCOME AT", "SOURCE", "RESOLVED", "TO A PERSON", "CSAT", "NOTE"],
            [(date(o.at_ms), o.source, o.resolved, o.handed_to_human, o.csat, o.note) for o in said],
        )
    click.echo()
    print_table(
        ["REQUEST", "AT", "STATUS", "ROUTE", "REASON", "MS"],
        [(r.id, date(r.at_ms), r.status, r.route, r.reason, _ms(r.total_ms)) for r in its.items],
    )


@click.group()
def requests() -> None:
    """What was asked, and why it went the way it went."""


@requests.command("list")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--conversation", help="Only this conversation's.")
@click.option("--key", help="Only those of the key with this id.")
@click.option("--status", help="open, ok, failed, refused, cancelled or lost.")
@click.option("--since", help="Arrived on this date or later.")
@click.option("--before", help="Arrived before this date.")
@paged
def list_requests(
    tenant: str | None,
    conversation: str | None,
    key: str | None,
    status: str | None,
    since: str | None,
    before: str | None,
    limit: int,
    at: str | None,
    as_json: bool,
) -> None:
    """Requests, newest first."""
    from appliance.ledger.stores import conversations as store

    with opened() as ledger:
        found = store.requests_listed(
            ledger.engine,
            tenant,
            conversation_id=conversation,
            key_id=key,
            status=status,
            since_ms=ledger.moment(since),
            before_ms=ledger.moment(before),
            limit=limit,
            at=at,
        )
    print_page(
        found,
        ["ID", "TENANT", "AT", "ENDPOINT", "MODEL", "STATUS", "CODE", "ROUTE", "REASON", "MS"],
        lambda r: (
            r.id,
            r.tenant_id,
            date(r.at_ms),
            r.endpoint,
            r.model,
            r.status,
            r.error_code,
            r.route,
            r.reason,
            _ms(r.total_ms),
        ),
        as_json,
    )


@requests.command()
@click.argument("request_id", metavar="ID")
@as_json
def explain(request_id: str, as_json: bool) -> None:
    """One request with every route that was tried for it and every engine call."""
    from appliance.ledger.stores import conversations as store

    with opened() as ledger:
        found = store.explained(ledger.engine, None, request_id)
    if found is None:
        raise Failure(f"there is no request {request_id[:128]!r}; answers name theirs in x-request-id")
    if as_json:
        print_json(found)
        return
    print_fields(found.request)
    click.echo()
    print_table(
        ["TRIED", "ENGINE", "MODEL", "ROUTE", "REASON", "STATUS", "CODE", "MS"],
        [
            (a.ordinal + 1, a.engine, a.model, a.route, a.reason, a.status, a.error_code, _ms(a.total_ms))
            for a in found.attempts
        ],
    )
    click.echo()
    print_table(
        ["TRIED", "CALL", "PROVIDER", "MODEL", "STATUS", "PROMPT", "CACHED", "ANSWER", "AUDIO S", "FIRST MS", "MS"],
        [
            (
                a.ordinal + 1,
                c.ordinal + 1,
                c.provider,
                c.model,
                c.status,
                c.prompt_tokens,
                c.cached_tokens,
                c.completion_tokens,
                f"{c.audio_s:g}",
                _ms(c.ttft_ms),
                _ms(c.total_ms),
            )
            for a in found.attempts
            for c in a.calls
        ],
    )


@click.command()
@click.argument("conversation_id", metavar="CONVERSATION")
@click.option("--tenant", default=_DEFAULT, show_default=True)
@click.option("--resolved/--not-resolved", default=None)
@click.option("--handed-to-human/--not-handed-to-human", default=None)
@click.option("--csat", type=int, help="1 to 5.")
@click.option("--note", help="At most 2000 characters.")
@as_json
def outcome(
    conversation_id: str,
    tenant: str,
    resolved: bool | None,
    handed_to_human: bool | None,
    csat: int | None,
    note: str | None,
    as_json: bool,
) -> None:
    """Say what became of a CONVERSATION. The newest outcome counts, earlier ones stay."""
    from appliance.ledger.said import Said, checked
    from appliance.ledger.stores import outcomes

    with opened() as ledger:
        said = checked(Said(resolved, handed_to_human, csat, note))
        now_ms = int(time.time() * 1000)
        recorded = outcomes.record(ledger.engine, tenant, conversation_id, None, said, now_ms, ledger.actor)
        if recorded is None:
            raise LookupError(_unknown(conversation_id, tenant))
    (print_json if as_json else print_fields)(recorded)


def _unknown(conversation_id: str, tenant: str) -> str:
    return (
        f"tenant {tenant[:64]!r} has no conversation {conversation_id[:128]!r};"
        " `appliance conversations list` shows the ids"
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
