"""Paths without parameters go past Starlette, to the same place it would find."""

from __future__ import annotations

from gateway import gateway
from starlette.routing import Match


async def test_starlette_would_find_the_same_endpoints() -> None:
    async with gateway() as g:
        found = {}
        for route in g.app.routes:
            for method in sorted(route.methods):
                scope = {"type": "http", "method": method, "path": route.path, "headers": []}
                first = next(other for other in g.app.routes if other.matches(scope)[0] is Match.FULL)
                if "{" not in route.path:
                    found[method, route.path] = first.app
        assert g.app.fixed == found
        assert ("POST", "/v1/chat/completions") in found


async def test_the_rest_is_starlettes() -> None:
    async with gateway() as g:
        assert (await g.client.put("/v1/chat/completions")).status_code == 405
        assert (await g.client.get("/v1/nowhere")).status_code == 404
        assert (await g.client.get("/v1/models/fake")).json()["id"] == "fake"
        head = await g.client.head("/v1/models")
        assert (head.status_code, head.headers["content-type"]) == (200, "application/json")
