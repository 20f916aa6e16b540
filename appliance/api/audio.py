"""``/v1/audio/transcriptions``, ``…/translations`` and ``…/detect-language``: an upload in, text or a language out.

What it is: the multipart form, the pipeline, and the rendering of the host's result object.
What it refuses to be: a decoder or a fetcher. Audio comes in the request or not at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from appliance.api.http import Exchange
from appliance.api.idempotency import Copy, idempotency_of
from appliance.api.multipart import Form, read_form
from appliance.api.params import TranscriptionParams, parse_transcription
from appliance.api.service import Service
from appliance.api.sinks import StreamSink, WholeSink
from appliance.api.speech import SpeechRoute
from appliance.api.speech_translate import translated
from appliance.api.subtitles import delta_event, done_event, render
from appliance.api.turns import turn_of
from appliance.api.vouched import HEADER
from appliance.errors import BadRequest, EngineFailed
from appliance.languages import UnknownLanguage, resolve
from appliance.pipeline import Work
from appliance.types import Endpoint, Key

# form fields and boundaries around the file itself
_FORM_BYTES = 64 * 1024


class _WholeSink(WholeSink):
    """Renders the result once it is complete."""

    def __init__(self, exchange: Exchange, params: TranscriptionParams, copy: Copy | None) -> None:
        super().__init__(exchange, copy)
        self._params = params

    def render(self, body: bytes) -> bytes:
        """The transcript in the caller's format."""
        content_type, text = render(msgspec.json.decode(body), self._params)
        self.content_type = content_type.encode()
        return text


class _StreamSink(StreamSink):
    """OpenAI's ``transcript.text.delta`` and ``transcript.text.done`` events."""

    def __init__(self, exchange: Exchange, route: SpeechRoute, copy: Copy | None) -> None:
        super().__init__(exchange, copy)
        self._route = route

    async def data(self, body: bytes) -> None:
        """One piece of text as an event."""
        await super().data(delta_event(body.decode()))

    def render(self, body: bytes) -> bytes:
        """The whole text as the closing event."""
        return done_event(self._route.with_detection(msgspec.json.decode(body)))


async def _chunks(exchange: Exchange) -> AsyncIterator[bytes]:
    while True:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise exchange.gone()
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


class _LanguageSink(WholeSink):
    """What is spoken, in the codes callers use, with the tag used inside."""

    def render(self, body: bytes) -> bytes:
        """The host's detection in the caller's words."""
        try:
            found = msgspec.json.decode(body, type=_Detection)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise EngineFailed("the speech engine's detection cannot be read") from None
        likeliest = [{"language": code, "confidence": p} for code, p in found.languages]
        answer = {
            "language": found.language,
            "tag": _tag(found.language),
            "confidence": found.language_probability,
            "languages": likeliest,
            "usage": {"type": "duration", "seconds": round(found.duration_s, 3)},
        }
        return msgspec.json.encode(answer)


class _Detection(msgspec.Struct):
    language: str | None
    language_probability: float
    languages: list[tuple[str, float]]
    duration_s: float


def _tag(code: str | None) -> str | None:
    try:
        return None if code is None else resolve(code).tag
    except UnknownLanguage:
        return None


class Upload(msgspec.Struct, frozen=True):
    """A form that was read and checked, with who may hear it."""

    key: Key
    params: TranscriptionParams
    audio: bytes
    model: str
    route: SpeechRoute


async def read_upload(service: Service, exchange: Exchange, endpoint: Endpoint) -> Upload:
    """The caller's form. Raises ApplianceError."""
    return _checked(service, exchange, endpoint, await _form(service, exchange), ())


async def read_job_form(service: Service, exchange: Exchange) -> tuple[Form, Upload]:
    """The form of a job, which may name a webhook, and what it asks for. Raises ApplianceError."""
    form = await _form(service, exchange)
    return form, _checked(service, exchange, "audio.transcriptions", form, ("webhook_url",))


