"""What the gateway makes of requests: what it sends on, what it strips, what it refuses and how."""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing
from typing import Any

import httpx
import pytest
from contract.stack import MAX_BODY_BYTES, Stack
from support import wait_until

CHAT = "/v1/chat/completions"


def _error(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    return error


def _post(stack: Stack, content: bytes, path: str = CHAT) -> httpx.Response:
    return stack.client.post(path, content=content, headers={"content-type": "application/json"})


# --- what the engine sees


def test_the_engine_gets_its_own_model_name_and_the_tenants_salt(stack: Stack) -> None:
    assert stack.ask("hello", model="default").status_code == 200
    body = stack.fake.last()["body"]
    (tenant,) = stack.rows("SELECT cache_salt FROM tenants")
    assert body["model"] == "fake"
    assert body["cache_salt"] == tenant["cache_salt"]
    assert len(body["cache_salt"]) >= 16


def test_a_caller_cannot_choose_the_salt(stack: Stack) -> None:
    assert "cache_salt" in _error(stack.ask("hello", cache_salt="mine"), 400, "unknown_parameter")["message"]


def test_the_key_stays_in_the_gateway(stack: Stack) -> None:
    stack.ask("hello")
    assert stack.key not in json.dumps(stack.fake.last())


def test_parameters_pass_through(stack: Stack) -> None:
    asked: dict[str, Any] = {"temperature": 0.5, "top_k": 3, "seed": 7, "stop": ["x"]}
    assert stack.ask("hello", max_completion_tokens=2, **asked).json()["choices"][0]["finish_reason"] == "length"
    body = stack.fake.last()["body"]
    assert {name: body[name] for name in asked} == asked


# --- usage


def _stream(stack: Stack, **extra: Any) -> tuple[list[dict[str, Any]], str]:
    response = stack.ask("hello", stream=True, **extra)
    lines = [line[6:] for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]], response.headers["x-request-id"]


def test_usage_is_metered_and_stripped_when_not_asked_for(stack: Stack) -> None:
    events, request_id = _stream(stack)
    assert stack.fake.last()["body"]["stream_options"]["include_usage"] is True
    assert all(event["choices"] and "usage" not in event for event in events)
    _, _, calls = stack.entry(request_id)
    assert (calls[0]["prompt_tokens"], calls[0]["completion_tokens"]) == (2, 6)


def test_usage_comes_when_asked_for(stack: Stack) -> None:
    events, request_id = _stream(stack, stream_options={"include_usage": True})
    assert [event["usage"]["completion_tokens"] for event in events if not event["choices"]] == [6]
    _, _, calls = stack.entry(request_id)
    assert calls[0]["completion_tokens"] == 6


def test_completions_stream_and_meter_alike(stack: Stack) -> None:
    response = stack.ask("hello", path="/v1/completions", stream=True)
    lines = [line[6:] for line in response.text.split("\n\n") if line]
    assert "".join(json.loads(line)["choices"][0]["text"] for line in lines[:-1]) == "t0 t1 t2 t3 t4 t5 "
    _, _, calls = stack.entry(response.headers["x-request-id"])
    assert calls[0]["completion_tokens"] == 6


# --- callers that leave


def _leave(stack: Stack, body: dict[str, Any], after_first_byte: bool) -> str:
    """Send ``body``, leave while it runs; the ledger's id of the request."""
    cancelled, before = stack.fake.metric("fake:cancelled_total"), stack.newest()
    with closing(stack.connect(body)) as raw:
        wait_until(lambda: stack.fake.metric("vllm:num_requests_running") == 1, 5, "the request runs")
        if after_first_byte:
            assert raw.recv(10)
    wait_until(lambda: stack.fake.metric("fake:cancelled_total") == cancelled + 1, 5, "the engine was told")
    assert stack.fake.metric("vllm:num_requests_running") == 0
    assert stack.newest() != before
    return stack.newest()


@pytest.mark.parametrize("after_first_byte", [False, True], ids=["before an answer", "in the stream"])
def test_a_caller_that_leaves_cancels_the_engines_work(stack: Stack, after_first_byte: bool) -> None:
    pace = "[[set:chunks=4000]][[set:chunk_ms=20]]" + ("" if after_first_byte else "[[set:ttft_ms=5000]]")
    body = {"model": "fake", "messages": [{"role": "user", "content": pace}], "stream": after_first_byte}
    request, attempts, calls = stack.entry(_leave(stack, body, after_first_byte))
    assert (request["status"], request["error_code"]) == ("cancelled", "client_left")
    assert [a["status"] for a in attempts] == ["cancelled"]
    assert [c["status"] for c in calls] == ["cancelled"]


