"""Four small questions about an address, asked by ``appliance serve`` before and while it listens.

What it refuses to be: a client; the one request made here is ``GET /health/live``.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket

_LIVE_WITHIN_S = 2.0


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # some other name: what it resolves to may change
        return False


def _bound(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def port_taken(host: str, port: int) -> str:
    """Why ``host:port`` cannot be listened on; empty when it can."""
    try:
        _bound(host, port).close()
    except OSError as e:
        return e.strerror or str(e)
    return ""


def free_port(host: str) -> int:
    """A port nobody listens on, for ``port = 0``: the gateway and the printed line have to agree on one."""
    with _bound(host, 0) as listener:
        return int(listener.getsockname()[1])


def is_live(host: str, port: int) -> bool:
    """Whether a gateway answers ``GET /health/live`` there."""
    connectable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    connection = http.client.HTTPConnection(connectable, port, timeout=_LIVE_WITHIN_S)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
