"""501 for every route of the OpenAI SDK that is not served, and for nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import openai
import pytest

from appliance.api.refusals import refusal_for

SERVED = {
    ("GET", "/v1/models"),
    ("GET", "/v1/models/x"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/v1/audio/translations"),
}
_CALL = re.compile(r'self\._(get|post|delete|get_api_list)\(\s*(?:path_template\(\s*)?f?"(/[^"?]+)')


def sdk_routes() -> set[tuple[str, str]]:
    """Every method and path that the installed SDK calls, with x for path parameters."""
    resources = Path(openai.__file__).parent / "resources"
    found = set()
    for source in resources.rglob("*.py"):
        for verb, path in _CALL.findall(source.read_text(encoding="utf-8")):
            method = "GET" if verb == "get_api_list" else verb.upper()
            found.add((method, "/v1" + re.sub(r"\{[^}]*\}", "x", path)))
    return found


def test_every_route_of_the_sdk_is_served_or_refused() -> None:
    routes = sdk_routes()
    assert len(routes) > 100
    assert routes >= SERVED
    for method, path in routes - SERVED:
        refusal = refusal_for(method, path)
        assert refusal is not None, (method, path)
        # the SDK searches vector stores with a POST that looks like a list; either answer is honest
        assert refusal.status == 501, (method, path)


@pytest.mark.parametrize(("method", "path"), sorted(SERVED))
def test_what_is_served_is_not_refused(method: str, path: str) -> None:
    assert refusal_for(method, path) is None


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/", "/v1/embedding", "/v1/embeddings/x/y", "/embeddings", "/v2/embeddings", "/v1/filesystem"],
)
def test_mistyped_paths_stay_404(path: str) -> None:
    assert refusal_for("POST", path) is None


def test_the_envelope() -> None:
    refusal = refusal_for("POST", "/v1/embeddings")
    assert refusal is not None
    assert (refusal.status, refusal.code, refusal.type) == (501, "not_implemented", "invalid_request_error")
    assert refusal.message.startswith("embeddings are not served")


def test_a_wrong_method_on_a_refused_route_is_405() -> None:
    refusal = refusal_for("PUT", "/v1/files/x")
    assert refusal is not None
    assert refusal.status == 405
    assert refusal.headers["allow"] == "DELETE, GET, POST"


@pytest.mark.parametrize(("method", "path"), [("PUT", "/v1/chat/completions"), ("POST", "/v1/models/x")])
def test_a_wrong_method_on_a_served_route_is_the_routers(method: str, path: str) -> None:
    assert refusal_for(method, path) is None


def test_stored_completions_and_head() -> None:
    for method in ("GET", "HEAD"):
        refusal = refusal_for(method, "/v1/chat/completions")
        assert refusal is not None
        assert refusal.status == 501
