"""``Idempotency-Key``: the same request, sent again, gets the same answer and runs once.

What it is: the header and what it came with as a value for the ledger, which keeps the answer for ten minutes; and a
sink that collects what was sent.
What it refuses to be: a cache. Another body under the same key is a 409, and what failed runs again.
"""

from __future__ import annotations

import hashlib

from appliance.api.http import Exchange
from appliance.errors import BadRequest
from appliance.types import Idempotency, Kept

_LONGEST = 255
MOST_KEPT_BYTES = 1024 * 1024
TOO_LARGE = -1  # the status of an answer that was not kept; the ledger says so to whoever asks again


def idempotency_of(exchange: Exchange, path: str, body: bytes) -> Idempotency | None:
    """The caller's key with a digest of path and body; None without the header. Raises BadRequest."""
    name = exchange.header(b"idempotency-key")
    if not name:
        return None
    if len(name) > _LONGEST or not name.isascii() or not name.isprintable():
        raise BadRequest(
            f"Idempotency-Key must be 1 to {_LONGEST} printable ASCII characters, such as a UUID",
            param="Idempotency-Key",
        )
    digest = hashlib.sha256()
    # the headers that say which conversation it is are part of the request: another one must not get this one's answer
    for part in (path, exchange.header(b"x-conversation-id"), exchange.header(b"x-appliance-metadata")):
        raw = part.encode()
        digest.update(b"%d:%s" % (len(raw), raw))
    digest.update(body)
    return Idempotency(name, digest.digest())


class Copy:
    """What has been sent of an answer, as long as it is small enough to keep."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        """A piece that goes out now."""
        self._size += len(piece)
        if self._size <= MOST_KEPT_BYTES:
            self._pieces.append(piece)

    def kept(self, request_id: str, last: bytes, content_type: bytes, headers: dict[str, str]) -> Kept:
        """The answer with its last piece, which goes out once this is recorded."""
        if self._size + len(last) > MOST_KEPT_BYTES:
            return Kept(request_id, TOO_LARGE, "", {}, b"")
        return Kept(request_id, 200, content_type.decode("latin-1"), headers, b"".join(self._pieces) + last)


async def replay(exchange: Exchange, kept: Kept) -> None:
    """Send a kept answer, under the id it had."""
    exchange.request_id = kept.request_id
    headers = {**kept.headers, "idempotent-replayed": "true"}
    await exchange.respond(kept.http_status, kept.body, kept.content_type.encode("latin-1"), headers)
