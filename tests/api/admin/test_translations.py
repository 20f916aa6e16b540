"""Glossaries and translation memory over HTTP: what operators do with their own, and what they are told."""

from __future__ import annotations

import pytest
from api.admin.conftest import World

TERMS = "/v1/admin/glossaries/shop/terms"
MEMORY = "/v1/admin/translation-memory"


async def test_an_operator_keeps_its_tenants_words(world: World) -> None:
    body = {"terms": [{"term": "Acme"}, {"term": "account", "translation": "खाता", "source": "en", "target": "Hindi"}]}
    done = await world.ask("operator", "POST", TERMS, json=body)
    assert (done.status_code, done.json()["terms"]) == (200, 2)
    await world.ask("other operator", "POST", TERMS, json={"terms": [{"term": "Bodega"}]})
    mine = await world.get("operator", TERMS, limit=1)
    more = await world.get("operator", TERMS, cursor=mine["next"])
    assert sorted(t["term"] for t in mine["data"] + more["data"]) == ["Acme", "account"] and more["next"] is None
    assert [g["tenant_id"] for g in (await world.get("operator", "/v1/admin/glossaries"))["data"]] == ["acme"]
    assert [g["tenant_id"] for g in (await world.get("admin", "/v1/admin/glossaries"))["data"]] == ["acme", "bodega"]
    gone = await world.ask("operator", "POST", f"{TERMS}/delete", json={"terms": [{"term": "ACME", "case": "any"}]})
    assert gone.json()["terms"] == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (TERMS, {"terms": []}, 400, "500 terms"),
        (TERMS, {"terms": [{"term": ""}]}, 400, "term"),
        (TERMS, {"terms": [{"term": "x", "target": "klingon"}]}, 400, "term 1: 'klingon' is not a language"),
        (TERMS, {"terms": [{"term": "x", "translations": "y"}]}, 400, "translation"),
        (f"{TERMS}/delete", {"terms": [{"term": "x"}]}, 404, "no term 'x' from * to * in 'shop'"),
        ("/v1/admin/glossaries/shop/delete", None, 404, "no glossary 'shop'"),
        ("/v1/admin/glossaries/My-Shop/terms", {"terms": [{"term": "x"}]}, 400, "lower-case letters"),
        (
            MEMORY,
            {"entries": [{"source": "en", "target": "xx", "text": "a", "translation": "b"}]},
            400,
            "entry 1: 'xx'",
        ),
        (f"{MEMORY}/clear", {"id": "mem_nothing"}, 404, "no entry 'mem_nothing'"),
    ],
)
async def test_what_is_refused_says_why(world: World, path: str, body: object, status: int, message: str) -> None:
    response = await world.ask("operator", "POST", path, **({} if body is None else {"json": body}))
    assert response.status_code == status and message in response.json()["error"]["message"]


async def test_a_memory_is_one_tenants(world: World) -> None:
    entry = {"source": "en", "target": "hi", "text": "Hello", "translation": "नमस्ते"}
    put = await world.ask("operator", "POST", MEMORY, json={"entries": [entry]})
    assert put.json() == {"tenant_id": "acme", "put": 1, "entries": 1}
    assert (await world.get("operator", MEMORY, containing="नम"))["data"][0]["text"] == "Hello"
    assert (await world.get("other operator", MEMORY))["data"] == []
    await world.ask("other operator", "POST", f"{MEMORY}/clear", json={})
    assert len((await world.get("admin", MEMORY, tenant="acme"))["data"]) == 1
    assert (await world.ask("operator", "POST", f"{MEMORY}/clear", json={"target": "hi"})).json()["cleared"] == 1
