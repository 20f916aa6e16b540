"""The table of admin routes, and what each does: a store's function and nothing else.

What it refuses to be: a place for rules. Roles are in the table, tenants in ``Asked``, everything else in the stores.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct

from appliance.api.admin import bodies as b
from appliance.api.admin import translations
from appliance.api.admin.route import RANK, AdminRoute, Answer, Asked, Handler, Listing, Nothing, OneOf, listed
from appliance.api.conversations import OutcomeBody
from appliance.errors import Forbidden
from appliance.ledger.months import parse_month
from appliance.ledger.said import checked


def _given(body: Struct, *but: str) -> dict[str, Any]:
    """The fields a caller gave, ``but`` left out."""
    return {
        field: value
        for field in body.__struct_fields__
        if field not in but and (value := getattr(body, field)) is not UNSET
    }


def _to_change(body: Struct) -> dict[str, Any]:
    fields = _given(body)
    if not fields:
        raise ValueError(f"nothing is to be changed; give at least one of {', '.join(body.__struct_fields__)}")
    return fields


# tenants


def tenants_listed(asked: Asked, query: Listing, _: None) -> Any:
    """All, or for an operator its own."""
    from appliance.ledger.stores import tenants

    return listed(tenants.page(asked.engine, asked.scope, at=query.cursor, limit=query.limit))


def tenant_made(asked: Asked, _: Any, body: b.NewTenant) -> Any:
    """A new one."""
    from appliance.ledger.stores import tenants

    return tenants.create(asked.engine, asked.actor, body.id, **_given(body, "id"))


def tenant_shown(asked: Asked, _: Any, __: None) -> Any:
    """One."""
    from appliance.ledger.stores import tenants

    return tenants.get(asked.engine, asked.tenant(asked.path["tenant"]))


def tenant_set(asked: Asked, _: Any, body: b.TenantFields) -> Any:
    """Change one."""
    from appliance.ledger.stores import tenants

    return tenants.configure(asked.engine, asked.actor, asked.tenant(asked.path["tenant"]), **_to_change(body))


def tenant_disabled(asked: Asked, _: Any, __: None) -> Any:
    """End its traffic."""
    from appliance.ledger.stores import tenants

    tenant_id = asked.tenant(asked.path["tenant"])
    if tenant_id == asked.key.tenant.id:
        raise ValueError("this is the tenant of the key you use, which would end too; use `appliance tenants disable`")
    return tenants.disable(asked.engine, asked.actor, tenant_id)


def tenant_enabled(asked: Asked, _: Any, __: None) -> Any:
    """Let it in again."""
    from appliance.ledger.stores import tenants

    return tenants.disable(asked.engine, asked.actor, asked.tenant(asked.path["tenant"]), disabled=False)


# keys


def keys_listed(asked: Asked, query: b.TenantListing, _: None) -> Any:
    """Oldest first, revoked ones too."""
    from appliance.ledger.stores import keys

    return listed(keys.page(asked.engine, asked.tenants(query.tenant), at=query.cursor, limit=query.limit))


def key_made(asked: Asked, _: Any, body: b.NewKey) -> Any:
    """A new one, of no higher role than the one that makes it."""
    from appliance.ledger.stores import keys

    if RANK[body.role] > RANK[asked.key.role]:
        raise Forbidden(f"a key of role {asked.key.role} makes none of role {body.role}")
    tenant = asked.tenant(body.tenant)
    fields = _given(body, "name", "role", "tenant")
    return keys.create(asked.engine, asked.actor, body.name, body.role, tenant, **fields)


def key_shown(asked: Asked, _: Any, __: None) -> Any:
    """One."""
    from appliance.ledger.stores import keys

    return keys.get(asked.engine, asked.path["key"], asked.scope)


def key_set(asked: Asked, _: Any, body: b.KeyFields) -> Any:
    """Change what it may do."""
    from appliance.ledger.stores import keys

    found = keys.get(asked.engine, asked.path["key"], asked.scope)
    return keys.configure(asked.engine, asked.actor, found.id, **_to_change(body))


def key_revoked(asked: Asked, _: Any, __: None) -> Any:
    """End it for good."""
    from appliance.ledger.stores import keys

    found = keys.get(asked.engine, asked.path["key"], asked.scope)
    keys.revoke(asked.engine, asked.actor, found.id)
    return keys.get(asked.engine, found.id)


# conversations, requests, outcomes


def conversations_listed(asked: Asked, query: b.ConversationListing, _: None) -> Any:
    """Newest first."""
    from appliance.ledger.stores import conversations
    from appliance.ledger.stores.pages import MOST_LOOKED_AT

    return listed(
        conversations.listed(
            asked.engine,
            asked.tenants(query.tenant),
            state=query.state,
            channel=query.channel,
            intent=query.intent,
            language=query.language,
            subject=query.subject,
            since_ms=query.since_ms,
            before_ms=query.before_ms,
            at=query.cursor,
            limit=query.limit,
            most=MOST_LOOKED_AT,
        )
    )


def conversation_shown(asked: Asked, query: OneOf, _: None) -> Any:
    """One."""
    from appliance.ledger.stores import conversations

    found = conversations.get(asked.engine, asked.tenant(query.tenant), asked.path["id"])
    if found is None:
        raise LookupError(_no_conversation(asked.path["id"]))
    return found


def outcome_said(asked: Asked, query: OneOf, body: OutcomeBody) -> Any:
    """What became of it, said by an operator."""
    from appliance.ledger.stores import outcomes

    said = checked(body.said())
    tenant_id, name = asked.tenant(query.tenant), asked.path["id"]
    now_ms = asked.service.now_ms()
    found = outcomes.record(asked.engine, tenant_id, name, asked.key.id, said, now_ms, asked.actor)
    if found is None:
        raise LookupError(_no_conversation(name))
    return outcomes.OutcomeRow(**msgspec.structs.asdict(found), tenant_id=tenant_id, conversation_id=name)


def outcomes_listed(asked: Asked, query: b.OutcomeListing, _: None) -> Any:
    """Newest first."""
    from appliance.ledger.stores import outcomes

    return listed(
        outcomes.page(
            asked.engine,
            asked.tenants(query.tenant),
            conversation_id=query.conversation_id,
            source=query.source,
            at=query.cursor,
            limit=query.limit,
        )
    )


def requests_listed(asked: Asked, query: b.RequestListing, _: None) -> Any:
    """Newest first."""
    from appliance.ledger.stores import conversations
    from appliance.ledger.stores.pages import MOST_LOOKED_AT

    return listed(
        conversations.requests_listed(
            asked.engine,
            asked.tenants(query.tenant),
            conversation_id=query.conversation_id,
            key_id=query.key,
            status=query.status,
            since_ms=query.since_ms,
            before_ms=query.before_ms,
            at=query.cursor,
            limit=query.limit,
            most=MOST_LOOKED_AT,
        )
    )


def request_explained(asked: Asked, _: Any, __: None) -> Any:
    """One with everything that was tried for it."""
    from appliance.ledger.stores import conversations

    found = conversations.explained(asked.engine, asked.scope, asked.path["id"])
    if found is None:
        raise LookupError(f"there is no request {asked.path['id']!r}; answers name theirs in x-request-id")
    return found


# money


def budgets_listed(asked: Asked, query: b.BudgetListing, _: None) -> Any:
    """What months have spent."""
    from appliance.ledger.stores import watching

    month = None if query.month is None else parse_month(query.month)
    tenant = asked.tenants(query.tenant)
    found = watching.spent(asked.engine, tenant, month=month, scope=query.scope, at=query.cursor, limit=query.limit)
    return listed(found)


def prices_listed(asked: Asked, query: Listing, _: None) -> Any:
    """Of hosted models."""
    from appliance.ledger.stores import prices

    return listed(prices.prices_page(asked.engine, at=query.cursor, limit=query.limit))


def price_set(asked: Asked, _: Any, body: b.PriceFields) -> Any:
    """From a moment on."""
    from appliance.ledger.stores import prices

    return prices.set_price(asked.engine, asked.actor, **_given(body))


def price_defaults_set(asked: Asked, _: Any, __: None) -> Any:
    """Those that come with this version and are not there yet."""
    from appliance.ledger.stores import prices

    return Answer(prices.set_defaults(asked.engine, asked.actor), None, False)


def servers_listed(asked: Asked, query: Listing, _: None) -> Any:
    """Oldest first."""
    from appliance.ledger.stores import prices

    return listed(prices.servers_page(asked.engine, at=query.cursor, limit=query.limit))


def server_set(asked: Asked, _: Any, body: b.NewServerCost) -> Any:
    """From a moment on."""
    from appliance.ledger.stores import prices

    return prices.set_server(asked.engine, asked.actor, **_given(body))


def coefficients_listed(asked: Asked, query: Listing, _: None) -> Any:
    """By model."""
    from appliance.ledger.stores import prices

    return listed(prices.measured_page(asked.engine, at=query.cursor, limit=query.limit))


def coefficients_set(asked: Asked, _: Any, body: b.NewCoefficients) -> Any:
    """From a moment on."""
    from appliance.ledger.stores import prices

    return prices.set_coefficients(asked.engine, asked.actor, **_given(body))


# subjects, audit, jobs


def subject_exported(asked: Asked, _: Any, body: b.OfSubject) -> Any:
    """Everything about one."""
    from appliance.ledger.stores import subjects

    return subjects.export(asked.engine, asked.actor, asked.tenant(body.tenant), body.user)


def subject_erased(asked: Asked, _: Any, body: b.OfSubject) -> Any:
    """What may be erased of one."""
    from appliance.ledger.stores import subjects

    return subjects.erase(asked.engine, asked.actor, asked.tenant(body.tenant), body.user)


def audit_listed(asked: Asked, query: b.AuditListing, _: None) -> Any:
    """Newest first."""
    from appliance.ledger.stores import watching

    return listed(
        watching.audited(
            asked.engine,
            asked.tenants(query.tenant),
            actor=query.actor,
            action=query.action,
            target=query.target,
            at=query.cursor,
            limit=query.limit,
        )
    )


def jobs_listed(asked: Asked, query: Listing, _: None) -> Any:
    """By name."""
    from appliance.ledger.stores import watching

    return listed(watching.jobs_page(asked.engine, at=query.cursor, limit=query.limit))


def _no_conversation(name: str) -> str:
    return f"there is no conversation {name!r} of this tenant; answers name theirs in X-Conversation-Id"


def report_built(asked: Asked, query: b.ReportOf, _: None) -> Any:
    """What a month came to. Seconds of a processor where the month was a large one."""
    from appliance.ledger.report import build, slos_of

    service = asked.service
    return build(
        service.settings.ledger_where,
        parse_month(query.month),
        service.now_ms(),
        tenant=asked.tenants(query.tenant),
        timezone=service.settings.site.timezone,
        slos=slos_of(service.settings.slos),
    )


def _get(path: str, handler: Handler, answer: str, summary: str, query: type[Struct] = Nothing) -> AdminRoute:
    return AdminRoute("GET", f"/v1/admin{path}", "operator", handler, _of_store(answer), summary, query)


def _post(
    path: str,
    role: Literal["operator", "admin"],
    handler: Handler,
    answer: str,
    summary: str,
    body: type[Struct] | None = None,
    query: type[Struct] = Nothing,
) -> AdminRoute:
    return AdminRoute("POST", f"/v1/admin{path}", role, handler, _of_store(answer), summary, query, body)


def _patch(path: str, handler: Handler, answer: str, summary: str, body: type[Struct]) -> AdminRoute:
    return AdminRoute("PATCH", f"/v1/admin{path}", "admin", handler, _of_store(answer), summary, Nothing, body)


def _of_store(answer: str) -> str:
    many = "[]" if answer.startswith("[]") else ""
    return f"{many}stores.{answer.removeprefix('[]')}"


ROUTES: tuple[AdminRoute, ...] = (
    _get("/tenants", tenants_listed, "[]tenants.TenantInfo", "Tenants", Listing),
    _post("/tenants", "admin", tenant_made, "tenants.TenantInfo", "Make a tenant", b.NewTenant),
    _get("/tenants/{tenant}", tenant_shown, "tenants.TenantInfo", "One tenant"),
    _patch("/tenants/{tenant}", tenant_set, "tenants.TenantInfo", "Change a tenant", b.TenantFields),
    _post("/tenants/{tenant}/disable", "admin", tenant_disabled, "tenants.TenantInfo", "End a tenant's traffic"),
    _post("/tenants/{tenant}/enable", "admin", tenant_enabled, "tenants.TenantInfo", "Let a tenant in again"),
    _get("/keys", keys_listed, "[]keys.KeyInfo", "Keys, without their secrets", b.TenantListing),
    _post("/keys", "admin", key_made, "keys.Made", "Make a key; only this answer has its secret", b.NewKey),
    _get("/keys/{key}", key_shown, "keys.KeyInfo", "One key"),
    _patch("/keys/{key}", key_set, "keys.KeyInfo", "Change what a key may do", b.KeyFields),
    _post("/keys/{key}/revoke", "admin", key_revoked, "keys.KeyInfo", "End a key for good"),
    _get(
        "/conversations",
        conversations_listed,
        "[]conversations.ConversationInfo",
        "Conversations, newest first",
        b.ConversationListing,
    ),
    _get("/conversations/{id}", conversation_shown, "conversations.ConversationInfo", "One conversation", OneOf),
    _post(
        "/conversations/{id}/outcome",
        "operator",
        outcome_said,
        "outcomes.OutcomeRow",
        "Say what became of a conversation",
        OutcomeBody,
        OneOf,
    ),
    _get("/outcomes", outcomes_listed, "[]outcomes.OutcomeRow", "Outcomes, newest first", b.OutcomeListing),
    _get("/requests", requests_listed, "[]conversations.RequestInfo", "Requests, newest first", b.RequestListing),
    _get("/requests/{id}", request_explained, "conversations.Explained", "One request with its attempts and calls"),
    _get("/budgets", budgets_listed, "[]watching.BudgetInfo", "What months have spent and hold back", b.BudgetListing),
    _get("/prices", prices_listed, "[]prices.PriceInfo", "Prices of hosted models", Listing),
    _post("/prices", "admin", price_set, "prices.PriceInfo", "Set a price from a moment on", b.PriceFields),
    _post("/prices/defaults", "admin", price_defaults_set, "[]prices.PriceInfo", "Set the prices of this version"),
    _get("/server-costs", servers_listed, "[]prices.ServerCost", "What the server costs", Listing),
    _post("/server-costs", "admin", server_set, "prices.ServerCost", "Set what it costs from a date", b.NewServerCost),
    _get("/coefficients", coefficients_listed, "[]prices.CoefficientInfo", "How long units of work take", Listing),
    _post(
        "/coefficients",
        "admin",
        coefficients_set,
        "prices.CoefficientInfo",
        "Set how long they take from a moment on",
        b.NewCoefficients,
    ),
    _post("/subjects/export", "operator", subject_exported, "subjects.Export", "All that is held of one", b.OfSubject),
    _post("/subjects/erase", "operator", subject_erased, "subjects.Erased", "Erase a person's data", b.OfSubject),
    _get("/audit", audit_listed, "[]watching.AuditLine", "Who changed what, newest first", b.AuditListing),
    _get("/jobs", jobs_listed, "[]watching.JobInfo", "Housekeeping", Listing),
    AdminRoute(
        "GET", "/v1/admin/report", "operator", report_built, "report.Report", "What a month came to", b.ReportOf
    ),
    *translations.ROUTES,
)
