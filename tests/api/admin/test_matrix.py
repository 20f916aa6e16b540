"""Every route against every caller. A route without a row here fails the test.

What it holds: no key, a wrong, a revoked and an expired one get nowhere; client keys reach no administration; operators
none of what is an admin's; and nobody but an admin anything of another tenant, which is as unknown as what never was.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from api.admin.conftest import World

from appliance.api.admin import ROUTES
from appliance.api.openapi import plain


class Row(NamedTuple):
    """Least role, and what to send. ``{…}`` in path and body stand for the ids of the tenant that is asked about."""

    least: str | None
    body: Any = None
    query: str = ""
    foreign: bool = False  # whether it names something that another tenant can own
    changes: bool = False


CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
PRICE = {"provider": "google", "model": "g", "unit": "prompt_token", "usd_per_million": "1"}
SERVER = {
    "purchase_usd": "1",
    "lifetime_months": 60,
    "busy_w": 900,
    "idle_w": 300,
    "tariff_inr_per_kwh": "9",
    "inr_per_usd": "85",
}
TERMS = {"terms": [{"term": "Acme"}, {"term": "account", "translation": "खाता", "target": "hi"}]}
ENTRIES = {"entries": [{"source": "en", "target": "hi", "text": "Hello", "translation": "नमस्ते"}]}
A, OP = "admin", "operator"
MATRIX: dict[tuple[str, str], Row] = {
    ("POST", "/v1/chat/completions"): Row("client", CHAT),
    ("POST", "/v1/completions"): Row("client", {"model": "fake", "prompt": "x"}),
    ("POST", "/v1/audio/transcriptions"): Row("client", {}),
    ("POST", "/v1/audio/translations"): Row("client", {}),
    ("POST", "/v1/audio/detect-language"): Row("client", {}),
    ("GET", "/v1/audio/languages"): Row("client"),
    ("POST", "/v1/audio/transcriptions/jobs"): Row("client", {}),
    ("GET", "/v1/audio/transcriptions/jobs/{id}"): Row("client"),
    ("GET", "/v1/audio/transcriptions/jobs/{id}/result"): Row("client"),
    ("DELETE", "/v1/audio/transcriptions/jobs/{id}"): Row("client"),
    ("POST", "/v1/detect-language"): Row("client", {"input": "नमस्ते"}),
    ("POST", "/v1/translate"): Row("client", {"input": "Open", "target": "hi"}),
    ("POST", "/v1/transliterate"): Row("client", {"input": "नमस्ते", "target": "Latn"}),
    ("GET", "/v1/models"): Row("client"),
    ("GET", "/v1/models/{model}"): Row("client"),
    ("GET", "/v1/conversations/{id}"): Row("client", foreign=True),
    ("POST", "/v1/conversations/{id}/outcome"): Row("client", {"resolved": True}, foreign=True, changes=True),
    ("POST", "/v1/conversations/{id}/handoff"): Row("client", CHAT, foreign=True),
    ("GET", "/health/live"): Row(None),
    ("GET", "/health/ready"): Row(None),
    ("GET", "/openapi.json"): Row(None),
    ("GET", "/metrics"): Row(OP),
    ("GET", "/v1/admin/report"): Row(OP, query="month=2026-11&tenant={tenant}", foreign=True),
    ("GET", "/v1/admin/tenants"): Row(OP),
    ("POST", "/v1/admin/tenants"): Row(A, {"id": "new"}, changes=True),
    ("GET", "/v1/admin/tenants/{tenant}"): Row(OP, foreign=True),
    ("PATCH", "/v1/admin/tenants/{tenant}"): Row(A, {"cap_nusd": 5}, foreign=True, changes=True),
    ("POST", "/v1/admin/tenants/{tenant}/disable"): Row(A, foreign=True, changes=True),
    ("POST", "/v1/admin/tenants/{tenant}/enable"): Row(A, foreign=True, changes=True),
    ("GET", "/v1/admin/keys"): Row(OP, query="tenant={tenant}", foreign=True),
    ("POST", "/v1/admin/keys"): Row(A, {"name": "n", "tenant": "{tenant}"}, foreign=True, changes=True),
    ("GET", "/v1/admin/keys/{key}"): Row(OP, foreign=True),
    ("PATCH", "/v1/admin/keys/{key}"): Row(A, {"cap_nusd": 5}, foreign=True, changes=True),
    ("POST", "/v1/admin/keys/{key}/revoke"): Row(A, foreign=True, changes=True),
    ("GET", "/v1/admin/conversations"): Row(OP, query="tenant={tenant}", foreign=True),
    ("GET", "/v1/admin/conversations/{id}"): Row(OP, query="tenant={tenant}", foreign=True),
    ("POST", "/v1/admin/conversations/{id}/outcome"): Row(
        OP, {"csat": 4}, query="tenant={tenant}", foreign=True, changes=True
    ),
    ("GET", "/v1/admin/outcomes"): Row(OP, query="tenant={tenant}", foreign=True),
    ("GET", "/v1/admin/requests"): Row(OP, query="tenant={tenant}", foreign=True),
    ("GET", "/v1/admin/requests/{id}"): Row(OP, foreign=True),
    ("GET", "/v1/admin/budgets"): Row(OP, query="tenant={tenant}", foreign=True),
    ("GET", "/v1/admin/prices"): Row(OP),
    ("POST", "/v1/admin/prices"): Row(A, PRICE, changes=True),
    ("POST", "/v1/admin/prices/defaults"): Row(A, changes=True),
    ("GET", "/v1/admin/server-costs"): Row(OP),
    ("POST", "/v1/admin/server-costs"): Row(A, SERVER, changes=True),
    ("GET", "/v1/admin/coefficients"): Row(OP),
    ("POST", "/v1/admin/coefficients"): Row(A, {"model": "*"}, changes=True),
    ("POST", "/v1/admin/subjects/export"): Row(OP, {"user": "asha", "tenant": "{tenant}"}, foreign=True, changes=True),
    ("POST", "/v1/admin/subjects/erase"): Row(OP, {"user": "asha", "tenant": "{tenant}"}, foreign=True, changes=True),
    ("GET", "/v1/admin/audit"): Row(OP, query="tenant={tenant}", foreign=True),
    ("GET", "/v1/admin/jobs"): Row(OP),
}
MATRIX |= {
    ("GET", "/v1/admin/glossaries"): Row(OP, query="tenant={tenant}", foreign=True),
    ("GET", "/v1/admin/glossaries/{glossary}/terms"): Row(OP, query="tenant={tenant}", foreign=True),
    ("POST", "/v1/admin/glossaries/{glossary}/terms"): Row(OP, TERMS, "tenant={tenant}", foreign=True, changes=True),
    ("POST", "/v1/admin/glossaries/{glossary}/terms/delete"): Row(
        OP, {"terms": [{"term": "Acme"}]}, "tenant={tenant}", foreign=True, changes=True
    ),
    ("POST", "/v1/admin/glossaries/{glossary}/delete"): Row(OP, None, "tenant={tenant}", foreign=True, changes=True),
    ("GET", "/v1/admin/translation-memory"): Row(OP, query="tenant={tenant}", foreign=True),
    ("POST", "/v1/admin/translation-memory"): Row(OP, ENTRIES, "tenant={tenant}", foreign=True, changes=True),
    ("POST", "/v1/admin/translation-memory/clear"): Row(OP, {}, "tenant={tenant}", foreign=True, changes=True),
}
RANK = {"client": 0, "operator": 1, "admin": 2}
NOBODY = (None, "unknown", "revoked", "expired")
# caller -> role and tenant
SOMEBODY = {
    "client": ("client", "acme"),
    "operator": ("operator", "acme"),
    "other client": ("client", "bodega"),
    "other operator": ("operator", "bodega"),
    "admin": ("admin", "default"),
}


def routes(world: World) -> list[tuple[str, str]]:
    return [
        (method, plain(route.path))
        for route in world.app.routes
        for method in sorted(route.methods - {"HEAD"})  # type: ignore[attr-defined]
    ]


def filled(world: World, path: str, row: Row, tenant: str) -> tuple[str, Any]:
    """The path with its query and the body, about what ``tenant`` has."""
    whose = {"acme": "client", "bodega": "other client"}[tenant]
    values = {
        "tenant": tenant,
        "key": world.keys["spare" if tenant == "acme" else whose],
        "id": world.requests[whose] if "/requests/" in path else world.conversations[whose],
        "model": "fake",
        "glossary": "shop",
    }
    body = row.body and {k: v.format(**values) if isinstance(v, str) else v for k, v in row.body.items()}
    return (path + ("?" + row.query if row.query else "")).format(**values), body


async def answer(world: World, caller: str | None, method: str, path: str, row: Row, tenant: str) -> tuple[int, str]:
    filled_path, body = filled(world, path, row, tenant)
    response = await world.ask(caller, method, filled_path, **({} if body is None else {"json": body}))
    return response.status_code, response.text


def test_every_route_has_a_row(world: World) -> None:
    found = routes(world)
    assert sorted(found) == sorted(MATRIX), "say in MATRIX who may use the route"
    assert len(found) == len(set(found))
    for route in ROUTES:
        assert MATRIX[(route.method, route.path)].least == route.role, route.path
        assert MATRIX[(route.method, route.path)].changes == route.changes, route.path


async def test_nobody_gets_in_and_nothing_is_written(world: World) -> None:
    before = await world.get("admin", "/v1/admin/audit", limit=1)
    wrong = []
    for (method, path), row in MATRIX.items():
        if row.least is None:
            continue
        for caller in NOBODY:
            status, text = await answer(world, caller, method, path, row, "acme")
            if status != 401 or '"invalid_api_key"' not in text:
                wrong.append(f"{caller}: {method} {path} gave {status}")
    assert wrong == []
    assert await world.get("admin", "/v1/admin/audit", limit=1) == before


async def test_no_role_reaches_what_is_above_it(world: World) -> None:
    before = await world.get("admin", "/v1/admin/audit", limit=1)
    wrong = []
    for (method, path), row in MATRIX.items():
        for caller, (role, tenant) in SOMEBODY.items():
            if row.least is None or RANK[role] >= RANK[row.least]:
                continue
            # also with nonsense, to which a caller who may not gets the same answer
            for query in ("", "?tenant=%00&nonsense"):
                bare = row._replace(query="")
                status, text = await answer(world, caller, method, path + query, bare, tenant if tenant else "acme")
                if status != 403 or '"forbidden"' not in text:
                    wrong.append(f"{caller}: {method} {path}{query} gave {status}")
    assert wrong == []
    assert await world.get("admin", "/v1/admin/audit", limit=1) == before


async def test_another_tenants_is_as_unknown_as_what_never_was(world: World) -> None:
    counts = "SELECT count(*) FROM outcomes"
    with world.engine.connect() as connection:
        before = connection.exec_driver_sql(counts).scalar()
    wrong = []
    for (method, path), row in MATRIX.items():
        if not row.foreign:
            continue
        for caller, (role, tenant) in SOMEBODY.items():
            if role == "admin" or RANK[role] < RANK[str(row.least)]:
                continue
            other = "bodega" if tenant == "acme" else "acme"
            status, text = await answer(world, caller, method, path, row, other)
            never = never_was(world, path, row, other)
            unknown = await world.ask(caller, method, never[0], **({} if never[1] is None else {"json": never[1]}))
            if status != 404 or normal(text, world) != normal(unknown.text, world):
                wrong.append(f"{caller}: {method} {path} gave {status} {text}, unknown {unknown.text}")
    assert wrong == []
    with world.engine.connect() as connection:
        assert connection.exec_driver_sql(counts).scalar() == before


def never_was(world: World, path: str, row: Row, tenant: str) -> tuple[str, Any]:
    filled_path, body = filled(world, path, row, tenant)
    for known in (*world.keys.values(), *world.conversations.values(), *world.requests.values()):
        filled_path = filled_path.replace(known, "nothing")
    filled_path = filled_path.replace(tenant, "nothing")
    return filled_path, body and {**body, **({"tenant": "nothing"} if "tenant" in body else {})}


def normal(text: str, world: World) -> str:
    for known in (*world.keys.values(), *world.conversations.values(), *world.requests.values(), "acme", "bodega"):
        text = text.replace(known, "nothing")
    return text


async def test_lists_hold_nothing_of_another_tenant(world: World) -> None:
    """Without naming a tenant: operators get their own, admins all."""
    for path in ("tenants", "keys", "conversations", "requests", "outcomes", "budgets", "audit"):
        await world.ask(
            "operator", "POST", f"/v1/admin/conversations/{world.conversations['client']}/outcome", json={"csat": 1}
        )
        mine = (await world.ask("operator", "GET", f"/v1/admin/{path}?limit=1000")).text
        theirs = (await world.ask("other operator", "GET", f"/v1/admin/{path}?limit=1000")).text
        everything = (await world.ask("admin", "GET", f"/v1/admin/{path}?limit=1000")).text
        assert "bodega" not in mine and world.keys["other client"] not in mine, path
        assert "acme" not in theirs and world.keys["client"] not in theirs, path
        if path != "outcomes":
            assert "acme" in everything and "bodega" in everything, path


@pytest.mark.parametrize("caller", ["operator", "admin"])
async def test_those_who_may_succeed_and_every_change_is_audited(world: World, caller: str) -> None:
    """So that the refusals above are not those of a broken route."""
    wrong = []
    newest = await world.get("admin", "/v1/admin/audit", limit=1)
    role = SOMEBODY[caller][0]
    for (method, path), row in MATRIX.items():
        if row.least is None or RANK[role] < RANK[row.least] or not path.startswith("/v1/admin"):
            continue
        status, text = await answer(world, caller, method, path, row, "acme")
        if status != 200:
            wrong.append(f"{method} {path} gave {status} {text}")
        before, newest = newest, await world.get("admin", "/v1/admin/audit", limit=1)
        if (newest != before) != row.changes:
            wrong.append(f"{method} {path} left {newest['data']}")
        elif row.changes and newest["data"][0]["actor"] != world.keys[caller]:
            wrong.append(f"{method} {path} was audited as {newest['data'][0]['actor']}")
        for secret in world.secrets.values():
            assert secret not in str(newest)
    assert wrong == []


async def test_a_conversation_of_one_name_is_two(world: World) -> None:
    """Two tenants whose callers chose the same id never meet."""
    for caller in ("client", "other client"):
        await world.talk(caller, "ticket-1")
    await world.ask("client", "POST", "/v1/conversations/ticket-1/outcome", json={"resolved": True, "note": "ours"})
    mine = await world.get("client", "/v1/conversations/ticket-1")
    theirs = await world.get("other client", "/v1/conversations/ticket-1")
    assert (mine["state"], mine["requests"], theirs["state"], theirs["requests"]) == ("resolved", 1, "open", 1)
    assert theirs["outcomes"] == []
    seen = await world.get("admin", "/v1/admin/conversations/ticket-1", tenant="bodega")
    assert (seen["tenant_id"], seen["state"]) == ("bodega", "open")


async def test_a_key_of_no_tenant_lifts_itself(world: World) -> None:
    """CVE-2026-47101's class: whatever an operator sends, its role and its limits stay."""
    own = f"/v1/admin/keys/{world.keys['operator']}"
    before = await world.get("admin", own)
    for method, path, body in (
        ("PATCH", own, {"cap_nusd": None}),
        ("PATCH", own, {"role": "admin"}),
        ("POST", "/v1/admin/keys", {"name": "mine", "role": "admin"}),
        ("POST", "/v1/admin/keys", {"name": "mine", "role": "client"}),
        ("PATCH", "/v1/admin/tenants/acme", {"legal_hold": False}),
    ):
        assert (await world.ask("operator", method, path, json=body)).status_code == 403
    refused = await world.ask("admin", "PATCH", own, json={"role": "admin"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unknown_parameter")
    assert await world.get("admin", own) == before
