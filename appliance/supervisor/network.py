"""Six small questions about an address, asked by ``appliance serve`` before and while it listens.

What it refuses to be: a client; the requests made here are ``GET /health/live``, ``/health/ready`` and ``/health``.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
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
    status, _ = _get(host, port, "/health/live")
    return status == 200


def engines_seen(host: str, port: int) -> dict[str, list[str]]:
    """The engines that the gateway there takes requests for, with their models; empty when it does not say."""
    _, body = _get(host, port, "/health/ready")
    try:
        engines = json.loads(body)["engines"].items()
        return {name: list(engine["models"]) for name, engine in engines if engine["ready"]}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def live_sessions(address: str) -> int | None:
    """How many sessions the live process at ``address`` (``host:port``) holds; None when it does not answer."""
    host, _, port = address.rpartition(":")
    _, body = _get(host.strip("[]"), int(port) if port.isdigit() else 0, "/health")
    try:
        return int(json.loads(body)["sessions"])
    except (ValueError, KeyError, TypeError):
        return None


def _get(host: str, port: int, path: str) -> tuple[int, bytes]:
    connectable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    connection = http.client.HTTPConnection(connectable, port, timeout=_LIVE_WITHIN_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
