"""What counts as this site."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from appliance.networks import OutsideSite, Unresolved, is_local, local_ip, parse_networks

SITE = parse_networks(["10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.9.9.9", "::1", "10.1.2.3", "fd00::1", "::ffff:10.0.0.1"])
def test_inside(ip: str) -> None:
    assert is_local(ip, SITE)


@pytest.mark.parametrize("ip", ["11.0.0.1", "192.168.0.1", "8.8.8.8", "fe80::1", "::ffff:8.8.8.8", "0.0.0.0"])
def test_outside(ip: str) -> None:
    assert not is_local(ip, SITE)


def test_every_address_of_a_name_has_to_be_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    def two(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("10.0.0.1", "8.8.8.8")]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    with pytest.raises(OutsideSite, match=r"a\.site is 8\.8\.8\.8, which is outside this site; add its network"):
        local_ip("a.site", 80, SITE)


def test_a_name_that_does_not_resolve_may_do_so_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise socket.gaierror("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(Unresolved, match="does not resolve"):
        local_ip("a.site", 80, SITE)
