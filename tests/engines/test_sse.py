"""The scanner: bytes untouched, the gateway's own usage chunk gone, cuts found, whatever the piece sizes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.sse import Scanner
from appliance.errors import EngineFailed


def event(payload: object) -> bytes:
    return b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"


def delta(text: str, finish: str | None = None, index: int = 0) -> bytes:
    return event({"id": "1", "choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish}]})


USAGE = event(
    {
        "choices": [],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}},
    }
)
DONE = b"data: [DONE]\n\n"
ANSWER = [delta("New"), delta(" Delhi"), delta("", "stop")]


def feed(scanner: Scanner, stream: bytes, sizes: list[int]) -> bytes:
    out = b""
    for size in sizes:
        piece, stream = stream[:size], stream[size:]
        if piece:
            out += scanner.feed(piece)
    return out + (scanner.feed(stream) if stream else b"")


@given(st.lists(st.integers(1, 90), max_size=40))
def test_any_cutting_into_pieces_gives_the_same_bytes(sizes: list[int]) -> None:
    scanner = Scanner(choices=1, keep_usage=False)
    out = feed(scanner, b"".join([*ANSWER, USAGE, DONE]), sizes)
    assert out == b"".join(ANSWER)
    usage, reason = scanner.finish()
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, reason) == (7, 3, 2, "stop")


def test_usage_stays_when_the_caller_asked_for_it() -> None:
    scanner = Scanner(choices=1, keep_usage=True)
    assert scanner.feed(b"".join([*ANSWER, USAGE, DONE])) == b"".join([*ANSWER, USAGE])


def test_text_that_looks_like_protocol_passes_untouched() -> None:
    tricky = delta('say "finish_reason":"stop" and "usage":{ and [DONE] and "error":{')
    scanner = Scanner(choices=1, keep_usage=False)
    assert scanner.feed(tricky) == tricky
    with pytest.raises(EngineFailed):
        scanner.finish()


@pytest.mark.parametrize(
    ("events", "choices"),
    [
        pytest.param([delta("New")], 1, id="no finish reason"),
        pytest.param([delta("New"), DONE], 1, id="done without finish reason"),
        pytest.param([*ANSWER], 1, id="finish reason without done"),
        pytest.param([*ANSWER, DONE], 2, id="one of two choices finished"),
        pytest.param([], 1, id="nothing at all"),
    ],
)
def test_a_cut_stream_never_counts_as_finished(events: list[bytes], choices: int) -> None:
    scanner = Scanner(choices, keep_usage=False)
    scanner.feed(b"".join(events)) if events else None
    with pytest.raises(EngineFailed) as caught:
        scanner.finish()
    assert caught.value.code == "stream_cut"


def test_an_error_object_inside_the_stream_is_an_error() -> None:
    scanner = Scanner(choices=1, keep_usage=False)
    with pytest.raises(EngineFailed, match="out of memory"):
        scanner.feed(delta("New") + event({"error": {"message": "out of memory", "code": 500}}))


def test_a_closing_event_that_is_not_json_is_an_error() -> None:
    scanner = Scanner(choices=1, keep_usage=False)
    with pytest.raises(EngineFailed, match="not valid JSON"):
        scanner.feed(b'data: {"choices":[{"finish_reason":"stop"\n\n')


def test_an_event_without_end_is_bounded() -> None:
    scanner = Scanner(choices=1, keep_usage=False)
    with pytest.raises(EngineFailed, match="4 MiB"):
        for _ in range(6):
            scanner.feed(b"x" * 1024 * 1024)


def test_crlf_line_ends_and_comments_are_understood() -> None:
    scanner = Scanner(choices=1, keep_usage=False)
    raw = b": ping\n\n" + b"".join([*ANSWER, DONE])
    out = scanner.feed(raw.replace(b"\n", b"\r\n"))
    assert out == b": ping\n\n" + b"".join(ANSWER)
    assert scanner.finish()[1] == "stop"


def test_an_event_with_a_name_is_read_too() -> None:
    scanner = Scanner(choices=1, keep_usage=False)
    with pytest.raises(EngineFailed, match="out of memory"):
        scanner.feed(b'event: error\ndata: {"error": {"message": "out of memory"}}\n\n')


def test_bytes_that_are_not_text_are_an_error() -> None:
    scanner = Scanner(choices=1, keep_usage=False)
    with pytest.raises(EngineFailed, match="not valid JSON"):
        scanner.feed(b'data: {"choices":[{"finish_reason":"\xff"}]}\n\n')
