"""Values back in an answer of OpenAI's shape, wherever its pieces were cut."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from appliance.policy.redaction import Redaction
from appliance.policy.restoring import RestoredStream, restored_answer, restored_body
from appliance.types import Answer, ToolUse

ANSWER = "Call [PHONE_1] (yes, [PHONE_1]) or write [EMAIL_1]; [note] stays, and [PHO"
WANTED = "Call 9876543210 (yes, 9876543210) or write a.b@example.com; [note] stays, and [PHO"


def redaction() -> Redaction:
    made = Redaction()
    made.hide("phone 9876543210, mail a.b@example.com")
    return made


def event(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n"


def read(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:])["choices"][0] for line in stream.split(b"\n\n") if line]


def pieces(text: str, cuts: list[int]) -> list[str]:
    parts, at = [], 0
    for cut in cuts:
        parts.append(text[at : at + cut])
        at += cut
    return [part for part in [*parts, text[at:]] if part]


@given(st.lists(st.integers(1, 9), max_size=60), st.booleans())
def test_text_is_whole_again_however_it_was_cut(cuts: list[int], ends_apart: bool) -> None:
    stream, parts = RestoredStream(redaction()), pieces(ANSWER, cuts)
    if ends_apart:
        events = [*(event({"content": part}) for part in parts), event({}, "stop")]
    else:
        events = [event({"content": part}, "stop" if n == len(parts) - 1 else None) for n, part in enumerate(parts)]
    got = read(b"".join(stream.feed(one) for one in events))
    assert "".join(choice["delta"].get("content", "") for choice in got) == WANTED
    assert got[-1]["finish_reason"] == "stop"


@given(st.lists(st.integers(1, 9), max_size=30))
def test_arguments_of_two_calls_are_kept_apart(cuts: list[int]) -> None:
    stream = RestoredStream(redaction())
    texts = ['{"to": "[PHONE_1]"}', '{"to": "[EMAIL_1]", "list": [1, 2']
    sent = []
    for n, text in enumerate(texts):
        for part in pieces(text, cuts):
            sent.append(event({"tool_calls": [{"index": n, "function": {"arguments": part}}]}))
    got: dict[int, str] = {}
    for choice in read(b"".join(stream.feed(one) for one in [*sent, event({}, "tool_calls")])):
        for call in choice["delta"].get("tool_calls", ()):
            got[call["index"]] = got.get(call["index"], "") + call["function"]["arguments"]
    assert got == {0: '{"to": "9876543210"}', 1: '{"to": "a.b@example.com", "list": [1, 2'}


def test_choices_are_kept_apart() -> None:
    stream = RestoredStream(redaction())
    sent = event({"content": "[PHO"}) + event({"content": "[EMA"}, index=1) + event({"content": "NE_1]"})
    got = read(stream.feed(sent + event({"content": "IL_1]"}, "stop", index=1)))
    texts: dict[int, str] = {}
    for choice in got:
        texts[choice["index"]] = texts.get(choice["index"], "") + choice["delta"]["content"]
    assert texts == {0: "9876543210", 1: "a.b@example.com"}


def test_what_holds_nothing_passes_as_the_bytes_it_was() -> None:
    stream = RestoredStream(redaction())
    odd = b'data: {"choices":[{"index":0,  "delta":{"content":"plain \\u0928"},"finish_reason":null}]}\n\n'
    for untouched in (odd, b": ping\n\n", b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n', b"data: [DONE]\n\n"):
        assert stream.feed(untouched) == untouched


def test_a_whole_body_and_what_is_remembered_of_it() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "ring", "arguments": '{"to": "[PHONE_1]"}'}}
    body = {"choices": [{"index": 0, "message": {"content": "to [EMAIL_1]", "tool_calls": [call]}}]}
    message = json.loads(restored_body(json.dumps(body).encode(), redaction()))["choices"][0]["message"]
    assert message["content"] == "to a.b@example.com"
    assert message["tool_calls"][0]["function"]["arguments"] == '{"to": "9876543210"}'
    said = Answer("to [EMAIL_1]", (ToolUse("c", "ring", '{"to": "[PHONE_1]"}'),))
    assert restored_answer(said, redaction()) == Answer(
        "to a.b@example.com", (ToolUse("c", "ring", '{"to": "9876543210"}'),)
    )


def test_a_body_without_stand_ins_or_no_json_is_given_back() -> None:
    for body in (b'{"choices": [{"message": {"content":  null}}]}', b"not json", b"[1]"):
        assert restored_body(body, redaction()) is body
