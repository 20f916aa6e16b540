"""OpenAI's request as Gemini's: each row of the table, and what the real client makes of it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from appliance.errors import BadRequest
from appliance.hosts.gemini_request import NO_SIGNATURE, THINKING, GeminiRequest, gemini_request

SCHEMA = {
    "type": "object",
    "properties": {"note": {"type": ["string", "null"]}, "to": {"$ref": "#/$defs/who"}},
    "$defs": {"who": {"type": "string"}},
}
TOOL = {"type": "function", "function": {"name": "ring", "description": "rings", "parameters": SCHEMA}}
CALL = {"id": "c1", "type": "function", "function": {"name": "ring", "arguments": '{"to": "me"}'}}


def made(*messages: dict[str, Any], **more: Any) -> GeminiRequest:
    first = messages or ({"role": "user", "content": "hi"},)
    return gemini_request({"model": "m", "messages": list(first), **more}, 100)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_system_and_developer_become_the_system_instruction() -> None:
    request = made(
        {"role": "system", "content": "be brief"}, user("hi"), {"role": "developer", "content": [{"type": "text",
                                                                                                  "text": "be kind"}]}
    )  # fmt: skip
    assert request.config["system_instruction"] == "be brief\n\nbe kind"
    assert request.contents == [{"role": "user", "parts": [{"text": "hi"}]}]


def test_the_assistant_is_the_model_and_neighbours_of_one_role_are_one_turn() -> None:
    request = made(user("a"), user("b"), {"role": "assistant", "content": "c"}, user("d"))
    assert [(turn["role"], [part["text"] for part in turn["parts"]]) for turn in request.contents] == [
        ("user", ["a", "b"]),
        ("model", ["c"]),
        ("user", ["d"]),
    ]


def test_tool_results_are_function_responses_in_one_user_turn() -> None:
    second = {**CALL, "id": "c2", "function": {"name": "look", "arguments": ""}}
    request = made(
        user("do"),
        {"role": "assistant", "content": None, "tool_calls": [CALL, second]},
        {"role": "tool", "tool_call_id": "c1", "content": '{"ok": true}'},
        {"role": "tool", "tool_call_id": "c2", "content": "it rains"},
    )
    _, called, answered = request.contents
    assert [part["function_call"] for part in called["parts"]] == [
        {"id": "c1", "name": "ring", "args": {"to": "me"}},
        {"id": "c2", "name": "look", "args": {}},
    ]
    assert answered["role"] == "user"
    assert [part["function_response"] for part in answered["parts"]] == [
        {"id": "c1", "name": "ring", "response": {"ok": True}},
        {"id": "c2", "name": "look", "response": {"result": "it rains"}},
    ]


def test_it_never_ends_on_the_model() -> None:
    with pytest.raises(BadRequest, match="last message"):
        made(user("a"), {"role": "assistant", "content": "b"})


def test_images_and_recordings_are_inline_data() -> None:
    raw = base64.b64encode(b"\x89PNG").decode()
    request = made(user([
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{raw}"}},
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"RIFF").decode(), "format": "wav"}},
    ]))  # fmt: skip
    assert request.contents[0]["parts"] == [
        {"text": "see"},
        {"inline_data": {"mime_type": "image/png", "data": b"\x89PNG"}},
        {"inline_data": {"mime_type": "audio/wav", "data": b"RIFF"}},
    ]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "image_url", "image_url": {"url": "gs://bucket/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,***"}},
        {"type": "input_audio", "input_audio": {"data": "https://example.com/a.wav", "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "ogg"}},
        {"type": "file", "file": {"file_id": "x"}},
    ],
)
def test_what_is_not_inside_the_request_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        made(user([part]))
    assert caught.value.param == "messages[0].content[0]"


def test_tools_go_as_json_schema_and_nothing_calls_them() -> None:
    config = made(tools=[TOOL, {"type": "function", "function": {"name": "bare"}}]).config
    assert config["tools"] == [
        {
            "function_declarations": [
                {"name": "ring", "description": "rings", "parameters_json_schema": SCHEMA},
                {"name": "bare", "description": ""},
            ]
        }
    ]
    assert config["automatic_function_calling"] == {"disable": True}
    assert config["automatic_continuation"] is False


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "ring"}}, {"mode": "ANY", "allowed_function_names": ["ring"]}),
    ],
)
def test_tool_choice(choice: Any, calling: dict[str, Any]) -> None:
    assert made(tools=[TOOL], tool_choice=choice).config["tool_config"] == {"function_calling_config": calling}


def test_json_schema_and_json_object() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    config = made(response_format=wanted).config
    assert (config["response_mime_type"], config["response_json_schema"]) == ("application/json", SCHEMA)
    assert made(response_format={"type": "json_object"}).config["response_mime_type"] == "application/json"
    assert "response_mime_type" not in made(response_format={"type": "text"}).config


@pytest.mark.parametrize("effort", THINKING)
def test_reasoning_effort_is_a_thinking_level(effort: str) -> None:
    assert made(reasoning_effort=effort).config["thinking_config"] == {"thinking_level": THINKING[effort]}


def test_sampling_is_named_as_theirs_and_what_has_no_name_is_dropped_and_said() -> None:
    request = made(
        temperature=0.0, top_p=0.5, top_k=40, stop="END", seed=2**40 + 7, max_tokens=9, presence_penalty=0.1,
        frequency_penalty=0.2, min_p=0.1, logit_bias={"1": 2}, logprobs=True, user=None,
    )  # fmt: skip
    assert {k: v for k, v in request.config.items() if not k.startswith("automatic")} == {
        "temperature": 0.0, "top_p": 0.5, "top_k": 40, "stop_sequences": ["END"], "seed": 7, "max_output_tokens": 9,
        "presence_penalty": 0.1, "frequency_penalty": 0.2,
    }  # fmt: skip
    assert request.dropped == ("logit_bias", "logprobs", "min_p")


def test_an_answer_is_bounded_where_nobody_bounds_it() -> None:
    assert made().config["max_output_tokens"] == 100
    assert made(max_completion_tokens=3).config["max_output_tokens"] == 3
    assert "top_k" not in made(top_k=-1).config


@pytest.mark.parametrize(
    ("messages", "more", "param"),
    [
        ([], {}, "messages"),
        ([{"role": "system", "content": "alone"}], {}, "messages"),
        ([user("x")], {"n": 2}, "n"),
        ([user("x")], {"reasoning_effort": "huge"}, "reasoning_effort"),
        ([user("x")], {"tools": [TOOL], "tool_choice": "some"}, "tool_choice"),
        ([{"role": "oracle", "content": "x"}], {}, "messages[0].role"),
        ([user("x"), {"role": "tool", "tool_call_id": "c9", "content": "x"}], {}, "messages[1].tool_call_id"),
        (
            [
                user("x"),
                {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "[1"}}]},
            ],
            {},
            "messages[1].tool_calls[0].function.arguments",
        ),
    ],
)
def test_what_gemini_cannot_take_is_named(messages: list[Any], more: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        gemini_request({"messages": messages, **more}, 100)
    assert caught.value.param == param


# --- thought signatures


def replayed(calls: list[dict[str, Any]], kept: dict[str, bytes]) -> list[bytes | None]:
    answers = [{"role": "tool", "tool_call_id": call["id"], "content": "ok"} for call in calls]
    messages = [user("x"), {"role": "assistant", "tool_calls": calls}, *answers]
    request = gemini_request({"messages": messages}, 100, kept.get)
    return [part.get("thought_signature") for part in request.contents[1]["parts"]]


def test_the_clients_own_echo_wins_then_what_was_kept_then_none_is_needed() -> None:
    echoed = {**CALL, "extra_content": {"google": {"thought_signature": base64.b64encode(b"echo").decode()}}}
    assert replayed([echoed], {"c1": b"kept"}) == [b"echo"]
    assert replayed([CALL], {"c1": b"kept"}) == [b"kept"]
    assert replayed([CALL], {}) == [NO_SIGNATURE]


def test_of_parallel_calls_only_the_first_needs_one() -> None:
    assert replayed([CALL, {**CALL, "id": "c2"}], {}) == [NO_SIGNATURE, None]
    assert replayed([CALL, {**CALL, "id": "c2"}], {"c2": b"kept"}) == [NO_SIGNATURE, b"kept"]


@pytest.mark.parametrize("extra", [{"google": {}}, {"google": {"thought_signature": "***"}}, {}, {"google": None}])
def test_an_echo_that_is_none_is_passed_over(extra: Any) -> None:
    assert replayed([{**CALL, "extra_content": extra}], {}) == [NO_SIGNATURE]


# --- the real client


def test_google_genai_takes_all_of_it() -> None:
    """Its types forbid fields they do not know, so a wrong name fails here and not at Google's."""
    from google.genai import types

    request = made(
        {"role": "system", "content": "s"},
        user("x"),
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "ok"},
        tools=[TOOL], tool_choice="auto", seed=1, stop=["a"], top_k=3, temperature=1.0, reasoning_effort="low",
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
    )  # fmt: skip
    config = types.GenerateContentConfig.model_validate(request.config)
    contents = [types.Content.model_validate(turn) for turn in request.contents]
    assert contents[1].parts and contents[1].parts[0].thought_signature == NO_SIGNATURE
    assert json.loads(config.model_dump_json(exclude_none=True))["thinking_config"] == {"thinking_level": "LOW"}
