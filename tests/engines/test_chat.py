"""The chat adapter: statuses become our errors, whole answers are checked, streams end or raise."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from appliance.engines import Call
from appliance.engines.address import Address
from appliance.engines.chat import ChatEngine
from appliance.engines.wire import Pool
from appliance.errors import ApplianceError
from appliance.types import Data, End

WHOLE = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "New Delhi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": None},
}


def engine_at(server: Any) -> ChatEngine:
    return ChatEngine(Pool(Address(socket_path=server.address()), silence_s=5.0))


async def events(server: Any, stream: bool = False, choices: int = 1) -> list[Data | End]:
    call = Call("/v1/chat/completions", "m", b"{}", stream, choices)
    return [event async for event in engine_at(server).stream(call)]


async def test_a_whole_answer_passes_byte_for_byte(server: Any) -> None:
    body = json.dumps(WHOLE, indent=1).encode()
    await server.answer("200 OK", "application/json", body)
    (end,) = await events(server)
    assert isinstance(end, End)
    assert (end.body, end.finish_reason, end.usage.prompt_tokens, end.usage.completion_tokens) == (body, "stop", 9, 3)


@pytest.mark.parametrize(
    ("status", "body", "expected_status", "code"),
    [
        ("400 Bad", {"error": {"message": "This model's maximum context length is 8 tokens; you sent 9"}}, 400,
         "context_length_exceeded"),
        ("400 Bad", {"error": {"message": "bad schema", "param": "response_format", "code": 400}}, 400,
         "invalid_request"),
        ("400 Bad", {"error": {"message": '"auto" tool choice requires --enable-auto-tool-choice'}}, 400,
         "tools_not_supported"),
        ("400 Bad", {"error": {"message": "max_tokens=9 cannot be greater than max_model_len=8", "code": 400}}, 400,
         "context_length_exceeded"),
        ("504 Late", {"error": {"message": "too slow", "code": "deadline_exceeded"}}, 504, "deadline_exceeded"),
        ("413 Big", {"error": {"message": "too long", "code": "audio_too_long"}}, 413, "audio_too_long"),
        ("404 No", {"error": {"message": "no such model"}}, 503, "engine_unavailable"),
        ("429 Slow", {}, 429, "rate_limited"),
        ("500 Oops", {"error": {"message": "Traceback: secret path"}}, 502, "engine_failed"),
        ("302 Found", {}, 502, "engine_failed"),
    ],
)  # fmt: skip
async def test_statuses(server: Any, status: str, body: object, expected_status: int, code: str) -> None:
    await server.answer(status, "application/json", json.dumps(body).encode(), "retry-after: 7\r\nlocation: /x\r\n")
    with pytest.raises(ApplianceError) as caught:
        await events(server)
    assert (caught.value.status, caught.value.code) == (expected_status, code)
    assert "secret" not in caught.value.message
    if expected_status == 429:
        assert caught.value.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"choices": [', id="truncated"),
        pytest.param(b'{"x": ' + b"[" * 100_000, id="nested"),
        pytest.param(b"<html>", id="not JSON"),
        pytest.param(b'{"choices": []}', id="no choices"),
        pytest.param(b'{"choices": [{"index": 0, "finish_reason": null}]}', id="unfinished"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
    ],
)
async def test_what_is_not_an_answer_is_an_error(server: Any, body: bytes) -> None:
    await server.answer("200 OK", "application/json", body)
    with pytest.raises(ApplianceError) as caught:
        await events(server)
    assert caught.value.status == 502


async def test_a_stream_ends_with_usage_and_closing_event(server: Any) -> None:
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"length"}]}\n\n'
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    await server.answer("200 OK", "text/event-stream", chunk + usage + b"data: [DONE]\n\n")
    data, end = await events(server, stream=True)
    assert data == Data(chunk)
    assert isinstance(end, End)
    assert (end.body, end.finish_reason, end.usage.completion_tokens) == (b"data: [DONE]\n\n", "length", 1)


async def test_a_stream_of_the_wrong_content_type_is_refused(server: Any) -> None:
    await server.answer("200 OK", "text/html", b"<html></html>")
    with pytest.raises(ApplianceError, match="content type 'text/html'"):
        await events(server, stream=True)


async def test_the_connection_is_kept_after_a_stream_whose_end_comes_late(server: Any) -> None:
    chunk = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

    async def late_end(reader: Any, writer: Any) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            await writer.drain()
            await asyncio.sleep(0.001)  # uvicorn, too, writes the terminating chunk apart
            writer.write(b"0\r\n\r\n")

    await server.start(late_end)
    engine = engine_at(server)
    for _ in range(3):
        assert isinstance([e async for e in engine.stream(Call("/x", "m", b"", True))][-1], End)
    assert server.connections == 1


async def test_a_whole_answer_may_take_longer_than_a_stream_may_pause(server: Any) -> None:
    body = json.dumps(WHOLE).encode()

    async def slow(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.3)  # the engine's time to generate, six times the bound on a stream's gaps
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    await server.start(slow)
    engine = ChatEngine(Pool(Address(socket_path=server.address()), silence_s=0.05))
    (end,) = [e async for e in engine.stream(Call("/v1/chat/completions", "m", b"", False))]
    assert isinstance(end, End)
    with pytest.raises(ApplianceError) as caught:
        [e async for e in engine.stream(Call("/v1/chat/completions", "m", b"", True))]
    assert caught.value.code == "engine_silent"
