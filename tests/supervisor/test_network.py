"""Addresses, as ``appliance serve`` judges them."""

from __future__ import annotations

import socket

import pytest

from appliance.supervisor.network import free_port, is_live, is_loopback, port_taken


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "box.example")),
    ],
)
def test_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_port_in_use_says_so_and_a_free_one_does_not() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert "in use" in port_taken("127.0.0.1", listener.getsockname()[1])
    assert port_taken("127.0.0.1", free_port("127.0.0.1")) == ""


def test_nobody_is_not_live() -> None:
    assert not is_live("127.0.0.1", free_port("127.0.0.1"))
