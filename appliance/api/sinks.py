"""Where answers go: whole ones and streams, with the headers that say what was decided.

What it is: ``Sink``s of the pipeline over one exchange. Endpoints override how the closing bytes and the pieces look.
What it refuses to be: a rewriter of answers. Unless an endpoint says otherwise, engine bytes pass as they are.
"""

from __future__ import annotations

from appliance.api.http import Exchange
from appliance.api.idempotency import Copy, replay
from appliance.ledger.limits import limit_headers
from appliance.types import Admitted, Attempt, Kept

_SSE = b"text/event-stream; charset=utf-8"


def decision_headers(attempt: Attempt, admitted: Admitted) -> dict[str, str]:
    """What a caller may know about the decision, its conversation and its limits."""
    headers = {
        "x-appliance-route": attempt.route,
        "x-appliance-reason": attempt.reason.value,
    }
    if admitted.conversation_id:
        headers["x-conversation-id"] = admitted.conversation_id
    if admitted.requests is not None:
        headers.update(limit_headers("requests", admitted.requests))
    if admitted.tokens is not None:
        headers.update(limit_headers("tokens", admitted.tokens))
    return headers


class _Sink:
    """What both share. ``copy`` is given where the answer is to be kept."""

    content_type = b"application/json"

    def __init__(self, exchange: Exchange, copy: Copy | None = None) -> None:
        self.exchange = exchange
        self.headers: dict[str, str] = {}
        self.copy = copy

    async def begin(self, attempt: Attempt, admitted: Admitted) -> None:
        """Remember what was decided."""
        self.headers = decision_headers(attempt, admitted)

    def render(self, body: bytes) -> bytes:
        """The closing bytes in the caller's format."""
        return body

    def kept(self, body: bytes) -> Kept | None:
        """The whole answer, ``body`` being its closing bytes; None unless it is to be kept."""
        if self.copy is None:
            return None
        return self.copy.kept(self.exchange.request_id, body, self.content_type, self.headers)

    async def replay(self, kept: Kept) -> None:
        """Send an answer that was kept."""
        await replay(self.exchange, kept)


class WholeSink(_Sink):
    """Sends one answer when it is complete; nothing leaves before the outcome is durable."""

    async def data(self, body: bytes) -> None:
        """Whole answers have no pieces."""
        raise AssertionError("an engine streamed into a whole answer")

    async def end(self, body: bytes) -> None:
        """Send everything."""
        await self.exchange.respond(200, body, self.content_type, self.headers)


class StreamSink(_Sink):
    """Passes server-sent events on as they come."""

    content_type = _SSE

    async def begin(self, attempt: Attempt, admitted: Admitted) -> None:
        """Send the head; ``x-accel-buffering`` keeps nginx from collecting the stream."""
        self.headers = {
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
            **decision_headers(attempt, admitted),
        }
        await self.exchange.start_stream(self.content_type, self.headers)

    async def data(self, body: bytes) -> None:
        """Pass a piece on."""
        if self.copy is not None:
            self.copy.add(body)
        await self.exchange.write(body)

    async def end(self, body: bytes) -> None:
        """Pass the closing event on."""
        await self.exchange.write(body, more=False)
