"""``/v1/chat/completions`` and ``/v1/completions``.

What it is: validation, then the pipeline with one of two sinks: whole answers and streams.
What it refuses to be: a rewriter of answers. Engine bytes pass as they are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from appliance.api.http import Exchange
from appliance.api.service import Service
from appliance.pipeline import Work
from appliance.types import Attempt, Endpoint, Key

_SSE = b"text/event-stream; charset=utf-8"


class CompletionParams(Protocol):
    """What both completion endpoints' validated parameters offer."""

    @property
    def model(self) -> str: ...
    @property
    def stream(self) -> bool: ...
    @property
    def include_usage(self) -> bool: ...
    @property
    def choices(self) -> int: ...
    def engine_body(self, model: str, cache_salt: str | None) -> bytes: ...


def route_headers(attempt: Attempt) -> dict[str, str]:
    """What a caller may know about the decision."""
    return {"x-appliance-route": attempt.route, "x-appliance-reason": str(attempt.reason)}


class WholeSink:
    """Sends one JSON answer when it is complete."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._headers: dict[str, str] = {}

    async def begin(self, attempt: Attempt) -> None:
        """Keep the decision for the headers; nothing leaves before the outcome is durable."""
        self._headers = route_headers(attempt)

    async def data(self, body: bytes) -> None:
        """Whole answers have no pieces."""
        raise AssertionError("an engine streamed into a whole answer")

    def render(self, body: bytes) -> bytes:
        """The engine's own bytes."""
        return body

    async def end(self, body: bytes) -> None:
        """Send everything."""
        await self._exchange.respond(200, body, headers=self._headers)


class StreamSink:
    """Passes server-sent events on as they come."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def begin(self, attempt: Attempt) -> None:
        """Send the head; ``x-accel-buffering`` keeps nginx from collecting the stream."""
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no", **route_headers(attempt)}
        await self._exchange.start_stream(_SSE, headers)

    async def data(self, body: bytes) -> None:
        """Pass a piece on."""
        await self._exchange.write(body)

    def render(self, body: bytes) -> bytes:
        """The engine's own bytes."""
        return body

    async def end(self, body: bytes) -> None:
        """Pass the closing event on."""
        await self._exchange.write(body, more=False)


def completion_route(
    service: Service, endpoint: Endpoint, path: str, parse: Callable[[bytes], CompletionParams]
) -> Callable[[Exchange], Awaitable[None]]:
    """The handler of one completion endpoint."""

    async def handle(exchange: Exchange) -> None:
        key = service.authenticate(exchange)
        with service.slot():
            await answer(exchange, key)

    async def answer(exchange: Exchange, key: Key) -> None:
        server = service.settings.server
        async with service.upload_time():
            body = await exchange.body(server.max_body_bytes, "server.max_body_bytes")
        params = parse(body)
        work = Work(
            path=path,
            model=service.model_for(params.model, "chat"),
            stream=params.stream,
            deadline_s=server.request_deadline_s,
            body_for=params.engine_body,
            choices=params.choices,
            keep_usage=params.include_usage,
        )
        sink = StreamSink(exchange) if params.stream else WholeSink(exchange)
        exchange.watch()
        await service.run(service.request(exchange, key, endpoint, params.model, params.stream), work, sink)

    return handle
