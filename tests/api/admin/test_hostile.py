"""Hostile values in every field of every admin route, in both databases: a 4xx or a harmless row, never a 5xx."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import pytest
from api.admin.conftest import World
from api.admin.test_matrix import MATRIX, filled

from appliance.api.admin import ROUTES
from appliance.api.admin import route as admin_route
from appliance.api.turns import is_id

TEXTS = (
    "'; DROP TABLE requests; --",
    "' OR '1'='1",
    '"; DELETE FROM tenants; --',
    "\0",
    "a\0b",
    "x" * 5_000,
    "%s%n{0}${7*7}{{7*7}}",
    "\u202eevil\r\nset-cookie: a=b",
    "🏳" * 100,
)
NUMBERS = (-1, 2**63, 2**80, 1e308, True)
# as raw JSON: what json.dumps would not write
RAW = (b'"\\ud800"', b"NaN", b"1e999", b'{"$ne": null}', b"[[[]]]", b'"\xff"')


def counts(world: World) -> dict[str, int]:
    with world.engine.connect() as connection:
        return {
            table: connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
            for table in ("requests", "attempts", "calls", "conversations", "audit", "tenants", "keys")
        }


def bodies(name: str, valid: dict[str, Any]) -> list[bytes]:
    """``valid`` with a hostile value under ``name``."""
    rest = {k: v for k, v in valid.items() if k != name}
    found = [json.dumps({**rest, name: value}).encode() for value in (*TEXTS, *NUMBERS)]
    marked = json.dumps({**rest, name: "@"}).encode()
    return found + [marked.replace(b'"@"', raw) for raw in RAW]


async def test_every_field_of_every_route(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_route, "_HEARD_WITHIN_S", 0.0)
    before = counts(world)
    wrong = []
    for route in ROUTES:
        row = MATRIX[(route.method, route.path)]
        path, body = filled(world, route.path, row, "acme")
        bare = path.partition("?")[0]
        extra = {} if body is None else {"json": body}
        tries: list[tuple[str, dict[str, Any]]] = [
            (bare, {"params": {field: value}, **extra}) for field in route.query.__struct_fields__ for value in TEXTS
        ]
        if route.body is not None:
            for field in route.body.__struct_fields__:
                tries += [(path, {"content": content}) for content in bodies(field, body or {})]
        for place in ("{tenant}", "{key}", "{id}"):
            if place in route.path:
                named = [httpx_quoted(value) for value in TEXTS]
                tries += [(route.path.replace(place, value), extra) for value in named]
        for where, more in tries:
            response = await world.ask("admin", route.method, where, **more)
            if response.status_code not in (200, 400, 404, 405, 409, 413) or "set-cookie" in response.headers:
                wrong.append((route.method, where, more, response.status_code, response.text))
    assert wrong == []
    after = counts(world)
    assert all(after[table] >= before[table] for table in before)
    assert after["requests"] == before["requests"]
    assert (await world.ask("admin", "GET", "/v1/admin/requests")).status_code == 200


def httpx_quoted(value: str) -> str:
    from urllib.parse import quote

    return quote(value[:2000], safe="")


async def test_what_callers_send_in_any_field(world: World) -> None:
    """The engine is not there, so what is good in itself ends as engine_unavailable, recorded."""
    for value in TEXTS:
        for more in (
            {"user": value[:512]},
            {"metadata": {"intent": value[:512]}},
            {"metadata": {"conversation_id": value[:512]}},
            {"metadata": {"channel": value[:512]}},
            {"metadata": {"language": value[:512]}},
            {"metadata": {value[:64]: value[:512]}},
            {"conversation": value[:128]},
            {"previous_response_id": value[:128]},
            {"model": value[:256]},
        ):
            body = {"model": "fake", "messages": [{"role": "user", "content": value}], **more}
            response = await world.ask("client", "POST", "/v1/chat/completions", json=body)
            code = response.json()["error"]["code"]
            assert response.status_code in (400, 404) or code == "engine_unavailable", (more, response.text)
        for method, path in (("GET", "/v1/conversations/{}"), ("POST", "/v1/conversations/{}/outcome")):
            response = await world.ask("client", method, path.format(httpx_quoted(value)), json={"resolved": True})
            assert response.status_code == (200 if is_id(value) else 404), response.text


@pytest.mark.parametrize(
    ("method", "path", "content", "param", "says"),
    [
        ("POST", "/v1/admin/keys", b'{"name": "a", "modles": []}', "modles", "did you mean 'models'?"),
        ("POST", "/v1/admin/keys", b'{"role": "client"}', "name", "is required"),
        ("POST", "/v1/admin/keys", b'{"name": "a", "role": "king"}', "role", "one of client, operator, admin"),
        ("PATCH", "/v1/admin/tenants/acme", b'{"log_days": 3}', "log_days", "365 at least"),
        ("PATCH", "/v1/admin/tenants/acme", b"{}", None, "nothing is to be changed"),
        ("PATCH", "/v1/admin/tenants/acme", b'{"legal_hold": "yes"}', "legal_hold", "true or false"),
        ("GET", "/v1/admin/requests?limt=3", b"", "limt", "did you mean 'limit'?"),
        ("GET", "/v1/admin/requests?limit=0", b"", "limit", "from 1 to 1000"),
        ("GET", "/v1/admin/requests?limit=5&limit=6", b"", "limit", "given twice"),
        ("GET", "/v1/admin/requests?cursor=zzz", b"", None, "leave it out to begin again"),
        ("GET", "/v1/admin/requests?a", b"", None, "name=value"),
        ("GET", "/v1/admin/budgets?month=2026-13", b"", None, "write it as 2026-11"),
        ("GET", "/v1/admin/jobs", b"{}", None, "takes no body"),
        ("POST", "/v1/admin/prices", b'{"provider": "local"}', "model", "is required"),
        ("POST", "/v1/admin/tenants/default/disable", b"", None, "tenant of the key you use"),
    ],
)
async def test_what_is_wrong_is_one_sentence(
    sqlite_world: World, method: str, path: str, content: bytes, param: str | None, says: str
) -> None:
    response = await sqlite_world.ask("admin", method, path, content=content)
    error = response.json()["error"]
    assert response.status_code == 400
    assert error["param"] == param and says in error["message"], error


async def test_a_name_that_is_taken_is_a_conflict(sqlite_world: World) -> None:
    for path, body in (
        ("/v1/admin/tenants", {"id": "acme"}),
        ("/v1/admin/tenants", {"id": "other", "name": "acme"}),
        ("/v1/admin/keys", {"name": "admin"}),
    ):
        response = await sqlite_world.ask("admin", "POST", path, json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (409, "already_exists"), path
    response = await sqlite_world.ask("admin", "PATCH", "/v1/admin/tenants/acme", json={"name": "bodega"})
    assert response.status_code == 409


def test_every_body_is_strict() -> None:
    for route in ROUTES:
        for kind in (route.query, route.body):
            if kind is not None:
                assert kind.__struct_config__.forbid_unknown_fields, kind
        assert not get_args(route.query)
        assert route.body is None or msgspec.inspect.type_info(route.body) is not None
