"""What is on this site: loopback and the networks of ``[site]``.

What it is: one question asked of an IP, and of every IP a name resolves to.
What it refuses to be: a resolver with a cache. A name is asked about each time, because it can move.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class OutsideSite(Exception):
    """An address that is not on this site, or does not resolve; the text is half a sentence."""


class Unresolved(OutsideSite):
    """A name that does not resolve now, and may later."""


def parse_networks(blocks: Iterable[str]) -> tuple[Network, ...]:
    """``[site] networks`` as values."""
    return tuple(ipaddress.ip_network(block) for block in blocks)


def is_local(ip: str, networks: Sequence[Network]) -> bool:
    """Loopback, or inside one of the site's networks. IPv4 inside IPv6 counts as IPv4."""
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or any(address in network for network in networks)


def local_ip(host: str, port: int, networks: Sequence[Network]) -> str:
    """The IP to connect to. Every address ``host`` resolves to has to be local. Blocks. Raises OutsideSite,
    of which Unresolved is a kind."""
    try:
        found = [str(item[4][0]) for item in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError as e:
        raise Unresolved(f"{host} does not resolve: {e}") from None
    for ip in found:
        if not is_local(ip, networks):
            raise OutsideSite(
                f"{host} is {ip}, which is outside this site; add its network to [site] networks if it is yours"
            )
    return found[0]
