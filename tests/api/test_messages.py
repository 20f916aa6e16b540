"""Messages: what each role may carry, echoes of earlier answers, and media that must not be fetched."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.api.params_chat import parse_chat
from appliance.errors import BadRequest

PIXEL = "data:image/png;base64,iVBORw0KGgo="
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def sent(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages as the engine gets them."""
    raw = msgspec.json.encode({"model": "m", "messages": messages})
    decoded: list[dict[str, Any]] = msgspec.json.decode(parse_chat(raw).engine_body("m", None))["messages"]
    return decoded


def refused(*messages: dict[str, Any]) -> BadRequest:
    """The error for these messages."""
    with pytest.raises(BadRequest) as e:
        sent(*messages)
    return e.value


def user(*parts: Any) -> dict[str, Any]:
    """A user message of content parts."""
    return {"role": "user", "content": list(parts)}


def image(url: str) -> dict[str, Any]:
    """An image part."""
    return {"type": "image_url", "image_url": {"url": url}}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "system", "content": "s"},
        {"role": "system", "content": [{"type": "text", "text": "s"}], "name": "n"},
        {"role": "user", "content": "नमस्ते"},
        {"role": "user", "content": ""},
        user({"type": "text", "text": "t"}, image(PIXEL)),
        user({"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}),
        user({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}),
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "tool", "content": [{"type": "text", "text": "42"}], "tool_call_id": "c1"},
    ],
)
def test_passes_unchanged(message: dict[str, Any]) -> None:
    assert sent(message) == [message]


def test_developer_becomes_system_which_every_template_knows() -> None:
    assert sent({"role": "developer", "content": "d", "name": "n"}) == [{"role": "system", "content": "d", "name": "n"}]


def test_an_answer_can_be_echoed_as_it_came() -> None:
    echo = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": [{**CALL, "index": 0}],
        "reasoning_content": "because",
    }
    assert sent(echo) == [{"role": "assistant", "tool_calls": [CALL], "reasoning": "because"}]


def test_an_echo_without_calls_or_with_only_a_refusal() -> None:
    assert sent({"role": "assistant", "content": "a", "tool_calls": []}) == [{"role": "assistant", "content": "a"}]
    assert sent({"role": "assistant", "content": None, "refusal": "no"}) == [{"role": "assistant", "content": "no"}]


def test_cache_marks_on_parts_are_dropped() -> None:
    part = {"type": "text", "text": "t", "prompt_cache_breakpoint": {"mode": "explicit"}}
    assert sent(user(part)) == [user({"type": "text", "text": "t"})]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"content": "x"}, "messages[0].role"),
        ({"role": "wizard", "content": "x"}, "messages[0].role"),
        ({"role": "function", "name": "f", "content": "x"}, "messages[0].role"),
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": None}, "messages[0].content"),
        ({"role": "user", "content": 5}, "messages[0].content"),
        ({"role": "user", "content": []}, "messages[0].content"),
        ({"role": "user", "content": ["text"]}, "messages[0].content[0]"),
        ({"role": "user", "content": "x", "name": ""}, "messages[0].name"),
        ({"role": "user", "content": "x", "task": "y"}, "messages[0].task"),
        (user({"type": "text"}), "messages[0].content[0].text"),
        (user({"type": "video_url", "video_url": {"url": "x"}}), "messages[0].content[0].type"),
        (user({"type": "prompt_embeds", "data": "x"}), "messages[0].content[0].type"),
        (user({"type": "file", "file": {"file_id": "f"}}), "messages[0].content[0].type"),
        (user({"type": "image_url", "image_url": PIXEL}), "messages[0].content[0].image_url"),
        (user(image(PIXEL) | {"uuid": "u"}), "messages[0].content[0].uuid"),
        ({"role": "system", "content": [image(PIXEL)]}, "messages[0].content[0].type"),
        ({"role": "assistant", "content": None}, "messages[0].content"),
        ({"role": "assistant", "content": "x", "function_call": {"name": "f"}}, "messages[0].function_call"),
        ({"role": "assistant", "content": "x", "audio": {"id": "a"}}, "messages[0].audio"),
        (
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}]},
            "messages[0].tool_calls[0].type",
        ),
        (
            {"role": "assistant", "tool_calls": [CALL | {"function": {"name": "f", "arguments": {}}}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"role": "tool", "content": "x"}, "messages[0].tool_call_id"),
    ],
)
def test_refused_at_its_place(message: dict[str, Any], param: str) -> None:
    assert refused(message).param == param


def test_the_index_of_the_message_is_named() -> None:
    assert refused({"role": "user", "content": "x"}, {"role": "user", "content": 5}).param == "messages[1].content"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/cat.png",
        "HTTP://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "ftp://host/x",
        "//example.com/x.png",
        "data:text/html;base64,PGI+",
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:image/png,raw",
        "data:image/png;base64,",
        " data:image/png;base64,iVBO",
        "",
    ],
)
def test_only_data_uris_of_images_pass(url: str) -> None:
    error = refused(user({"type": "text", "text": "look"}, image(url)))
    assert error.param == "messages[0].content[1].image_url.url"
    assert "data:image/png;base64," in error.message


def test_audio_by_url_is_refused() -> None:
    part = {"type": "input_audio", "input_audio": {"data": "https://example.com/a.wav", "format": "wav"}}
    assert refused(user(part)).param == "messages[0].content[0].input_audio.data"


def test_the_number_of_media_is_bounded() -> None:
    assert sent(user(*[image(PIXEL)] * 16))
    assert refused(user(*[image(PIXEL)] * 9), user(*[image(PIXEL)] * 8)).param == "messages"
