"""Which conversation a request belongs to, as far as the request itself can say.

What it is: ids the caller gives (header, metadata, Responses-style fields), otherwise an HMAC over the history it
sends, which the ledger compares with the histories it has recorded; and what metadata says about the conversation.
What it refuses to be: a guess. Without an id a history must equal a recorded one, message for message; a first turn
has none. System and developer messages are not part of it: clients write the time of day into them, and the answers
that follow must be equal anyway.
What it costs: 3 µs, and 1 µs a kilobyte of history.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args

import msgspec
from msgspec.structs import replace

from appliance.api.http import Exchange
from appliance.api.messages import AssistantMessage, Message, TextPart, ToolMessage, UserMessage
from appliance.errors import BadRequest
from appliance.languages import parse
from appliance.ledger.pseudonyms import subject_of
from appliance.types import Answer, Channel, Key, Residency, Turn

_LONGEST_ID = 128
_ID = re.compile(rf"[!-.0-~]{{1,{_LONGEST_ID}}}")
_LONGEST_LABEL = 64
_CHANNELS = get_args(Channel)
# ids of answers are made of the request's id by engines that are given it
_ANSWER_PREFIXES = ("chatcmpl-", "cmpl-", "resp_", "resp-")
_RESIDENCIES: tuple[Residency, ...] = get_args(Residency)
_ROUTES = ("local", "pivot", "hosted")
_encoder = msgspec.json.Encoder()
T = TypeVar("T", bound=str)


class Thread:
    """The HMAC of one history, as it grows: asked for at the last assistant message, and again with the answer."""

    def __init__(self, key: Key, user: str | None, messages: Sequence[Message]) -> None:
        self._hash = hashlib.blake2b(key=key.tenant.secret[:64], digest_size=24, person=b"appliance-thread")
        self._add(key.id, user or "")
        last = max((n for n, message in enumerate(messages) if isinstance(message, AssistantMessage)), default=-1)
        self._absorb(messages[: last + 1])
        self.so_far: bytes | None = self._hash.digest() if last >= 0 else None
        self._absorb(messages[last + 1 :])

    def after(self, answer: Answer) -> bytes:
        """The history with ``answer``."""
        whole = self._hash.copy()
        _add(whole, "assistant", answer.content.strip())
        for tool in answer.tools:
            _add(whole, "call", tool.id, tool.name, _arguments(tool.arguments))
        return whole.digest()

    def _absorb(self, messages: Iterable[Message]) -> None:
        for message in messages:
            if isinstance(message, UserMessage):
                self._add("user", _text(message.content))
            elif isinstance(message, AssistantMessage):
                self._add("assistant", _text(message.content))
                for call in message.tool_calls or ():
                    self._add("call", call.id, call.function.name, _arguments(call.function.arguments))
            elif isinstance(message, ToolMessage):
                self._add("tool", message.tool_call_id, _text(message.content))

    def _add(self, *fields: str) -> None:
        _add(self._hash, *fields)


def _add(state: hashlib.blake2b, *fields: str) -> None:
    """Each field with its length, so that no text can look like two."""
    for field in fields:
        raw = field.encode("utf-8", "surrogatepass")
        state.update(b"%d:" % len(raw))
        state.update(raw)


def _arguments(text: str) -> str:
    """Frameworks hand a call's arguments on as an object and write them again, with other spaces and escapes."""
    try:
        return _encoder.encode(msgspec.json.decode(text)).decode()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text


