"""The load generator against the fake engine: it counts what happened and hides no error."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from appliance_bench.load import Connection, LoadPlan, LoadReport, Run, chat_request, run_load


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    argv = [sys.executable, "-m", "appliance.hosts.fake", "--port", "0", "--chunks", "4"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as fake:
        assert fake.stdout is not None
        yield fake.stdout.readline().split()[-1] + "/v1/chat/completions"
        fake.terminate()


def _run(url: str, message: str = "hello", stream: bool = False, **plan: Any) -> LoadReport:
    host, port, request = chat_request(url, message=message, model="fake", stream=stream, key=None)
    return asyncio.run(
        run_load(LoadPlan(host, port, request, **{"connections": 2, "seconds": 0.2, "warmup_s": 0.05, **plan}))
    )


def test_the_closed_loop_counts_whole_answers(url: str) -> None:
    report = _run(url)
    assert report.errors == {}
    assert report.requests == report.latency_ms.n > 10
    assert report.requests_per_s == pytest.approx(report.requests / report.seconds, rel=0.01)
    assert report.latency_ms.p50 <= report.latency_ms.p99 <= report.latency_ms.max


def test_a_stream_is_timed_event_by_event(url: str) -> None:
    report = _run(url, "[[set:chunks=4]][[set:chunk_ms=10]]", stream=True, expect_events=6, seconds=0.3)
    assert report.errors == {}
    assert report.events >= report.requests * 6 - 6
    assert 5 < report.gap_ms.p50 < 15
    assert report.ttft_ms.p50 < report.latency_ms.p50
    assert 0 < report.reads <= report.events


def test_a_wrong_number_of_events_is_an_error_not_an_answer(url: str) -> None:
    report = _run(url, "[[fault:ends_early=2]]", stream=True, expect_events=6)
    assert report.requests == 0
    assert set(report.errors) == {"2 events"}


def test_error_statuses_are_counted_by_status(url: str) -> None:
    report = _run(url, "[[fault:status=503]]")
    assert report.requests == 0
    assert set(report.errors) == {"status 503"}


def test_cut_connections_are_errors_and_replaced(url: str) -> None:
    report = _run(url, "[[fault:cut_after=2]]", stream=True)
    assert report.requests == 0
    assert report.errors["cut"] > 2


def test_the_open_loop_keeps_its_rate(url: str) -> None:
    report = _run(url, rate=200.0, seconds=1.0, connections=8)
    assert report.errors == {}
    assert 120 < report.requests < 280


def test_the_open_loop_counts_the_wait_for_a_connection(url: str) -> None:
    # 100 requests/s on one connection that needs 20 ms each: the queue grows, and latency must show it
    report = _run(url, "[[set:ttft_ms=20]]", rate=100.0, seconds=0.6, connections=1)
    assert report.latency_ms.max > 100


def test_the_key_is_sent_and_only_plain_http_is_spoken() -> None:
    host, port, request = chat_request("http://h:81/x", message="m", model="a", stream=True, key="secret")
    head, _, body = request.partition(b"\r\n\r\n")
    assert (host, port) == ("h", 81)
    assert b"POST /x HTTP/1.1" in head and b"authorization: Bearer secret" in head
    assert json.loads(body) == {"model": "a", "messages": [{"role": "user", "content": "m"}], "stream": True}
    with pytest.raises(ValueError, match="plain HTTP only"):
        chat_request("https://h/x", message="m", model="a", stream=False, key=None)


@pytest.mark.parametrize("cut", range(1, 20))
def test_an_event_end_split_between_reads_is_counted_once(cut: int) -> None:
    async def count() -> int:
        run = Run(LoadPlan("h", 1, b"", 1, 1.0), asyncio.get_running_loop())
        run.record.open = True
        connection = Connection(run)
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n"
        body = b"data: one\n\ndata: t\n\n."
        connection.data_received(head)
        connection.data_received(body[:cut])
        connection.data_received(body[cut:20])
        return run.record.events

    assert asyncio.run(count()) == 2


def test_the_command_prints_one_json_object(url: str) -> None:
    argv = [sys.executable, "-m", "appliance_bench.load", "--url", url, "--seconds", "0.2", "--warmup", "0"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["requests"] > 0
    assert report["lag_ms"]["n"] > 0 and report["cpu_share"] > 0
