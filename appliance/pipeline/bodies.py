"""The engine's body of a chat request with something changed: other messages, more parameters.

What it is: pure functions on the bytes that ``api`` sealed. They are taken apart only where a route needs it.
What it refuses to be: a validator. What is in the bytes was checked when it came in.
What it costs: the decoding of the body and its encoding, 10 µs a few kilobytes; nothing where nobody asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()
# what makes an answer more than one plain text, or binds where it may be taken up again
_NOT_PLAIN = ("tools", "response_format", "logprobs", "top_logprobs", "prompt")


def fields_of(tail: bytes) -> dict[str, Any]:
    """The parameters of a sealed body."""
    found: dict[str, Any] = msgspec.json.decode(b"{" + tail)
    return found


def body_of(fields: Mapping[str, Any], model: str, salt: str | None) -> bytes:
    """The body for an engine that serves the model as ``model``."""
    salted = {} if salt is None else {"cache_salt": salt}
    return _encoder.encode({"model": model, **salted, **fields})


def is_plain(fields: Mapping[str, Any]) -> bool:
    """Whether one text is asked for, which another engine may go on with."""
    return fields.get("n", 1) == 1 and "messages" in fields and not any(fields.get(name) for name in _NOT_PLAIN)


def going_on(fields: Mapping[str, Any], said: str, pieces: int) -> dict[str, Any]:
    """``fields`` for an engine that takes up an answer after ``said``; its ``pieces`` were a token each or more."""
    changed = {**fields, "messages": [*fields["messages"], {"role": "assistant", "content": said}]}
    changed |= {"continue_final_message": True, "add_generation_prompt": False}
    if (most := fields.get("max_tokens")) is not None:
        changed["max_tokens"] = max(1, most - pieces)
    return changed
