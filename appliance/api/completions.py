"""``/v1/chat/completions`` and ``/v1/completions``.

What it is: validation, what the request is about and may cost, then the pipeline with one of two sinks.
What it refuses to be: a rewriter of answers. Engine bytes pass as they are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

from appliance.api.http import Exchange
from appliance.api.idempotency import Copy, idempotency_of
from appliance.api.service import Service
from appliance.api.sinks import StreamSink, WholeSink
from appliance.api.turns import Thread, turn_of
from appliance.pipeline import Work
from appliance.types import Endpoint, Key

# What is held back for an answer whose length the caller does not bound: of tokens a minute, and of money where the
# model's context is not known.
_LIKELY_TOKENS = 512
_MOST_TOKENS = 8192
_BYTES_A_TOKEN = 3  # of tokens a minute; a byte-level tokenizer makes at most one a byte, and money is held for that
_encoder = msgspec.json.Encoder()


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
    @property
    def max_tokens(self) -> int | None: ...
    @property
    def user(self) -> str | None: ...
    @property
    def metadata(self) -> dict[str, str] | None: ...
    @property
    def messages(self) -> Sequence[Any] | None: ...
    @property
    def conversation(self) -> str | None: ...
    @property
    def previous_id(self) -> str | None: ...
    @property
    def tail(self) -> bytes: ...
    def engine_body(self, model: str, cache_salt: str | None) -> bytes: ...


def completion_route(
    service: Service, endpoint: Endpoint, path: str, parse: Callable[[bytes], CompletionParams]
) -> Callable[[Exchange], Awaitable[None]]:
    """The handler of one completion endpoint."""

    async def handle(exchange: Exchange) -> None:
        version = service.ledger.version
        key = service.authenticate(exchange)
        with service.slot():
            await answer(exchange, key, version)

    async def answer(exchange: Exchange, key: Key, version: int) -> None:
        server = service.settings.server
        body = await exchange.body_within(server.request_deadline_s, server.max_body_bytes, "server.max_body_bytes")
        if service.ledger.version != version or key.expires_ms is not None:
            key = service.authenticate(exchange)  # it may have been revoked while the body came
        params = parse(body)
        model = service.model_for(params.model, "chat", key, endpoint)
        messages = params.messages
        thread = None if messages is None else Thread(key, params.user, messages)
        turn = turn_of(
            exchange,
            key,
            user=params.user,
            metadata=params.metadata,
            conversation=params.conversation,
            previous_id=params.previous_id,
            thread=thread,
        )
        idempotency = idempotency_of(exchange, path, body)
        request = service.request(exchange, key, endpoint, params.model, params.stream)
        nusd, tokens = _reserve(service, model, params, request.at_ms)
        work = Work(
            path=path,
            model=model,
            stream=params.stream,
            deadline_s=server.request_deadline_s,
            body_for=params.engine_body,
            choices=params.choices,
            keep_usage=params.include_usage,
            thread=None if thread is None else thread.after,
            prompt=(lambda: _encoder.encode(messages).decode()) if messages is not None else None,
            tail=b"" if messages is None else params.tail,
        )
        copy = None if idempotency is None else Copy()
        sink = StreamSink(exchange, copy) if params.stream else WholeSink(exchange, copy)
        exchange.watch()
        hosted_nusd = service.decider.hosted_nusd(work.tail, key, turn, request.at_ms)
        await service.run(service.admission(request, turn, nusd, tokens, idempotency, hosted_nusd), work, sink)

    return handle


def _reserve(service: Service, model: str, params: CompletionParams, at_ms: int) -> tuple[int, int]:
    """Nano-USD and tokens to hold back while the request runs."""
    prompt, choices = len(params.tail), params.choices
    most = (params.max_tokens or service.context_of(model) or _MOST_TOKENS) * choices
    nusd = service.ledger.tariff.ceiling("local", model, prompt, most, 0.0, at_ms)
    return nusd, prompt // _BYTES_A_TOKEN + (params.max_tokens or _LIKELY_TOKENS) * choices