def _text(content: Any) -> str:
    """What a message says. Clients strip answers and turn one text into parts; media count byte for byte."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content.strip()
    pieces = (part.text if isinstance(part, TextPart) else _encoder.encode(part).decode() for part in content)
    return "".join(pieces).strip()


def turn_of(
    exchange: Exchange,
    key: Key,
    *,
    user: str | None = None,
    metadata: Mapping[str, str] | None = None,
    conversation: str | None = None,
    previous_id: str | None = None,
    thread: Thread | None = None,
) -> Turn:
    """What ties this request to its conversation. Raises BadRequest for ids that contradict each other."""
    about = {**_header_metadata(exchange), **(metadata or {})}
    conversation_id = _one_id(
        {
            "the header X-Conversation-Id": exchange.header(b"x-conversation-id") or None,
            "metadata.conversation_id": about.get("conversation_id"),
            "conversation": conversation,
        }
    )
    if conversation_id is not None and previous_id is not None:
        raise BadRequest("send a conversation's id or 'previous_response_id', not both", param="previous_response_id")
    return replace(
        turn_about(about),
        conversation_id=conversation_id,
        previous_id=None if previous_id is None else _request_id(_checked_id(previous_id, "previous_response_id")),
        thread=None if thread is None else thread.so_far,
        subject=None if not user else subject_of(key.tenant.secret, user),
    )


def turn_about(about: Mapping[str, str]) -> Turn:
    """What metadata says of a turn, whichever conversation it belongs to. Raises BadRequest."""
    return Turn(
        channel=_channel(about),
        language=None if about.get("language") is None else parse(about["language"], "metadata.language"),
        intent=_label(about, "intent"),
        value_class=_label(about, "value_class"),
        residency=_one_of(about, "appliance_residency", _RESIDENCIES),
        route=_one_of(about, "appliance_route", _ROUTES),
    )


def _one_of(about: Mapping[str, str], name: str, known: tuple[T, ...]) -> T | None:
    value = about.get(name)
    if value is None:
        return None
    for one in known:
        if one == value:
            return one
    listed = ", ".join(map(str, known))
    raise BadRequest(f"metadata.{name} must be one of {listed}", param=f"metadata.{name}")


def _header_metadata(exchange: Exchange) -> dict[str, str]:
    """``X-Appliance-Metadata``, for endpoints whose bodies have no metadata."""
    raw = exchange.header(b"x-appliance-metadata")
    if not raw:
        return {}
    try:
        found = msgspec.json.decode(raw.encode("latin-1"), type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest(
            'X-Appliance-Metadata must be a JSON object of strings, such as {"channel": "voice"}',
            param="X-Appliance-Metadata",
        ) from None
    return found


def _one_id(given: Mapping[str, str | None]) -> str | None:
    found = {where: _checked_id(value, where) for where, value in given.items() if value is not None}
    if len(set(found.values())) > 1:
        first, second, *_ = found
        raise BadRequest(f"{first} and {second} name different conversations; send one of them")
    return next(iter(found.values()), None)


def is_id(value: str) -> bool:
    """Whether a conversation can be called so. A slash would keep its outcome from ever being said: it is a path."""
    return _ID.fullmatch(value) is not None


def _checked_id(value: str, where: str) -> str:
    if not is_id(value):
        raise BadRequest(
            f"{where} must be 1 to {_LONGEST_ID} printable ASCII characters without spaces and slashes", param=where
        )
    return value


def _request_id(answer_id: str) -> str:
    for prefix in _ANSWER_PREFIXES:
        if answer_id.startswith(prefix + "req_"):
            # vLLM numbers the prompts of a legacy completion: cmpl-<id>-0
            return answer_id.removeprefix(prefix).partition("-")[0]
    return answer_id


def _channel(about: Mapping[str, str]) -> Channel:
    value = about.get("channel", "api")
    for known in _CHANNELS:
        if value == known:
            found: Channel = known
            return found
    raise BadRequest(f"metadata.channel must be one of {', '.join(_CHANNELS)}", param="metadata.channel")


def _label(about: Mapping[str, str], name: str) -> str | None:
    value = about.get(name)
    if value is None:
        return None
    if not value or len(value) > _LONGEST_LABEL or not value.isprintable():
        raise BadRequest(
            f"metadata.{name} must be 1 to {_LONGEST_LABEL} printable characters", param=f"metadata.{name}"
        )
    return value
