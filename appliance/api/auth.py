"""Who is calling: bearer keys, checked in memory, compared in constant time by the ledger.

What it is: ``Authorization: Bearer ak-…`` to a ``Key``, or 401 in the envelope.
What it refuses to be: a cache of its own. The ledger's key table is the only one, and revocation reaches it
within a second.
"""

from __future__ import annotations

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


def is_operator(exchange: Exchange, ledger: Ledger) -> bool:
    """Whether the request carries a live key of role operator or admin."""
    return bool(exchange.header(b"authorization")) and authenticate(exchange, ledger).role != "client"


def require_operator(exchange: Exchange, ledger: Ledger) -> None:
    """Raises Unauthorized or Forbidden. Where a request came from proves nothing behind a proxy."""
    if authenticate(exchange, ledger).role == "client":
        raise Forbidden("this route needs a key of role operator or admin")
