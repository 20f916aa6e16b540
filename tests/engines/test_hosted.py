"""The adapter to the hosted process: permits travel, its codes pass, and its 429 is nobody's fault here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.engines import Call
from appliance.engines.address import Address
from appliance.engines.hosted import HostedEngine
from appliance.engines.wire import Pool
from appliance.errors import ApplianceError
from appliance.types import End

WHOLE = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    },
}


def engine_at(server: Any) -> HostedEngine:
    return HostedEngine(Pool(Address(socket_path=server.address()), silence_s=5.0))


def call(permit: str = "p.s", stream: bool = False) -> Call:
    return Call("/v1/chat/completions", "m", b'{"model":"m"}', stream, request_id="req_7", permit=permit)


async def test_without_a_permit_nothing_is_connected(server: Any) -> None:
    requests = await server.answer("200 OK", "application/json", json.dumps(WHOLE).encode())
    with pytest.raises(ApplianceError) as caught:
        _ = [event async for event in engine_at(server).stream(call(""))]
    assert (caught.value.code, server.connections, requests) == ("permit_missing", 0, [])


async def test_the_permit_travels_beside_the_very_bytes(server: Any) -> None:
    requests = await server.answer("200 OK", "application/json", json.dumps(WHOLE).encode())
    (end,) = [event async for event in engine_at(server).stream(call())]
    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert b"x-appliance-permit: p.s" in head and b"x-request-id: req_7" in head
    assert body == b'{"model":"m"}'
    assert isinstance(end, End)
    usage = end.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.audio_tokens) == (9, 2, 4)
    assert (usage.completion_tokens, usage.thinking_tokens) == (5, 3)


@pytest.mark.parametrize(
    ("status", "code", "wanted"),
    [
        ("403 Forbidden", "permit_region", (503, "permit_region")),
        ("429 Too Many", "hosted_rate_limited", (503, "hosted_rate_limited")),
        ("503 Busy", "hosted_overloaded", (503, "hosted_overloaded")),
        ("502 Bad", "stream_cut", (502, "stream_cut")),
        ("504 Late", "engine_silent", (504, "engine_silent")),
        ("400 Bad", "invalid_request", (400, "invalid_request")),
        ("307 Moved", None, (502, "engine_failed")),
        ("500 Oops", None, (502, "engine_failed")),
    ],
)
async def test_statuses(server: Any, status: str, code: str | None, wanted: tuple[int, str]) -> None:
    body = {"error": {"message": "one sentence", "code": code}}
    await server.answer(status, "application/json", json.dumps(body).encode(), "retry-after: 17\r\n")
    with pytest.raises(ApplianceError) as caught:
        _ = [event async for event in engine_at(server).stream(call())]
    assert (caught.value.status, caught.value.code) == wanted
    if code in ("hosted_rate_limited", "hosted_overloaded"):
        assert caught.value.headers == {"retry-after": "17"}
    if code is not None:
        assert "one sentence" in caught.value.message


async def test_an_error_in_a_stream_keeps_its_code(server: Any) -> None:
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
    error = b'data: {"error":{"message":"busy","type":"server_error","param":null,"code":"hosted_overloaded"}}\n\n'
    await server.answer("200 OK", "text/event-stream", chunk + error)
    with pytest.raises(ApplianceError) as caught:
        _ = [event async for event in engine_at(server).stream(call(stream=True))]
    assert (caught.value.status, caught.value.code) == (502, "hosted_overloaded")


async def test_a_stream_of_the_wrong_type_is_refused(server: Any) -> None:
    await server.answer("200 OK", "text/html", b"<html>")
    with pytest.raises(ApplianceError, match="content type"):
        _ = [event async for event in engine_at(server).stream(call(stream=True))]
