"""Where an engine lives, and whether that place counts as local.

What it is: a Unix socket path or an ``http(s)://`` base URL, resolved and checked at *every* connect, so
that a name which later resolves elsewhere cannot carry traffic off the site.
What it refuses to be: a resolver with a cache.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from appliance.errors import EngineUnavailable
from appliance.networks import Network, is_local

__all__ = ["Address", "Network", "is_local", "parse_address", "resolve_local", "tls_context"]


@dataclass(frozen=True)
class Address:
    """``socket_path`` or ``host`` and ``port``; ``prefix`` is put before every request path."""

    socket_path: str = ""
    host: str = ""
    port: int = 0
    tls: bool = False
    prefix: str = ""

    @property
    def host_header(self) -> str:
        """The value of the Host header."""
        if self.socket_path:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read a socket path or a base URL; a trailing ``/v1`` belongs to the paths, not to the base.

    Raises ValueError with one sentence.
    """
    if text.startswith("/"):
        return Address(socket_path=text)
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"{text!r} is not an engine address; give a socket path or http://host:port")
    if url.username or url.password:
        raise ValueError("an engine address must not carry a password; put the key into api_key_file")
    tls = url.scheme == "https"
    prefix = url.path.rstrip("/").removesuffix("/v1")
    return Address(host=url.hostname, port=url.port or (443 if tls else 80), tls=tls, prefix=prefix)


async def resolve_local(address: Address, networks: tuple[Network, ...]) -> str:
    """The IP to connect to. Every address the name resolves to has to be local.

    Raises EngineUnavailable when the name does not resolve or leaves the site.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as e:
        raise EngineUnavailable(f"the engine's host name {address.host} does not resolve: {e}") from None
    ips = [str(item[4][0]) for item in found]
    for ip in ips:
        if not is_local(ip, networks):
            raise EngineUnavailable(
                f"the engine address {address.host} resolves to {ip}, which is outside this site;"
                " add its network to [site] networks in appliance.toml if it is yours",
                code="engine_not_local",
            )
    return ips[0]


def tls_context(address: Address) -> ssl.SSLContext | None:
    """The context for an https address: system trust store, host name checked."""
    return ssl.create_default_context() if address.tls else None
