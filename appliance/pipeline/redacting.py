"""Personal data out of what leaves the box: over whole messages, with tool arguments and results.

What it is: ``redacted(messages)``. ``policy.restoring`` is the way back.
What it refuses to be: the finder (``policy.personal``) or the keeper of values (``policy.redaction``); or the check of
what leaves, which the permit and the hosted process make of the bytes themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from appliance.policy.redaction import Redaction

_encoder = msgspec.json.Encoder()


def redacted(messages: Sequence[Mapping[str, Any]], redaction: Redaction) -> list[dict[str, Any]]:
    """Copies of ``messages`` in which every find of personal data has a stand-in."""
    for message in messages:
        redaction.reserve(_encoder.encode(message).decode())
    out: list[dict[str, Any]] = []
    asked = ""
    for message in messages:
        out.append(_message(message, redaction, asked))
        content = message.get("content")
        asked = content if isinstance(content, str) else ""
    return out


def _message(message: Mapping[str, Any], redaction: Redaction, asked: str) -> dict[str, Any]:
    copy = dict(message)
    for name in ("content", "name", "refusal", "reasoning"):
        value = copy.get(name)
        if isinstance(value, str):
            copy[name] = redaction.hide(value, asked=asked)
        elif isinstance(value, list):
            copy[name] = [_part(part, redaction, asked) for part in value]
    if copy.get("tool_calls"):
        copy["tool_calls"] = [_call(call, redaction) for call in copy["tool_calls"]]
    return copy


def _part(part: Mapping[str, Any], redaction: Redaction, asked: str) -> dict[str, Any]:
    texts = {n: redaction.hide(part[n], asked=asked) for n in ("text", "refusal") if isinstance(part.get(n), str)}
    return {**part, **texts}


def _call(call: Mapping[str, Any], redaction: Redaction) -> dict[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "arguments": _arguments(function["arguments"], redaction)}}


def _arguments(text: str, redaction: Redaction) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return redaction.hide(text)
    hidden = _leaves(value, redaction, "")
    return text if hidden == value else json.dumps(hidden, ensure_ascii=False)


def _leaves(value: Any, redaction: Redaction, label: str) -> Any:
    """Each value is looked at with its names before it: they are its labels."""
    if isinstance(value, dict):
        return {name: _leaves(item, redaction, f"{label}{name} ") for name, item in value.items()}
    if isinstance(value, list):
        return [_leaves(item, redaction, label) for item in value]
    if isinstance(value, bool) or not isinstance(value, str | int):
        return value
    said = f"{label}{value}"
    hidden = redaction.hide(said)
    if hidden == said:
        return value
    return hidden[len(label) :] if hidden.startswith(label) else hidden
