"""Random bodies: nothing but an ApplianceError comes out, and what passes is valid and on the list."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.api.parameters import CHAT, COMPLETIONS, HINTED, Parameters, Use
from appliance.api.params_chat import parse_chat
from appliance.api.params_completions import parse_completions
from appliance.errors import ApplianceError, BadRequest

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(-3, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(
        ["text", "user", "assistant", "tool", "function", "auto", "json_schema", "data:image/png;base64,A"]
    )
)
_KEYS = st.sampled_from(
    [
        "type",
        "role",
        "content",
        "text",
        "name",
        "function",
        "arguments",
        "tool_calls",
        "id",
        "url",
        "image_url",
        "json_schema",
        "schema",
        "properties",
        "pattern",
        "enum",
        "$ref",
        "maxLength",
        "include_usage",
        "parameters",
    ]
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS | st.text(max_size=6), inner, max_size=4),
)
_MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
        "content": st.text(max_size=8) | _VALUES,
    },
    optional={
        "name": _VALUES,
        "tool_calls": _VALUES,
        "tool_call_id": _VALUES,
        "reasoning": _VALUES,
        "refusal": _VALUES,
    },
)
_NAMES = st.sampled_from(sorted({*CHAT.rules, *COMPLETIONS.rules, *HINTED})) | st.text(max_size=10)


def _check(parse: Any, table: Parameters, body: bytes) -> None:
    try:
        params = parse(body)
    except ApplianceError as e:
        assert isinstance(e, BadRequest)
        msgspec.json.decode(e.envelope())
        return
    sent = msgspec.json.decode(params.engine_body("served", "salt"))
    allowed = {name for name, rule in table.rules.items() if rule.use is Use.FORWARDED}
    assert sent.keys() <= allowed | {"model", "cache_salt", "stream_options"}
    assert (sent["model"], sent["cache_salt"]) == ("served", "salt")
    assert ("stream_options" in sent) == (sent.get("stream") is True) == params.stream
    # what an engine gets would pass here again, and mean the same
    del sent["cache_salt"]
    again = msgspec.json.decode(parse(msgspec.json.encode(sent)).engine_body("served", None))
    assert again == sent


@settings(deadline=None, max_examples=400)
@given(st.dictionaries(_NAMES, _VALUES, max_size=4), st.lists(_MESSAGE, min_size=1, max_size=3))
def test_chat(extra: dict[str, Any], messages: list[Any]) -> None:
    _check(parse_chat, CHAT, msgspec.json.encode({"model": "m", "messages": messages, **extra}))


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(_NAMES, _VALUES, max_size=3), st.text(min_size=1) | _VALUES)
def test_completions(extra: dict[str, Any], prompt: Any) -> None:
    _check(parse_completions, COMPLETIONS, msgspec.json.encode({"model": "m", "prompt": prompt, **extra}))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_bytes_that_were_once_a_good_body(data: st.DataObject) -> None:
    good = b'{"model":"m","messages":[{"role":"user","content":"h\\u00e9"}],"stop":["a"],"metadata":{"a":"b"},"n":1}'
    at = data.draw(st.integers(0, len(good)))
    noise = data.draw(st.binary(max_size=6) | st.sampled_from([b'"', b"\\u", b"\xff", b"[[", b"}", b"1e999", b"NaN"]))
    body = good[:at] + noise + good[at + data.draw(st.integers(0, 9)) :]
    _check(parse_chat, CHAT, body)


_SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {}, optional={"type": _VALUES, "pattern": st.text(r"a[]{}()\,19^-", max_size=30), "enum": _VALUES}
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.text(max_size=4), inner, max_size=3) | _VALUES,
            "items": inner | _VALUES,
            "anyOf": st.lists(inner, max_size=3),
            "minLength": _VALUES,
        },
    ),
)


@settings(deadline=None, max_examples=200)
@given(_SCHEMAS)
def test_schemas(schema: dict[str, Any]) -> None:
    response_format = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    messages = [{"role": "user", "content": "x"}]
    body = {"model": "m", "messages": messages, "response_format": response_format, "tools": tools}
    _check(parse_chat, CHAT, msgspec.json.encode(body))
