"""The speech adapters: the host's own protocol, and another server's multipart form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.engines import Call
from appliance.engines.address import Address
from appliance.engines.transcribe import OpenAITranscribeEngine, TranscribeEngine
from appliance.engines.wire import Pool
from appliance.errors import ApplianceError
from appliance.types import Data, End

RESULT = {
    "language": "en",
    "language_probability": 1.0,
    "duration_s": 2.5,
    "text": "hello",
    "segments": [],
    "words": None,
}


def pool_of(server: Any) -> Pool:
    return Pool(Address(socket_path=server.address()), silence_s=5.0)


def call(stream: bool = False, **params: object) -> Call:
    return Call("/v1/transcribe", "whisper-large", b"RIFFaudio", stream, header=json.dumps(params))


async def test_the_file_goes_as_it_came_and_the_parameters_beside_it(server: Any) -> None:
    requests = await server.answer("200 OK", "application/json", json.dumps(RESULT).encode())
    (end,) = [e async for e in TranscribeEngine(pool_of(server)).stream(call(language="hi"))]
    assert isinstance(end, End)
    assert end.usage.audio_s == 2.5
    assert json.loads(end.body) == RESULT
    assert b'x-appliance-params: {"language": "hi"}' in requests[0]
    assert requests[0].endswith(b"RIFFaudio")


async def test_lines_become_pieces_and_the_result_the_end(server: Any) -> None:
    lines = [{"type": "delta", "text": "नम"}, {"type": "delta", "text": "स्ते"}, {"type": "done", "result": RESULT}]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    await server.answer("200 OK", "application/x-ndjson", body)
    first, second, end = [e async for e in TranscribeEngine(pool_of(server)).stream(call(stream=True))]
    assert isinstance(first, Data)
    assert isinstance(second, Data)
    assert (first.body + second.body).decode() == "नमस्ते"
    assert isinstance(end, End)
    assert json.loads(end.body)["text"] == "hello"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"type":"delta","text":"x"}\n', 502, "stream_cut"),
        (b'{"type":"error","status":400,"code":"no_audio","message":"no audio in it"}\n', 400, "no_audio"),
        (b"{broken\n", 502, "engine_failed"),
    ],
)
async def test_a_stream_that_does_not_end_in_a_result_is_an_error(
    server: Any, body: bytes, status: int, code: str
) -> None:
    await server.answer("200 OK", "application/x-ndjson", body)
    with pytest.raises(ApplianceError) as caught:
        [e async for e in TranscribeEngine(pool_of(server)).stream(call(stream=True))]
    assert (caught.value.status, caught.value.code) == (status, code)


async def test_another_server_gets_a_multipart_form(server: Any) -> None:
    segment = {"id": 0, "text": "hello", "start": 0.0, "end": 2.5, "no_speech_prob": None}
    answer = {"task": "transcribe", "language": "english", "duration": 2.5, "text": "hello", "segments": [segment]}
    requests = await server.answer("200 OK", "application/json", json.dumps(answer).encode())
    engine = OpenAITranscribeEngine(pool_of(server))
    data, end = [e async for e in engine.stream(call(stream=True, language="hi", prompt=None, word_timestamps=True))]
    assert data == Data(b"hello")
    assert isinstance(end, End)
    assert end.usage.audio_s == 2.5
    # what the other server left null must not reach a renderer that wants numbers
    assert "no_speech_prob" not in json.loads(end.body)["segments"][0]
    head, _, body = requests[0].partition(b"\r\n\r\n")
    boundary = head.split(b"boundary=")[1].split(b"\r\n")[0]
    fields = [
        (part.split(b'name="')[1].split(b'"')[0], part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n"))
        for part in body.split(b"--" + boundary)[1:-1]
    ]
    assert fields == [
        (b"model", b"whisper-large"),
        (b"response_format", b"verbose_json"),
        (b"timestamp_granularities[]", b"segment"),
        (b"timestamp_granularities[]", b"word"),
        (b"language", b"hi"),
        (b"file", b"RIFFaudio"),
    ]
