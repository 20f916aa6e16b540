"""Ids that callers give, and what an Idempotency-Key stands for."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.api.http import Exchange
from appliance.api.idempotency import idempotency_of
from appliance.api.turns import is_id, turn_of
from appliance.errors import BadRequest
from appliance.types import Key, Tenant

KEY = Key("key_1", "web", "client", Tenant("acme", "Acme", "salt", b"s" * 32))


async def _never() -> Any:
    raise AssertionError


async def _nowhere(_: Any) -> None:
    raise AssertionError


def exchange(**headers: str) -> Exchange:
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Exchange({"headers": raw}, _never, _nowhere)


@pytest.mark.parametrize("good", ["a", "x" * 128, "whatsapp:+919800000000", "a.b-c_d~1", "{}%", "conv_1"])
def test_an_id(good: str) -> None:
    assert is_id(good)
    assert turn_of(exchange(x_conversation_id=good), KEY).conversation_id == good


@pytest.mark.parametrize("bad", ["x" * 129, "a b", "a/b", "../x", "é", "a\tb", "\x7f", "a\n"])
def test_no_id(bad: str) -> None:
    """A slash above all: the outcome of such a conversation could never be said."""
    assert not is_id(bad)
    with pytest.raises(BadRequest, match="without spaces and slashes"):
        turn_of(exchange(), KEY, conversation=bad)


def test_an_idempotency_key_stands_for_body_path_and_conversation() -> None:
    def digest(path: str = "/v1/chat/completions", body: bytes = b"{}", **headers: str) -> bytes:
        found = idempotency_of(exchange(idempotency_key="k", **headers), path, body)
        assert found is not None and found.name == "k"
        return found.digest

    same = digest()
    others = [
        digest(path="/v1/completions"),
        digest(body=b"{ }"),
        digest(x_conversation_id="a"),
        digest(x_conversation_id="b"),
        digest(x_appliance_metadata='{"conversation_id": "a"}'),
        digest(x_appliance_metadata="a"),
    ]
    assert len({same, *others}) == 7
    assert digest() == same
    assert idempotency_of(exchange(), "/", b"") is None
