"""The chat body: every documented parameter once accepted and once refused, and the rules between them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.api.parameters import CHAT, Use
from appliance.api.params_chat import parse_chat
from appliance.errors import BadRequest

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
_ABSENT = ...  # its name is the same in every process, which test ids need


def body(**fields: Any) -> bytes:
    """A minimal chat body with ``fields`` on top; a field that is _ABSENT is left out."""
    whole = {"model": "m", "messages": HELLO, **fields}
    return msgspec.json.encode({name: value for name, value in whole.items() if value is not _ABSENT})


def engine(**fields: Any) -> dict[str, Any]:
    """What the engine gets for ``body(**fields)``."""
    decoded: dict[str, Any] = msgspec.json.decode(parse_chat(body(**fields)).engine_body("served", "salt"))
    return decoded


def refused(**fields: Any) -> BadRequest:
    """The error for ``body(**fields)``; it must name a parameter and be one line."""
    with pytest.raises(BadRequest) as e:
        parse_chat(body(**fields))
    assert e.value.status == 400
    assert "\n" not in e.value.message
    return e.value


# parameter: values that pass, values that do not. What it needs beside it is in COMPANIONS.
CASES: dict[str, tuple[list[Any], list[Any]]] = {
    "messages": ([HELLO], [[], "hello", None, _ABSENT, {}]),
    "model": (["m", "a/b:c"], ["", None, 5, "x" * 257, _ABSENT]),
    "stream": ([True, False, None], ["true", 1]),
    "stream_options": (
        [{"include_usage": True}, {"include_obfuscation": False}, {}, None],
        [{"include_usage": "yes"}, {"continuous_usage_stats": True}, True],
    ),
    "max_tokens": ([1, 4096, None], [0, -1, 1.5, "5", True]),
    "max_completion_tokens": ([1, None], [0, "5"]),
    "temperature": ([0, 2, 0.7, None], [-0.1, 2.1, "1", True]),
    "top_p": ([0, 1, 0.5, None], [-0.1, 1.1, "1"]),
    "n": ([1, 8, None], [0, 9, 64, 1.5, True]),
    "seed": ([0, -(2**63), 2**63 - 1, None], [2**63, 1.5, "1"]),
    "stop": (["x", ["a", "b", "c", "d"], [], None], ["", ["a"] * 5, [""], [1], 5, "x" * 257]),
    "presence_penalty": ([-2, 2, None], [-2.1, 2.1, "0"]),
    "frequency_penalty": ([-2, 2, None], [-2.1, 2.1, "0"]),
    "logit_bias": (
        [{"1": -100, "50256": 100.0}, {}, None],
        [{"1": 101}, {"word": 1}, {"-1": 1}, [1], {"1": "x"}, {str(i): 1 for i in range(1025)}],
    ),
    "user": (["u", "", None], [5, "x" * 513]),
    "top_k": ([-1, 0, 40, None], [-2, 1.5, "1"]),
    "min_p": ([0, 1, None], [-0.1, 1.1]),
    "repetition_penalty": ([0.1, 1.1, None], [0, 11, -1]),
    "logprobs": ([True, False, None], [1, "true"]),
    "top_logprobs": ([0, 20, None], [-1, 21, True, "5"]),
    "response_format": (
        [{"type": "text"}, {"type": "json_object"}, SCHEMA, None],
        [
            {"type": "structural_tag", "format": {}},
            {"type": "json_schema"},
            {"type": "json_schema", "json_schema": {"name": "s"}},
            {"type": "json_schema", "json_schema": {"name": "s p", "schema": {}}},
            {"type": "text", "extra": 1},
            {},
            "json",
        ],
    ),
    "tools": (
        [[TOOL], None, [{"type": "function", "function": {"name": "a-b_1", "strict": True}}]],
        [
            [],
            [TOOL, TOOL],
            [{"type": "custom", "custom": {"name": "c"}}],
            [{"type": "function"}],
            [{"type": "function", "function": {"name": "with space"}}],
            [{"type": "function", "function": {"name": "f", "parameters": []}}],
            [{"type": "function", "function": {"name": f"f{i}"}} for i in range(129)],
            TOOL,
        ],
    ),
    "tool_choice": (
        ["none", "auto", "required", {"type": "function", "function": {"name": "f"}}, None],
        [
            "always",
            {"type": "function", "function": {"name": "g"}},
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
            {"type": "custom", "custom": {"name": "f"}},
            5,
        ],
    ),
    "parallel_tool_calls": ([True, False, None], [1]),
    "reasoning_effort": (["none", "minimal", "low", "medium", "high", "xhigh", None], ["most", 3]),
    "chat_template_kwargs": (
        [{"enable_thinking": False, "budget": 5, "x": 0.5, "y": "z", "w": None}, {}, None],
        [
            {"x": []},
            {"x": {"y": 1}},
            {"chat_template": "{{ 1 }}"},
            {"tokenize": False},
            {"x": "y" * 257},
            {"k" * 65: 1},
            {str(i): 1 for i in range(17)},
            {"x": 2**63},
            [1],
        ],
    ),
    "metadata": (
        [{"team": "north"}, {}, None],
        [{"a": 1}, {"k" * 65: "v"}, {"k": "v" * 513}, {str(i): "" for i in range(17)}, "x"],
    ),
    "modalities": ([["text"], None], [["text", "audio"], "text"]),
    "prediction": ([{"type": "content", "content": "x"}, None], ["x"]),
    "conversation": (["c-1", {"id": "c-1"}, None], ["", "x" * 129, {"id": ""}, {"id": "c", "more": 1}, 5]),
    "previous_response_id": (["req_1", None], ["", "x" * 129, 5]),
    "prompt_cache_key": (["k", None], [5, "x" * 513]),
    "prompt_cache_options": ([{"mode": "implicit"}, None], ["x"]),
    "prompt_cache_retention": (["24h", None], [24]),
    "safety_identifier": (["k", None], [5]),
    "service_tier": (["auto", "default", "flex", "scale", "priority", "fast", None], ["gold"]),
    "store": ([True, False, None], ["no"]),
    "verbosity": (["low", "medium", "high", None], ["silent"]),
    "audio": ([None], [{"voice": "alloy", "format": "mp3"}]),
    "function_call": ([None], ["auto", {"name": "f"}]),
    "functions": ([None], [[{"name": "f"}]]),
    "moderation": ([None], [{"model": "m"}]),
    "web_search_options": ([None], [{}]),
}
COMPANIONS: dict[str, dict[str, Any]] = {
    "stream_options": {"stream": True},
    "top_logprobs": {"logprobs": True},
    "tool_choice": {"tools": [TOOL]},
}


def test_every_parameter_of_the_table_has_both_cases() -> None:
    assert CASES.keys() == CHAT.rules.keys()
    assert all(good and bad for good, bad in CASES.values())


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, (good, _) in CASES.items() for v in good], ids=lambda v: str(v)[:40]
)
def test_accepted(name: str, value: Any) -> None:
    sent = engine(**COMPANIONS.get(name, {}), **{name: value})
    use = CHAT.rules[name].use
    if value in (None, {}, []) or (name, value) == ("stream", False):
        return
    if use is Use.FORWARDED and (name, value) != ("top_p", 0):
        assert sent[name] == value
    if use is Use.IGNORED:
        assert name not in sent


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, (_, bad) in CASES.items() for v in bad], ids=lambda v: str(v)[:40]
)
def test_refused(name: str, value: Any) -> None:
    error = refused(**{**COMPANIONS.get(name, {}), name: value})
    assert error.param is not None
    assert error.param.replace("[", ".").split(".")[0] == name
    assert name in error.message


def test_a_refused_parameter_says_why() -> None:
    error = refused(functions=[{"name": "f"}])
    assert error.code == "unsupported_parameter"
    assert "'tools'" in error.message


def test_a_range_error_says_the_range() -> None:
    error = refused(temperature=3)
    assert error.message == "'temperature' must be a number from 0 to 2"
    assert (error.code, error.param) == ("invalid_value", "temperature")


def test_a_type_error_says_what_came() -> None:
    error = refused(temperature="hot")
    assert error.message == "'temperature' must be a number from 0 to 2, not a string"
    assert error.code == "invalid_type"


@pytest.mark.parametrize("name", ["model", "messages"])
def test_a_missing_parameter_is_named(name: str) -> None:
    error = refused(**{name: _ABSENT})
    assert (error.code, error.param) == ("missing_required_parameter", name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("temperatur", "'temperature'"),
        ("max_token", "'max_tokens'"),
        ("max_new_tokens", "max_tokens"),
        ("guided_json", "response_format"),
        ("prompt", "/v1/completions"),
        ("zzzzzzzz", "remove it"),
    ],
)
def test_an_unknown_parameter_is_named_with_the_nearest_known(name: str, hint: str) -> None:
    error = refused(**{name: 1})
    assert (error.code, error.param) == ("unknown_parameter", name)
    assert hint in error.message


@pytest.mark.parametrize(
    "name",
    [
        *("priority", "kv_transfer_params", "ec_transfer_params", "vllm_xargs", "prompt_logprobs", "cache_salt"),
        *("structured_outputs", "guided_regex", "add_generation_prompt", "documents", "mm_processor_kwargs"),
        *("chat_template", "media_io_kwargs", "logits_processors", "ignore_eos", "min_tokens", "request_id"),
        *("use_beam_search", "allowed_token_ids", "return_token_ids", "continue_final_message", "session_id", "echo"),
    ],
)
def test_the_engines_internals_are_closed(name: str) -> None:
    assert refused(**{name: None}).code == "unknown_parameter"


def test_the_gateway_meters_every_stream_and_remembers_who_asked() -> None:
    quiet = parse_chat(body(stream=True))
    asked = parse_chat(body(stream=True, stream_options={"include_usage": True, "include_obfuscation": False}))
    assert (quiet.include_usage, asked.include_usage) == (False, True)
    for params in (quiet, asked):
        sent = msgspec.json.decode(params.engine_body("m", None))
        assert sent["stream_options"] == {"include_usage": True}


def test_a_whole_answer_has_no_stream_options() -> None:
    assert engine() == {"model": "served", "cache_salt": "salt", "messages": HELLO}
    assert refused(stream_options={"include_usage": True}).param == "stream_options"


def test_the_engine_body_carries_its_own_model_and_salt() -> None:
    params = parse_chat(body(model="default"))
    assert params.model == "default"
    first = msgspec.json.decode(params.engine_body('odd "name"', "s1"))
    second = msgspec.json.decode(params.engine_body("other", None))
    assert (first["model"], first["cache_salt"]) == ('odd "name"', "s1")
    assert second["model"] == "other"
    assert "cache_salt" not in second


def test_the_newer_token_limit_is_sent_under_the_name_every_engine_knows() -> None:
    sent = engine(max_completion_tokens=7)
    assert sent["max_tokens"] == 7
    assert "max_completion_tokens" not in sent
    assert engine(max_completion_tokens=7, max_tokens=7)["max_tokens"] == 7
    assert refused(max_completion_tokens=7, max_tokens=8).param == "max_completion_tokens"


def test_what_the_gateway_reads_is_on_the_result() -> None:
    params = parse_chat(body(user="u", metadata={"team": "north"}, n=3, max_tokens=9))
    assert (params.user, params.metadata, params.choices, params.max_tokens) == ("u", {"team": "north"}, 3, 9)
    sent = msgspec.json.decode(params.engine_body("m", None))
    assert not {"user", "metadata"} & sent.keys()


def test_top_p_zero_reaches_vllm_as_a_number_it_takes() -> None:
    assert 0 < engine(top_p=0)["top_p"] < 0.001


def test_top_logprobs_need_logprobs() -> None:
    assert refused(top_logprobs=5).param == "top_logprobs"
    assert engine(top_logprobs=0)["top_logprobs"] == 0


def test_a_tool_choice_needs_tools() -> None:
    assert refused(tool_choice="auto").param == "tool_choice"
    assert engine(tool_choice="none")["tool_choice"] == "none"


def test_tools_are_bounded_together() -> None:
    tools = [{"type": "function", "function": {"name": f"f{i}", "description": "x" * 30_000}} for i in range(9)]
    assert "256 kB" in refused(tools=tools).message


def test_schemas_are_bounded_and_the_place_is_named() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(20):
        deep = {"type": "object", "properties": {"x": deep}}
    named = {"type": "json_schema", "json_schema": {"name": "s", "schema": deep}}
    assert refused(response_format=named).param == "response_format.json_schema.schema"
    tool = {"type": "function", "function": {"name": "f", "parameters": deep}}
    assert refused(tools=[TOOL | {"function": {"name": "g"}}, tool]).param == "tools[1].function.parameters"