def test_a_caller_that_does_not_read_holds_the_engine_back(stack: Stack) -> None:
    # 200,000 chunks are some 40 MB; what does not fit into buffers has to wait in the engine
    text = "[[set:chunks=200000]]"
    body = {"model": "fake", "messages": [{"role": "user", "content": text}], "stream": True}
    readings: list[float] = []

    def stands_still() -> bool:
        readings.append(stack.fake.metric("vllm:iteration_tokens_total_count"))
        return len(readings) > 20 and len(set(readings[-20:])) == 1

    with closing(stack.connect(body)):
        wait_until(lambda: stack.fake.metric("vllm:num_requests_running") == 1, 5, "the stream runs")
        wait_until(stands_still, 5, "the engine is held back")
        assert stack.fake.metric("vllm:num_requests_running") == 1
        assert stack.ask("hello").status_code == 200
    wait_until(lambda: stack.fake.metric("vllm:num_requests_running") == 0, 5, "it is given up when the caller leaves")


# --- refusals


def test_an_unknown_model_lists_the_known(stack: Stack) -> None:
    error = _error(stack.ask("hello", model="gpt-9"), 404, "model_not_found")
    assert error["param"] == "model"
    assert all(name in error["message"] for name in ("gpt-9", "fake", "default"))


def test_a_speech_model_is_no_chat_model(stack: Stack) -> None:
    error = _error(stack.ask("hello", model="whisper-1"), 400, "invalid_request")
    assert "/v1/audio/transcriptions" in error["message"]


def test_an_unknown_parameter_is_named(stack: Stack) -> None:
    assert "temperatur" in _error(stack.ask("hello", temperatur=1), 400, "unknown_parameter")["message"]


def test_too_long_a_context_names_both_numbers(stack: Stack) -> None:
    error = _error(stack.ask("x" * 40000), 400, "context_length_exceeded")
    assert "8192" in error["message"] and "10001" in error["message"]


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer nonsense"}, {"authorization": "Basic YTpi"}])
def test_without_a_key_nothing_is_said(stack: Stack, headers: dict[str, str]) -> None:
    response = httpx.post(f"{stack.base}{CHAT}", json={"model": "fake", "messages": []}, headers=headers)
    _error(response, 401, "invalid_api_key")
    assert httpx.get(f"{stack.base}/v1/models", headers=headers).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/moderations"),
        ("POST", "/v1/images/generations"),
        ("POST", "/v1/audio/speech"),
        ("GET", "/v1/files"),
        ("POST", "/v1/batches"),
        ("POST", "/v1/fine_tuning/jobs"),
        ("POST", "/v1/assistants"),
    ],
)
def test_the_rest_of_openais_surface_is_501(stack: Stack, method: str, path: str) -> None:
    _error(stack.client.request(method, path), 501, "not_implemented")


def test_no_such_route_and_no_such_method(stack: Stack) -> None:
    assert "/v1/nope" in _error(stack.client.get("/v1/nope"), 404, "not_found")["message"]
    refused = stack.client.put(CHAT)
    _error(refused, 405, "method_not_allowed")
    assert "POST" in refused.headers["allow"]


def test_too_large_a_body_names_the_limit_and_the_setting(stack: Stack) -> None:
    declared = _error(_post(stack, b"x" * (MAX_BODY_BYTES + 1)), 413, "request_too_large")
    assert str(MAX_BODY_BYTES) in declared["message"] and "server.max_body_bytes" in declared["message"]

    def chunks() -> Any:
        for _ in range(MAX_BODY_BYTES // 1024 // 1024 + 1):
            yield b"x" * 1024 * 1024

    _error(stack.client.post(CHAT, content=chunks()), 413, "request_too_large")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"model": "fake", "messages": [{"role": "user", "content": "\xc3\x28"}]}',
        b'{"model": "fake", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "fake", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
        b'{"model": "fake", "messages": [{"role": "user", "content": "x"}], "temperature": 1e999}',
        b'{"model": "fake", "messages": [{"role": "user", "content": "x"}], "n": 9}',
        b'{"model": "fake", "messages": "x"}',
        b'{"model": 3, "messages": []}',
        b'{"messages": [{"role": "user", "content": "x"}]}',
        b"[" * (10 * 1024 * 1024),
        b'{"a":' * 500_000,
        b'{"model": "fake", "messages": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
        b'{"model": "fake", "messages": [{"role": "user", "content": "x"}], "seed": ' + b"9" * 100_000 + b"}",
    ],
    ids=lambda body: body[:40].decode("latin-1") + f"… {len(body)} bytes",
)
@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_bodies_that_are_no_request(stack: Stack, path: str, body: bytes) -> None:
    started = time.monotonic()
    response = _post(stack, body, path)
    assert time.monotonic() - started < 5
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) < 2000


def test_refused_bodies_never_reach_the_engine(stack: Stack) -> None:
    stack.ask("[[set:id=marker]]")
    _post(stack, b'{"model": "fake", "messages": [{"role": "user", "content": "x"}], "n": 9}')
    assert "marker" in json.dumps(stack.fake.last()["body"])


def test_bytes_that_are_no_http_do_no_harm(stack: Stack) -> None:
    with closing(socket.create_connection(("127.0.0.1", stack.port), timeout=5)) as raw:
        raw.sendall(b"\x16\x03\x01\x00\xff" * 100 + b"\r\n\r\n")
        raw.recv(1000)
    assert stack.ask("hello").status_code == 200