async def _form(service: Service, exchange: Exchange) -> Form:
    most_bytes = service.settings.server.max_audio_bytes
    exchange.refuse_declared(most_bytes + _FORM_BYTES, "server.max_audio_bytes")
    async with service.upload_time():
        return await read_form(exchange.header(b"content-type"), _chunks(exchange), most_bytes)


def _checked(service: Service, exchange: Exchange, endpoint: Endpoint, form: Form, beside: tuple[str, ...]) -> Upload:
    """``form`` without the fields ``beside``, checked. Raises ApplianceError."""
    key = service.authenticate(exchange)  # it may have been revoked while the recording came
    fields = {name: values for name, values in form.fields.items() if name not in beside}
    if form.file[:8].lower().startswith((b"http://", b"https://")):
        raise BadRequest(
            "'file' holds an address; audio comes in the request, this appliance fetches nothing",
            code="no_audio",
            param="file",
        )
    params = parse_transcription(Form(fields, form.file), "translate" if endpoint == "audio.translations" else None)
    if beside and params.mode == "translate":
        raise BadRequest(
            "jobs do not translate yet; send mode=transcribe, and the text to POST /v1/translate", param="mode"
        )
    model = service.model_for(params.model, "transcribe", key, endpoint)
    live = service.live.by(exchange.header(HEADER))
    route = SpeechRoute(service, key, params.model, model, params, rank="live" if live else "interactive")
    return Upload(key, params, form.file, model, route)


async def run_upload(
    service: Service,
    exchange: Exchange,
    endpoint: Endpoint,
    upload: Upload,
    work: Work,
    sink_for: Callable[[Copy | None], WholeSink | StreamSink],
) -> None:
    """Through the pipeline, with what it may cost held back."""
    params, server = upload.params, service.settings.server
    turn = turn_of(exchange, upload.key)
    header = params.host_header(server.request_deadline_s)
    shown = f"{params.response_format} {params.stream} {params.mode} {params.target} {params.speakers}"
    digested = f"{params.model} {shown} {header} ".encode() + upload.audio
    idempotency = idempotency_of(exchange, f"/v1/{endpoint.replace('.', '/')}", digested)
    request = service.request(exchange, upload.key, endpoint, params.model, work.stream)
    models = {work.model, upload.model, *upload.route.models}
    nusd = service.speech_ceiling(len(upload.audio), models, request.at_ms)
    sink = sink_for(None if idempotency is None else Copy())
    exchange.watch()
    await service.run(service.admission(request, turn, nusd, 0, idempotency), work, sink)


def transcription_route(
    service: Service, endpoint: Endpoint = "audio.transcriptions"
) -> Callable[[Exchange], Awaitable[None]]:
    """The handler over ``service``."""

    async def handle(exchange: Exchange) -> None:
        service.authenticate(exchange)
        with service.slot():
            upload = await read_upload(service, exchange, endpoint)
            work = upload.route.work(upload.audio)
            if upload.params.mode == "translate":
                work = translated(service, upload.key, upload.params, work)

            def sink_for(copy: Copy | None) -> WholeSink | StreamSink:
                stream = upload.params.stream
                if stream:
                    return _StreamSink(exchange, upload.route, copy)
                return _WholeSink(exchange, upload.params, copy)

            await run_upload(service, exchange, endpoint, upload, work, sink_for)

    return handle


def spoken_language_route(service: Service) -> Callable[[Exchange], Awaitable[None]]:
    """The handler of ``/v1/audio/detect-language`` over ``service``."""

    async def handle(exchange: Exchange) -> None:
        service.authenticate(exchange)
        with service.slot():
            upload = await read_upload(service, exchange, "audio.detect-language")
            if upload.params.stream:
                raise BadRequest("'stream' has no meaning here; leave it out", param="stream")
            work = upload.route.detection(upload.audio)

            def sink_for(copy: Copy | None) -> WholeSink:
                return _LanguageSink(exchange, copy)

            await run_upload(service, exchange, "audio.detect-language", upload, work, sink_for)

    return handle
