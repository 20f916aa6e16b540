"""Where the words of people stand in OpenAI's messages, and nothing else of them.

What it is: ``changed`` gives a copy of a message in which a function has had every text that is for people: contents,
text parts, and in JSON (a tool's arguments and results) the values of prose.
What it refuses to be: a validator. What it does not know it copies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from appliance.translation import jsontext

_LETTER = re.compile(r"[^\W\d_]")
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})

Change = Callable[[str], str]


def has_letters(text: str) -> bool:
    """Whether there is anything in ``text`` to translate."""
    return _LETTER.search(text) is not None


def prose(message: Mapping[str, Any]) -> list[str]:
    """The texts that ``changed`` would give, of the content only."""
    found: list[str] = []

    def seen(text: str) -> str:
        found.append(text)
        return text

    _content(message.get("content"), seen)
    return found


def changed(message: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """A copy of ``message`` with its texts as ``change`` gives them back. What is not changed is not copied deeply."""
    copy = dict(message)
    if "content" in copy:
        copy["content"] = _content(copy["content"], change)
    if isinstance(copy.get("tool_calls"), list):
        copy["tool_calls"] = [_call(call, change) for call in copy["tool_calls"]]
    return copy


def _content(content: Any, change: Change) -> Any:
    if isinstance(content, str):
        return _text(content, change)
    if isinstance(content, list):
        return [_part(part, change) for part in content]
    return content


def _part(part: Any, change: Change) -> Any:
    if isinstance(part, Mapping) and part.get("type") in _TEXT_PARTS and isinstance(part.get("text"), str):
        return {**part, "text": _text(part["text"], change)}
    return part


def _call(call: Any, change: Change) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if isinstance(function, Mapping) and isinstance(function.get("arguments"), str):
        return {**call, "function": {**function, "arguments": _json(function["arguments"], change)}}
    return call


def _text(text: str, change: Change) -> str:
    return _json(text, change) if jsontext.is_json(text) else change(text)


def _json(text: str, change: Change) -> str:
    """JSON with its prose changed; whatever is in letters that are not Latin is prose but for keys of machines."""
    if not jsontext.is_json(text):
        return text
    new = {}
    for value in jsontext.values(text):
        if jsontext.for_people(value) or (jsontext.is_native(value.text) and not jsontext.for_machines(value)):
            given = change(value.text)
            if given != value.text:
                new[value.start] = given
    return jsontext.replaced(text, new) if new else text
