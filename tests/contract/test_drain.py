"""SIGTERM to a gateway with requests in it: 503 for new ones, an end for old ones, an error event past drain_s."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest
from contract.stack import Stack
from support import wait_until


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A stack of its own, with drain_s = 1: its gateway is stopped."""
    running = Stack()
    yield running
    running.stop()


def test_a_stream_that_outlasts_drain_s_ends_in_an_error_event(stack: Stack) -> None:
    body = {"model": "fake", "messages": [{"role": "user", "content": "[[set:chunk_ms=300]][[set:chunks=60]]"}]}
    with stack.client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as stream:
        lines = stream.iter_lines()
        next(lines)
        stack.gateway.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in str(stack.client.get("/health/ready").json()["reasons"]), 1, "it drains")
        refused = stack.ask("hello")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
        assert refused.headers["retry-after"] and refused.headers["connection"] == "close"
        last = [line for line in lines if line][-1]
        request_id = stream.headers["x-request-id"]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "shutting_down"
    assert stack.gateway.wait(10) == 0
    assert stack.rows("SELECT status, error_code FROM requests WHERE id = ?", request_id) == [
        {"status": "cancelled", "error_code": "shutting_down"}
    ]
    assert stack.rows("SELECT id FROM requests WHERE status = 'open'") == []


def test_an_idle_gateway_stops_at_once(stack: Stack) -> None:
    assert stack.ask("hello").status_code == 200
    stack.gateway.send_signal(signal.SIGTERM)
    assert stack.gateway.wait(5) == 0
