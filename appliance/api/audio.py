"""``/v1/audio/transcriptions``: an upload in, text in the form that was asked for out.

What it is: the multipart form, the pipeline, and the rendering of the host's result object.
What it refuses to be: a decoder or a fetcher. Audio comes in the request or not at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from appliance.api.completions import route_headers
from appliance.api.http import Exchange
from appliance.api.multipart import read_form
from appliance.api.params import TranscriptionParams, parse_transcription
from appliance.api.service import Service
from appliance.api.subtitles import delta_event, done_event, render
from appliance.pipeline import Work
from appliance.types import Attempt, Key

_SSE = b"text/event-stream; charset=utf-8"
# form fields and boundaries around the file itself
_FORM_BYTES = 64 * 1024


class _WholeSink:
    """Renders the result once it is complete."""

    def __init__(self, exchange: Exchange, params: TranscriptionParams) -> None:
        self._exchange = exchange
        self._params = params
        self._headers: dict[str, str] = {}
        self._content_type = b""

    async def begin(self, attempt: Attempt) -> None:
        """Keep the decision for the headers."""
        self._headers = route_headers(attempt)

    def render(self, body: bytes) -> bytes:
        """The transcript in the caller's format."""
        content_type, text = render(msgspec.json.decode(body), self._params)
        self._content_type = content_type.encode()
        return text

    async def data(self, body: bytes) -> None:
        """Whole answers have no pieces."""
        raise AssertionError("an engine streamed into a whole answer")

    async def end(self, body: bytes) -> None:
        """Send everything."""
        await self._exchange.respond(200, body, self._content_type, self._headers)


class _StreamSink:
    """OpenAI's ``transcript.text.delta`` and ``transcript.text.done`` events."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def begin(self, attempt: Attempt) -> None:
        """Send the head."""
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no", **route_headers(attempt)}
        await self._exchange.start_stream(_SSE, headers)

    async def data(self, body: bytes) -> None:
        """One piece of text as an event."""
        await self._exchange.write(delta_event(body.decode()))

    def render(self, body: bytes) -> bytes:
        """The whole text as the closing event."""
        return done_event(msgspec.json.decode(body))

    async def end(self, body: bytes) -> None:
        """Send the closing event."""
        await self._exchange.write(body, more=False)


async def _chunks(exchange: Exchange) -> AsyncIterator[bytes]:
    while True:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise exchange.gone()
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


def transcription_route(service: Service) -> Callable[[Exchange], Awaitable[None]]:
    """The handler over ``service``."""

    async def handle(exchange: Exchange) -> None:
        key = service.authenticate(exchange)
        with service.slot():
            await answer(exchange, key)

    async def answer(exchange: Exchange, key: Key) -> None:
        server = service.settings.server
        exchange.refuse_declared(server.max_audio_bytes + _FORM_BYTES, "server.max_audio_bytes")
        async with service.upload_time():
            form = await read_form(exchange.header(b"content-type"), _chunks(exchange), server.max_audio_bytes)
        params = parse_transcription(form)
        work = Work(
            path="/v1/transcribe",
            model=service.model_for(params.model, "transcribe"),
            stream=params.stream,
            deadline_s=server.request_deadline_s,
            body_for=lambda _model, _salt: form.file,
            header=params.host_header(server.request_deadline_s),
        )
        sink = _StreamSink(exchange) if params.stream else _WholeSink(exchange, params)
        exchange.watch()
        await service.run(
            service.request(exchange, key, "audio.transcriptions", params.model, params.stream), work, sink
        )

    return handle
