"""What somebody who takes over a conversation is told: the last turns as they were, and a summary of the long ago.

What it is: ``parted`` (which turns stay verbatim), the question that a local model is asked for a summary, and
``condensed``, which puts the two together for a hosted model. A person gets the same from ``api/handoff``.
What it refuses to be: needed. Where no summary can be made, everything is handed over verbatim.
What it costs: one local call, and only where the earlier turns are longer than they are worth.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from appliance.errors import ApplianceError
from appliance.languages import display_name
from appliance.translation.messages import prose

LAST_TURNS = 6
LONG_CHARACTERS = 6000
_MOST_CHARACTERS = 12_000  # of the earlier turns that a summary is made from
_SUMMARY_TOKENS = 400
_PER_TURN = 1500
_encoder = msgspec.json.Encoder()
_WHO = {"user": "Customer", "assistant": "Assistant", "tool": "Tool result"}
_ASKED = (
    "Below is the earlier part of a support conversation. Write a short summary for whoever takes it over, in"
    " {language}, under these headings: Facts (names, numbers and dates exactly as written), Customer's language,"
    " What was tried, What is still open. Write nothing that is not in the conversation."
)


class Summary(Struct, frozen=True):
    """What a summary says beside the turns: the customer's language (tag), why it is handed over, and who tried."""

    language: str | None
    why: str
    tried: tuple[str, ...] = ()


class Parted(Struct, frozen=True):
    """A conversation in three: instructions, earlier turns, last turns."""

    system: list[dict[str, Any]]
    earlier: list[dict[str, Any]]
    last: list[dict[str, Any]]


def parted(messages: Sequence[Mapping[str, Any]], turns: int = LAST_TURNS) -> Parted:
    """The last ``turns`` messages and what belongs to them: they begin with a customer's, so no tool loop is cut."""
    system = [dict(m) for m in messages if m.get("role") == "system"]
    rest = [dict(m) for m in messages if m.get("role") != "system"]
    at = max(0, len(rest) - turns)
    while at > 0 and rest[at].get("role") != "user":
        at -= 1
    return Parted(system, rest[:at], rest[at:])


def is_long(earlier: Sequence[Mapping[str, Any]]) -> bool:
    """Whether they are worth a summary."""
    return sum(len(_text(m)) for m in earlier) > LONG_CHARACTERS


def question(earlier: Sequence[Mapping[str, Any]], model: str, language: str = "English") -> bytes:
    """The body that asks ``model`` for a summary of them."""
    lines = [f"{_WHO.get(str(m.get('role')), 'Other')}: {_text(m)[:_PER_TURN]}" for m in earlier]
    text = "\n".join(lines)
    if len(text) > _MOST_CHARACTERS:  # how it began, and what came last
        half = _MOST_CHARACTERS // 2
        text = f"{text[:half]}\n…\n{text[-half:]}"
    asked = [
        {"role": "system", "content": _ASKED.format(language=language)},
        {"role": "user", "content": text},
    ]
    return _encoder.encode({"model": model, "messages": asked, "max_tokens": _SUMMARY_TOKENS, "temperature": 0.0})


def read(answer: bytes) -> str:
    """The summary in a completion; empty where there is none."""
    try:
        return str(msgspec.json.decode(answer)["choices"][0]["message"]["content"] or "").strip()
    except (msgspec.DecodeError, KeyError, IndexError, TypeError):
        return ""


def told(summary: str, about: Summary) -> str:
    """What the one who takes over reads before the last turns."""
    language = "" if about.language is None else f" The customer writes {display_name(about.language)}."
    tried = f" Tried before: {', '.join(dict.fromkeys(about.tried))}." if about.tried else ""
    return (
        f"This conversation is handed over to you ({about.why.replace('_', ' ')}).{language}{tried} Go on where it"
        f" stands, without asking again for what is known. Summary of the earlier turns:\n{summary}"
    )


async def condensed(
    messages: Sequence[dict[str, Any]], model: str, about: Summary, summarise: Callable[[bytes], Awaitable[bytes]]
) -> Sequence[dict[str, Any]]:
    """``messages``, their earlier turns replaced by a summary where they are long. Never raises ApplianceError."""
    parts = parted(messages)
    if not is_long(parts.earlier):
        return messages
    try:
        summary = read(await summarise(question(parts.earlier, model)))
    except ApplianceError:
        return messages
    if not summary:
        return messages
    return [*parts.system, {"role": "system", "content": told(summary, about)}, *parts.last]


def _text(message: Mapping[str, Any]) -> str:
    calls = message.get("tool_calls") or ()
    called = [f"{c['function']['name']}({c['function']['arguments']})" for c in calls]
    return "\n".join([*prose(message), *called])
