"""Addresses: what counts as local, and that the answer is checked after the name was resolved."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import pytest

from appliance.engines.address import Address, is_local, parse_address, resolve_local
from appliance.errors import EngineUnavailable

SITE = (ipaddress.ip_network("10.20.0.0/16"),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/run/appliance/chat.sock", Address(socket_path="/run/appliance/chat.sock")),
        ("http://127.0.0.1:9000/v1", Address(host="127.0.0.1", port=9000)),
        ("https://box2/llm/v1/", Address(host="box2", port=443, tls=True, prefix="/llm")),
        ("http://[::1]:8080", Address(host="::1", port=8080)),
    ],
)
def test_parse(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["ftp://x", "box2:8000", "http://", "http://user:secret@box2:1"])
def test_what_is_not_an_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="address") as caught:
        parse_address(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("ip", "local"),
    [("127.0.0.1", True), ("::1", True), ("10.20.3.4", True), ("10.21.0.1", False), ("8.8.8.8", False),
     ("::ffff:10.20.0.1", True), ("::ffff:8.8.8.8", False), ("169.254.169.254", False)],
)  # fmt: skip
def test_is_local(ip: str, local: bool) -> None:
    assert is_local(ip, SITE) is local


class _Resolver(asyncio.SelectorEventLoop):
    """An event loop whose names resolve to what the test says."""

    answers: tuple[str, ...] = ()

    async def getaddrinfo(self, *_: object, **__: object) -> list[tuple[object, ...]]:  # type: ignore[override]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in self.answers]


def _resolve(answers: list[str]) -> str:
    loop = _Resolver()
    loop.answers = tuple(answers)
    try:
        return loop.run_until_complete(resolve_local(Address(host="box2", port=80), SITE))
    finally:
        loop.close()


def test_a_name_inside_the_site_resolves() -> None:
    assert _resolve(["10.20.0.9"]) == "10.20.0.9"


def test_a_name_with_one_foot_outside_is_refused() -> None:
    with pytest.raises(EngineUnavailable, match=r"203\.0\.113\.7.*networks"):
        _resolve(["10.20.0.9", "203.0.113.7"])
