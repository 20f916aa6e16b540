"""Gemini's answer as OpenAI's: finish reasons, usage, tool calls, blocked prompts, and no end that is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.errors import EngineFailed
from appliance.hosts.gemini_answer import FINISH, Reader, Streamed, finish_of, usage_of, whole
from appliance.hosts.hosted_signatures import Signatures


def piece(*parts: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}}
    if finish is not None:
        candidate["finish_reason"] = finish
    return {"candidates": [candidate], **more}


def answered(response: dict[str, Any], reader: Reader | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(whole(reader or Reader("req_1"), response, "m", "req_1", 7))
    return answer


def streamed(*pieces: dict[str, Any], usage: bool = True) -> list[Any]:
    stream = Streamed(Reader("req_1"), "m", "req_1", 7, usage)
    sent = b"".join(stream.feed(one) for one in pieces) + stream.end()
    lines = [line.removeprefix("data: ") for line in sent.decode().split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


USAGE = {
    "prompt_token_count": 10,
    "candidates_token_count": 4,
    "thoughts_token_count": 3,
    "cached_content_token_count": 6,
    "total_token_count": 17,
}


# --- finish reasons


@pytest.mark.parametrize("reason", FINISH)
def test_finish_reasons(reason: str) -> None:
    assert finish_of(reason, called=False) == FINISH[reason]


def test_the_table_is_the_references() -> None:
    filtered = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"}
    assert {**dict.fromkeys(filtered, "content_filter"), "STOP": "stop", "MAX_TOKENS": "length"} == FINISH


def test_a_stop_after_calls_is_tool_calls_and_a_cut_is_a_cut() -> None:
    assert finish_of("STOP", called=True) == "tool_calls"
    assert finish_of("MAX_TOKENS", called=True) == "length"


@pytest.mark.parametrize(
    "reason",
    [
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "MISSING_THOUGHT_SIGNATURE",
        "CONTINUATION",
        "OTHER",
        "FINISH_REASON_UNSPECIFIED",
        "SOMETHING_NEW",
        "",
    ],
)
def test_other_reasons_are_errors_and_never_a_stop(reason: str) -> None:
    with pytest.raises(EngineFailed) as caught:
        answered(piece({"text": "x"}, finish=reason))
    assert (caught.value.status, caught.value.code) == (502, "hosted_stopped")


def test_every_reason_google_genai_knows_has_a_verdict() -> None:
    """A new one in a new client is an error until somebody decides; this shows which there are."""
    from google.genai import types

    for reason in types.FinishReason:
        if reason.value in FINISH:
            assert finish_of(reason, called=False) == FINISH[reason.value]
        else:
            with pytest.raises(EngineFailed):
                finish_of(reason, called=False)


# --- usage


def test_usage_counts_thoughts_as_completion_and_cached_as_part_of_the_prompt() -> None:
    assert usage_of(USAGE) == {
        "prompt_tokens": 10,
        "completion_tokens": 7,
        "total_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 6, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }


def test_tokens_of_recordings_are_told_apart() -> None:
    details = [{"modality": "TEXT", "token_count": 2}, {"modality": "AUDIO", "token_count": 8}]
    assert usage_of({**USAGE, "prompt_tokens_details": details})["prompt_tokens_details"]["audio_tokens"] == 8


# --- whole answers


def test_a_whole_answer() -> None:
    answer = answered(piece({"text": "New "}, {"text": "Delhi"}, finish="STOP", usage_metadata=USAGE))
    assert (answer["id"], answer["object"], answer["model"], answer["created"]) == (
        "chatcmpl-req_1", "chat.completion", "m", 7,
    )  # fmt: skip
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "New Delhi"},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"]["total_tokens"] == 17


def test_thoughts_are_not_shown() -> None:
    answer = answered(piece({"text": "hm", "thought": True}, {"text": "yes"}, finish="STOP"))
    assert answer["choices"][0]["message"]["content"] == "yes"


def test_a_tool_call_carries_its_signature_and_is_remembered() -> None:
    kept: dict[str, bytes] = {}
    reader = Reader("req_1", kept.__setitem__)
    calls = (
        {"function_call": {"name": "ring", "args": {"to": "माँ"}}, "thought_signature": b"\xff\x00"},
        {"function_call": {"id": "theirs", "name": "look"}},
    )
    choice = answered(piece(*calls, finish="STOP"), reader)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    first, second = choice["message"]["tool_calls"]
    assert (choice["message"]["content"], first["type"], "index" in first) == (None, "function", False)
    assert (first["function"]["name"], json.loads(first["function"]["arguments"])) == ("ring", {"to": "माँ"})
    assert first["extra_content"] == {"google": {"thought_signature": "/wA="}}
    assert (second["id"], second["function"]["arguments"], "extra_content" in second) == ("theirs", "{}", False)
    assert kept == {first["id"]: b"\xff\x00"}


def test_a_blocked_prompt_is_a_filtered_answer_without_candidates() -> None:
    blocked = {"prompt_feedback": {"block_reason": "PROHIBITED_CONTENT"}, "usage_metadata": {"prompt_token_count": 5}}
    choice = answered(blocked)["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("content_filter", "")
    assert "PROHIBITED_CONTENT" in choice["message"]["refusal"]


@pytest.mark.parametrize("response", [{}, {"candidates": []}, piece({"text": "half"})])
def test_an_answer_without_an_end_is_an_error(response: dict[str, Any]) -> None:
    with pytest.raises(EngineFailed) as caught:
        answered(response)
    assert caught.value.code == "stream_cut"


# --- streams


def test_a_stream_in_openais_events() -> None:
    *chunks, usage, done = streamed(
        piece({"text": "New "}), piece({"text": "Delhi"}, finish="STOP", usage_metadata=USAGE)
    )
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "New "},
        {"content": "Delhi"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop"]
    assert {(chunk["id"], chunk["object"]) for chunk in chunks} == {("chatcmpl-req_1", "chat.completion.chunk")}
    assert (usage["choices"], usage["usage"]["completion_tokens"], done) == ([], 7, "[DONE]")


def test_usage_is_left_out_where_nobody_asked() -> None:
    assert all("usage" not in chunk for chunk in streamed(piece({"text": "x"}, finish="STOP"), usage=False)[:-1])


def test_calls_in_pieces_are_numbered_and_an_end_may_come_by_itself() -> None:
    call = {"function_call": {"name": "f", "args": {}}}
    first, second, end, *_ = streamed(piece(call), piece(call), piece(finish="STOP"))
    assert [c["choices"][0]["delta"]["tool_calls"][0]["index"] for c in (first, second)] == [0, 1]
    assert end["choices"][0]["finish_reason"] == "tool_calls"


def test_a_blocked_prompt_streams_an_opening_and_a_refusal() -> None:
    chunk, *_ = streamed({"prompt_feedback": {"block_reason": "SAFETY"}})
    assert chunk["choices"][0]["finish_reason"] == "content_filter"
    assert chunk["choices"][0]["delta"]["role"] == "assistant"
    assert "SAFETY" in chunk["choices"][0]["delta"]["refusal"]


def test_a_stream_that_just_stops_is_cut() -> None:
    with pytest.raises(EngineFailed, match="cut"):
        streamed(piece({"text": "half"}))


def test_an_unknown_reason_in_a_stream_is_an_error() -> None:
    with pytest.raises(EngineFailed, match="UNEXPECTED_TOOL_CALL"):
        streamed(piece({"text": "x"}), piece(finish="UNEXPECTED_TOOL_CALL"))


# --- signatures


def test_signatures_are_kept_by_tenant_and_the_oldest_go_first() -> None:
    kept = Signatures(most=2, most_bytes=100)
    kept.keep("a", "1", b"x")
    assert (kept.of("a", "1"), kept.of("b", "1")) == (b"x", None)
    kept.keep("a", "2", b"y")
    kept.keep("a", "3", b"z")
    assert [kept.of("a", call) for call in "123"] == [None, b"y", b"z"]


def test_signatures_are_bounded_in_bytes() -> None:
    kept = Signatures(most=10, most_bytes=100)
    kept.keep("a", "1", b"x" * 60)
    kept.keep("a", "1", b"y" * 60)
    assert kept.of("a", "1") == b"y" * 60
    kept.keep("a", "2", b"z" * 60)
    assert (kept.of("a", "1"), kept.of("a", "2")) == (None, b"z" * 60)
