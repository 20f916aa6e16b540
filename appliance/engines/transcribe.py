"""Speech to text: the Whisper host on its socket, or another OpenAI-compatible server.

What it is: gives ``Data`` whose body is a piece of text while the host streams, and ``End`` whose body is
the host's result object as JSON. Which format the caller wanted is for ``api`` to render.
What it refuses to be: a decoder. Audio passes through as the bytes that were uploaded.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import Struct

from appliance.engines import Call
from appliance.engines.chat import raise_for_status
from appliance.engines.wire import Pool, Response
from appliance.errors import ApplianceError, BadRequest, EngineFailed, EngineGone
from appliance.types import Data, End, Event, Usage


class _Result(Struct):
    text: str
    duration_s: float
    heard_s: float | None = None  # of a detection, which hears a part


class _Line(Struct):
    type: str
    text: str = ""
    done: float = 0.0
    result: msgspec.Raw = msgspec.Raw(b"")
    status: int = 502
    code: str = "engine_failed"
    message: str = ""


_result_decoder = msgspec.json.Decoder(_Result)
_line_decoder = msgspec.json.Decoder(_Line)


class TranscribeEngine:
    """The Whisper host: raw audio in, result object out (see ``hosts/whisper``)."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def stream(self, call: Call) -> AsyncGenerator[Event]:
        """Events of ``call``; ``call.body`` is the uploaded file, ``call.header`` the host's parameters."""
        header = f"x-appliance-params: {call.header}\r\n"
        silence_s = None if call.stream else 0.0
        async with await self._pool.request(
            "POST", call.path, call.body, "application/octet-stream", header, silence_s
        ) as response:
            await raise_for_status(response)
            if b"ndjson" not in response.headers.get(b"content-type", b""):  # whole, as asked or all it can do
                yield _end(await response.read())
                return
            async with aclosing(_lines(response, call.progress)) as events:
                async for event in events:
                    yield event


class OpenAITranscribeEngine:
    """Another server's ``/v1/audio/transcriptions``; it answers whole, so a stream is one piece."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def stream(self, call: Call) -> AsyncGenerator[Event]:
        """Events of ``call``, translated to and from OpenAI's multipart form and ``verbose_json``."""
        params = msgspec.json.decode(call.header.encode())
        if own := [name for name in ("raw", "split", "verbatim") if params.get(name)]:
            raise BadRequest(
                f"the speech engine for {call.model!r} runs elsewhere and does not do this ({own[0]}); "
                "leave it out, or name a model that runs on this appliance",
                code="unsupported_parameter",
            )
        boundary = secrets.token_hex(16)
        body = _multipart(boundary, _form_fields(params, call.model), call.body)
        content_type = f"multipart/form-data; boundary={boundary}"
        path = "/v1/audio/transcriptions"
        async with await self._pool.request("POST", path, body, content_type, silence_s=0.0) as response:
            await raise_for_status(response)
            result = _from_verbose(await response.read())
        end = _end(result)
        if call.stream:
            yield Data(_result_decoder.decode(result).text.encode())
        yield end


def _end(result: bytes) -> End:
    try:
        decoded = _result_decoder.decode(result)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise EngineFailed("the speech engine's answer is not a result object") from None
    heard_s = decoded.duration_s if decoded.heard_s is None else decoded.heard_s
    return End(Usage(audio_s=heard_s), "stop", result)


async def _lines(response: Response, progress: Callable[[float], None] | None) -> AsyncGenerator[Event]:
    tail = b""
    async for piece in response.pieces():
        *lines, tail = (tail + piece).split(b"\n")
        for raw in lines:
            if not raw.strip():
                continue
            line = _decode_line(raw)
            if line.type == "delta":
                yield Data(line.text.encode())
            elif line.type == "progress" and progress is not None:
                progress(line.done)
            elif line.type == "done":
                yield _end(bytes(line.result))
                return
            elif line.type == "error":
                raise ApplianceError(line.message, code=line.code, status=line.status)
    raise EngineGone("the speech engine's stream ended before its result", code="stream_cut")


def _decode_line(raw: bytes) -> _Line:
    try:
        return _line_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise EngineFailed("the speech engine sent a line that is not valid JSON") from None


def _form_fields(params: dict[str, Any], model: str) -> list[tuple[str, str]]:
    fields = [("model", model), ("response_format", "verbose_json"), ("timestamp_granularities[]", "segment")]
    if params.get("word_timestamps"):
        fields.append(("timestamp_granularities[]", "word"))
    for name in ("language", "prompt", "temperature"):
        if params.get(name) is not None:
            fields.append((name, str(params[name])))
    return fields


def _multipart(boundary: str, fields: list[tuple[str, str]], audio: bytes) -> bytes:
    parts = [
        f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields
    ]
    head = f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="audio"\r\n\r\n'.encode()
    return b"".join([*parts, head, audio, f"\r\n--{boundary}--\r\n".encode()])


def _from_verbose(body: bytes) -> bytes:
    try:
        answer = msgspec.json.decode(body)
        return msgspec.json.encode(
            {
                "language": answer.get("language"),
                "language_probability": None,
                "duration_s": float(answer.get("duration") or 0.0),
                "text": str(answer["text"]),
                # vllm leaves null what it does not measure; absent, our renderer's own defaults apply
                "segments": [
                    {name: value for name, value in segment.items() if value is not None}
                    for segment in answer.get("segments") or []
                ],
                "words": answer.get("words"),
            }
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError, ValueError):
        raise EngineFailed("the other server's answer is not a verbose_json transcription") from None
