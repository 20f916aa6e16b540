"""The OpenAPI document: valid, complete, and true of real answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from api.admin.conftest import World
from api.admin.test_matrix import MATRIX, filled, routes
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource

import appliance
from appliance.api.admin import ROUTES
from appliance.api.openapi import DOCS, document
from appliance.api.parameters import CHAT, COMPLETIONS, Parameters, Use

Json = dict[str, Any]
ROOT = Path(appliance.__file__).parents[1]


@pytest.fixture(scope="module")
def spec() -> Json:
    found: Json = json.loads(msgspec.json.encode(document()))
    return found


def validator(spec: Json, schema: Json) -> Draft202012Validator:
    resource: Any = Resource.from_contents({"$schema": "https://json-schema.org/draft/2020-12/schema", **spec})
    registry: Any = Registry().with_resource("urn:spec", resource)
    text = json.dumps(schema).replace('"#/components', '"urn:spec#/components')
    return Draft202012Validator(json.loads(text), registry=registry)


def test_it_is_valid(spec: Json) -> None:
    assert spec["openapi"] == "3.1.0"
    assert [error.message for error in OpenAPIV31SpecValidator(spec).iter_errors()] == []


def test_it_has_every_route_and_no_other(spec: Json, sqlite_world: World) -> None:
    described = {(method.upper(), path) for path, methods in spec["paths"].items() for method in methods}
    assert described == set(routes(sqlite_world))
    assert len(DOCS) + len(ROUTES) == len(described)


def test_it_says_which_routes_need_a_key_of_which_role(spec: Json) -> None:
    for (method, path), row in MATRIX.items():
        operation = spec["paths"][path][method.lower()]
        assert (operation.get("security") == []) == (row.least is None), path
        if path.startswith("/v1/admin"):
            assert f"{'operator or admin' if row.least == 'operator' else 'admin'}." in operation["description"]
    ids = [operation["operationId"] for methods in spec["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("name", "rules"), [("ChatFields", CHAT), ("CompletionFields", COMPLETIONS)])
def test_parameters_are_those_of_the_table(spec: Json, name: str, rules: Parameters) -> None:
    schema = spec["components"]["schemas"][name]
    assert set(schema["properties"]) == {known for known, rule in rules.rules.items() if rule.use is not Use.REFUSED}
    assert schema["additionalProperties"] is False
    assert {"ChatFields": ["messages", "model"], "CompletionFields": ["model", "prompt"]}[name] == schema["required"]


def test_no_secret_is_in_any_answer_but_a_new_keys(spec: Json) -> None:
    shown = {name for name, schema in spec["components"]["schemas"].items() for field in schema.get("properties", ())
             if field in ("secret", "digest", "cache_salt")}  # fmt: skip
    assert shown == {"Made"}


def test_a_gateway_that_nobody_administers_loads_no_sqlalchemy() -> None:
    code = "import appliance.app, sys; print('sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "False\n"


async def test_it_is_served_without_a_key(sqlite_world: World, spec: Json) -> None:
    response = await sqlite_world.ask(None, "GET", "/openapi.json")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == spec


async def test_real_answers_fit(world: World, spec: Json) -> None:
    """Every answer of every route, in both databases: done as an admin, and refused for want of a key."""
    error = validator(spec, spec["components"]["responses"]["Error"]["content"]["application/json"]["schema"])
    seen = 0
    for (method, path), row in MATRIX.items():
        where, body = filled(world, path, row, "acme")
        more = {} if body is None else {"json": body}
        operation = spec["paths"][path][method.lower()]
        caller = "admin" if "/admin/" in path or path.startswith("/health") else "client"
        response = await world.ask(caller, method, where, **more)
        if row.least is not None:
            error.validate((await world.ask(None, method, where, **more)).json())
        if response.status_code == 200 and response.headers["content-type"] == "application/json":
            schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
            errors = [e.message for e in validator(spec, schema).iter_errors(response.json())]
            assert errors == [], (method, path, response.text[:500])
            seen += 1
        elif response.status_code != 200 and path != "/health/ready":
            error.validate(response.json())
    assert seen >= len(ROUTES)
