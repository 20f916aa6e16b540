"""Who is calling: bearer keys, checked in memory, compared in constant time by the ledger.

What it is: ``Authorization: Bearer ak-…`` to a ``Key``, or 401 in the envelope.
What it refuses to be: a cache of its own. The ledger's key table is the only one, and revocation reaches it
within a second.
"""

from __future__ import annotations

import ipaddress

from appliance.api.http import Exchange
from appliance.errors import Forbidden, Unauthorized
from appliance.ledger import Ledger
from appliance.types import Key

_HOW = "send 'Authorization: Bearer <key>'; `appliance keys create NAME` makes one"


def authenticate(exchange: Exchange, ledger: Ledger) -> Key:
    """The caller's key. Raises Unauthorized."""
    header = exchange.header(b"authorization")
    if not header:
        raise Unauthorized(f"no API key in the request; {_HOW}", headers={"www-authenticate": "Bearer"})
    scheme, _, secret = header.partition(" ")
    key = ledger.authenticate(secret.strip()) if scheme.lower() == "bearer" else None
    if key is None:
        raise Unauthorized(
            f"this API key is not known here, or it was revoked; {_HOW}", headers={"www-authenticate": "Bearer"}
        )
    return key


def require_operator(exchange: Exchange, ledger: Ledger) -> None:
    """Let loopback and operator keys in: /metrics names engines and volumes, which are nobody else's."""
    client = exchange.scope.get("client")
    # a request that a proxy on this machine passed on comes from loopback too
    direct = not exchange.header(b"authorization") and not exchange.header(b"x-forwarded-for")
    if client is not None and direct and ipaddress.ip_address(client[0]).is_loopback:
        return
    if authenticate(exchange, ledger).role == "client":
        raise Forbidden("this route needs a key of role operator or admin")
