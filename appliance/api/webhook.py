"""Telling a listed host that a job has ended: signed, to addresses of this site only, never more than the fact.

What it is: one POST in the form of Standard Webhooks (``webhook-id``, ``webhook-timestamp``, ``webhook-signature``),
which openai-python's ``webhooks.verify_signature`` checks. The body says which job ended how; the transcript is fetched
with a key.
What it refuses to be: a way out. A URL has to begin with an origin that the operator listed, its host has to resolve
into ``[site] networks`` at the moment of connecting, and redirects are not followed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import socket
import ssl
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from appliance.errors import BadRequest
from appliance.networks import Network, OutsideSite, local_ip

_TIMEOUT_S = 10.0
_PREFIX = "whsec_"


class NotDelivered(Exception):
    """The host did not take it; the text is for the log."""


def origin_of(url: str) -> str:
    """``https://host:port`` of ``url``. Raises ValueError for what is no http(s) URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise ValueError("not an http or https URL without credentials")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def check(url: str, listed: Sequence[str]) -> str:
    """``url``, if its origin is one of ``listed``. Raises BadRequest."""
    try:
        known = len(url) <= 2048 and url.isprintable() and origin_of(url) in {origin_of(each) for each in listed}
    except ValueError:
        known = False
    if not known:
        have = ", ".join(listed) or "none"
        raise BadRequest(
            f"'webhook_url' is not at a host this appliance may call ({have}); ask its operator to list it in"
            " speech.webhook_hosts, or ask for the job's status instead",
            code="webhook_not_listed",
            param="webhook_url",
        )
    return url


def key_of(secret: str) -> bytes:
    """The signing key of a ``whsec_…`` secret. Raises ValueError."""
    key = base64.b64decode(secret.strip().removeprefix(_PREFIX), validate=True)
    if len(key) < 24:
        raise ValueError("a webhook secret holds at least 24 bytes")
    return key


def signed(key: bytes, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The headers of a message."""
    payload = f"{message_id}.{timestamp_s}.".encode() + body
    signature = base64.b64encode(hmac.new(key, payload, hashlib.sha256).digest()).decode()
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": f"v1,{signature}",
    }


def deliver(url: str, headers: dict[str, str], body: bytes, networks: Sequence[Network]) -> None:
    """POST once. Blocks up to 10 s a step. Raises NotDelivered."""
    parts = urlsplit(url)
    try:
        connection = _connected(parts, networks)
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", target, body, headers)
            status = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, OutsideSite) as e:
        raise NotDelivered(f"{type(e).__name__}: {e}") from None
    if not 200 <= status < 300:
        raise NotDelivered(f"it answered {status}")


def _connected(parts: SplitResult, networks: Sequence[Network]) -> http.client.HTTPConnection:
    """A connection to the address that was checked, which the name may no longer stand for a moment later."""
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    plain = socket.create_connection((local_ip(host, port, networks), port), timeout=_TIMEOUT_S)
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host) if secure else plain
    return connection
