"""The fault catalogue through a real gateway: a correct answer or a correct error, in time, and in the ledger.

For each fault, streamed and not: the caller gets the whole answer, or an OpenAI-shaped error within the
deadline (in a stream that has begun an error event and no ``[DONE]``); the ledger holds exactly one row
with the same verdict, one attempt and one call. The official client sees the same.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple

import httpx
import openai
import pytest
from contract.stack import DEADLINE_S, FakeProcess, Stack
from support import wait_until

TEXT = "t0 t1 t2 t3 t4 t5 "
# Events that came in one read are judged as one, so an error in the first read is still a status. Paced apart,
# the stream has begun by then.
PACE = "[[set:chunk_ms=5]]"


class Want(NamedTuple):
    """What the caller gets. ``status`` 200 with a ``code`` is an error event in a stream that had begun."""

    status: int
    code: str | None = None
    text: str = TEXT


OK = Want(200)
FAILED = Want(502, "engine_failed")
CUT = Want(502, "stream_cut")
# A whole answer is silent until it is complete, so only the deadline tells a hang from hard work.
LATE = Want(504, "deadline_exceeded")
SILENT = Want(504, "engine_silent")
BROKE_OFF = Want(200, "engine_failed")
STREAM_CUT = Want(200, "stream_cut")

# fault, whole answer, stream
CATALOGUE: list[tuple[str, Want, Want]] = [
    ("hang", LATE, SILENT),
    ("connect_hang", LATE, SILENT),
    ("drop", FAILED, FAILED),
    ("headers_then_silence", LATE, SILENT),
    ("status=400", Want(400, "invalid_request"), Want(400, "invalid_request")),
    ("status=429", Want(429, "rate_limited"), Want(429, "rate_limited")),
    ("status=500", FAILED, FAILED),
    ("status=502", FAILED, FAILED),
    ("status=503", Want(503, "engine_unavailable"), Want(503, "engine_unavailable")),
    ("malformed_json", FAILED, BROKE_OFF),
    ("truncated_json", FAILED, STREAM_CUT),
    ("cut_before_first", FAILED, FAILED),
    ("cut_after=3", FAILED, BROKE_OFF),
    ("no_finish_reason", CUT, STREAM_CUT),
    ("no_done", OK, STREAM_CUT),
    ("ends_early=3", FAILED, STREAM_CUT),
    ("error_in_stream=3", FAILED, BROKE_OFF),
    ("slow_drip=10", OK, OK),
    ("duplicate_chunks", OK, Want(200, None, "t0 t0 t1 t1 t2 t2 t3 t3 t4 t4 t5 t5 ")),
    ("wrong_content_type", FAILED, FAILED),
    ("wrong_content_type=text/plain", OK, FAILED),
    ("body_larger_than_promised", FAILED, BROKE_OFF),
    ("body_smaller_than_promised", FAILED, OK),
    ("garbage", FAILED, FAILED),
    ("redirect=http://127.0.0.1:9/", FAILED, FAILED),
    ("empty_choices", CUT, STREAM_CUT),
]
_IDS = [fault for fault, _, _ in CATALOGUE]
_WHOLE = [(fault, whole) for fault, whole, _ in CATALOGUE]
_STREAMED = [(fault, streamed) for fault, _, streamed in CATALOGUE]


def _envelope(body: Any) -> dict[str, Any]:
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and error["message"]
    assert isinstance(error["type"], str) and isinstance(error["code"], str)
    return error


def _events(response: httpx.Response) -> list[Any]:
    """The events of a stream, each valid; ``[DONE]`` as a string."""
    assert response.text.endswith("\n\n")
    lines = [line for line in response.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


def _check_ledger(stack: Stack, request_id: str, want: Want) -> None:
    request, attempts, calls = stack.entry(request_id)
    status = "ok" if want.code is None else "failed"
    assert (request["status"], request["http_status"], request["error_code"]) == (status, want.status, want.code)
    assert [(a["engine"], a["status"], a["error_code"]) for a in attempts] == [("chat", status, want.code)]
    assert [(c["engine"], c["model"], c["status"]) for c in calls] == [("chat", "fake", status)]
    if want.code is None:
        assert calls[0]["completion_tokens"] == len(TEXT.split())
        assert calls[0]["finish_reason"] == "stop"


@pytest.mark.parametrize(("fault", "want"), _WHOLE, ids=_IDS)
def test_a_whole_answer(stack: Stack, fault: str, want: Want) -> None:
    started = time.monotonic()
    response = stack.ask(f"[[fault:{fault}]]")
    assert time.monotonic() - started < DEADLINE_S + 2
    assert response.status_code == want.status
    assert response.headers["content-type"] == "application/json"
    if want.code is None:
        assert response.json()["choices"][0]["message"]["content"] == want.text
    else:
        assert _envelope(response.json())["code"] == want.code
    _check_ledger(stack, response.headers["x-request-id"], want)


@pytest.mark.parametrize(("fault", "want"), _STREAMED, ids=_IDS)
def test_a_stream(stack: Stack, fault: str, want: Want) -> None:
    started = time.monotonic()
    response = stack.ask(f"{PACE}[[fault:{fault}]]", stream=True)
    assert time.monotonic() - started < DEADLINE_S
    assert response.status_code == want.status
    if want.status != 200:
        assert response.headers["content-type"] == "application/json"
        assert _envelope(response.json())["code"] == want.code
    else:
        assert response.headers["content-type"].startswith("text/event-stream")
        _check_events(_events(response), want)
    _check_ledger(stack, response.headers["x-request-id"], want)


def _check_events(events: list[Any], want: Want) -> None:
    *chunks, last = events
    assert all(chunk["object"] == "chat.completion.chunk" and chunk["choices"] is not None for chunk in chunks)
    if want.code is not None:
        assert "[DONE]" not in events
        assert _envelope(last)["code"] == want.code
        return
    assert last == "[DONE]"
    assert "".join(c["choices"][0]["delta"]["content"] for c in chunks) == want.text


@pytest.fixture(scope="module")
def client(stack: Stack) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{stack.base}/v1", api_key=stack.key, max_retries=0, timeout=DEADLINE_S + 2)


@pytest.mark.parametrize(("fault", "want"), _WHOLE, ids=_IDS)
def test_a_whole_answer_through_the_official_client(client: openai.OpenAI, fault: str, want: Want) -> None:
    def ask() -> str | None:
        messages: list[Any] = [{"role": "user", "content": f"[[fault:{fault}]]"}]
        return client.chat.completions.create(model="fake", messages=messages).choices[0].message.content

    if want.code is None:
        assert ask() == want.text
        return
    with pytest.raises(openai.APIStatusError) as raised:
        ask()
    assert (raised.value.status_code, raised.value.code) == (want.status, want.code)


@pytest.mark.parametrize(("fault", "want"), _STREAMED, ids=_IDS)
def test_a_stream_through_the_official_client(client: openai.OpenAI, fault: str, want: Want) -> None:
    def ask() -> str:
        messages: list[Any] = [{"role": "user", "content": f"{PACE}[[fault:{fault}]]"}]
        with client.chat.completions.create(model="fake", messages=messages, stream=True) as stream:
            return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

    if want.code is None:
        assert ask() == want.text
        return
    with pytest.raises(openai.APIError) as raised:
        ask()
    assert raised.value.code == want.code


def test_an_error_in_the_first_read_is_an_honest_status(stack: Stack) -> None:
    response = stack.ask("[[fault:error_in_stream=1]][[set:burst=9]]", stream=True)
    assert (response.status_code, _envelope(response.json())["code"]) == (502, "engine_failed")
    _check_ledger(stack, response.headers["x-request-id"], FAILED)


def test_retry_after_is_passed_on(stack: Stack) -> None:
    refused = stack.ask("[[fault:status=429]][[set:retry_after=7]]")
    assert refused.headers["retry-after"] == "7"
    assert int(stack.ask("[[fault:status=429]]").headers["retry-after"]) >= 1


@pytest.mark.parametrize("fault", ["status=400", "status=500", "cut_after=1"])
def test_an_engine_that_answered_is_not_asked_again(stack: Stack, fault: str) -> None:
    name = f"once-{fault}"
    stack.ask(f"[[fault:{fault}]][[set:id={name}]]")
    assert stack.fake.last()["seen"][name] == 1


def test_a_kept_connection_that_drops_is_replaced_at_most_once(stack: Stack) -> None:
    # a request that kills its worker must not be sent down every kept connection in turn
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(lambda _: stack.ask("[[set:ttft_ms=200]]"), range(8)))
    stack.ask("[[fault:drop]][[set:id=poison]]")
    assert stack.fake.last()["seen"]["poison"] <= 2


def test_a_redirect_is_not_followed(stack: Stack) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as elsewhere:
        elsewhere.setblocking(False)
        port = elsewhere.getsockname()[1]
        assert stack.ask(f"[[fault:redirect=http://127.0.0.1:{port}/v1/chat/completions]]").status_code == 502
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_a_huge_event_is_refused_and_a_huge_answer_passes(stack: Stack) -> None:
    size = 6 * 1024 * 1024
    whole = stack.ask(f"[[fault:huge_line={size}]]")
    assert whole.status_code == 200
    assert len(whole.json()["choices"][0]["message"]["content"]) > size
    streamed = stack.ask(f"{PACE}[[fault:huge_line={size}]]", stream=True)
    assert _envelope(_events(streamed)[-1])["code"] == "engine_failed"
    _check_ledger(stack, streamed.headers["x-request-id"], BROKE_OFF)


def test_the_engine_takes_requests_after_every_fault(stack: Stack) -> None:
    for fault, _, _ in CATALOGUE:
        if fault.split("=")[0] not in ("hang", "connect_hang", "headers_then_silence", "slow_drip"):
            stack.ask(f"[[fault:{fault}]]", stream=True)
        assert stack.ask("hello").json()["choices"][0]["message"]["content"] == TEXT
    wait_until(lambda: stack.fake.metric("vllm:num_requests_running") == 0, 5, "nothing is left in the engine")


def test_an_engine_that_is_not_there(stack: Stack) -> None:
    refused = stack.ask("hello", model="frail")
    assert (refused.status_code, _envelope(refused.json())["code"]) == (503, "engine_unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    request, attempts, calls = stack.entry(refused.headers["x-request-id"])
    assert (request["status"], request["http_status"], attempts, calls) == ("refused", 503, [], [])


@pytest.mark.parametrize("streamed", [False, True])
def test_an_engine_that_dies_of_memory(stack: Stack, frail: Callable[[], FakeProcess], streamed: bool) -> None:
    engine = frail()
    response = stack.ask(f"{PACE}[[fault:oom_exit=2]]", model="frail", stream=streamed)
    assert engine.process.wait(5) == 1
    error = _envelope(_events(response)[-1] if streamed else response.json())
    assert error["code"] == "engine_failed"
    request, attempts, _ = stack.entry(response.headers["x-request-id"])
    assert (request["status"], attempts[0]["engine"], attempts[0]["status"]) == ("failed", "frail", "failed")
    assert stack.ask("hello").status_code == 200


def test_an_engine_that_freezes(stack: Stack, frail: Callable[[], FakeProcess]) -> None:
    engine = frail()
    os.kill(engine.process.pid, signal.SIGSTOP)
    try:
        response = stack.ask("hello", model="frail", stream=True)
    finally:
        os.kill(engine.process.pid, signal.SIGCONT)
    assert (response.status_code, _envelope(response.json())["code"]) == (504, "engine_silent")


def test_the_deadline_ends_a_stream_that_never_falls_silent(stack: Stack) -> None:
    started = time.monotonic()
    response = stack.ask("[[set:chunks=4000]][[set:chunk_ms=20]]", stream=True)
    assert DEADLINE_S - 1 < time.monotonic() - started < DEADLINE_S + 2
    assert _envelope(_events(response)[-1])["code"] == "deadline_exceeded"
    wait_until(lambda: stack.fake.metric("vllm:num_requests_running") == 0, 5, "the engine was told to stop")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("hang", 504, "deadline_exceeded"),
        ("status=500", 502, "engine_failed"),
        ("malformed_json", 502, "engine_failed"),
        ("truncated_json", 502, "engine_failed"),
        ("cut_after=1", 502, "engine_failed"),
        ("garbage", 502, "engine_failed"),
    ],
)
def test_the_speech_engine_fails_as_cleanly(stack: Stack, fault: str, status: int, code: str) -> None:
    form = {"model": "whisper-1", "prompt": f"[[fault:{fault}]]"}
    response = stack.client.post("/v1/audio/transcriptions", data=form, files={"file": ("a.wav", b"\0" * 32000)})
    assert (response.status_code, _envelope(response.json())["code"]) == (status, code)
    request, attempts, calls = stack.entry(response.headers["x-request-id"])
    assert (request["status"], len(attempts), len(calls)) == ("failed", 1, 1)
