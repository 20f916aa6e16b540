"""What a chat request says, as far as a decision needs it: language, intent, personal data, needs.

What it is: ``Topic``, a sealed body taken apart once, and ``Reader``, which reads texts and remembers what it read by
their hashes, so that the turns of a conversation are looked at once and not with every turn.
What it refuses to be: a keeper of texts. It holds hashes, a tag and names of kinds; it decides nothing.
What it costs: 4 µs a kilobyte for a topic, 1 µs a text that was read before; some 0.3 ms to tell the language of a
text of 200 characters and 0.07 ms to look for personal data in it.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from appliance.pipeline.bodies import fields_of
from appliance.policy.personal import find
from appliance.policy.phrases import wants_a_person
from appliance.policy.values import Need
from appliance.translation.messages import prose

_MOST_READ = 16_384
_LANGUAGE_FROM = 500  # characters that tell a language; more only cost time
_TEXTS = frozenset({"text", "refusal"})
_NONE: frozenset[str] = frozenset()
_NO_NEEDS: frozenset[Need] = frozenset()
_NOTHING: Mapping[str, Any] = {}
_BYTES_A_TOKEN = 4  # of English; too few tokens are the engine's to complain of, too many would lose it a request


class Said(Struct, frozen=True):
    """What was made of one text. ``language`` None: it does not tell."""

    language: str | None = None
    romanised: bool = False
    intent: str | None = None
    confidence: float = 0.0
    wants_person: bool = False


class Topic:
    """One chat request's body. ``fields`` are its parameters, messages as they are sent.

    ``media`` are the types of parts that are no text; ``needs`` what an engine has to be able to do; ``newest`` what
    the customer said last: all of the body as it came.
    """

    __slots__ = ("_bytes", "changed", "fields", "media", "messages", "needs", "newest")

    def __init__(self, tail: bytes) -> None:
        self.fields = fields_of(tail)
        self.messages: list[dict[str, Any]] = self.fields["messages"]
        self.changed = False
        self._bytes = len(tail)
        self.media = _media(self.messages)
        self.needs = _needs(self.fields, self.media)
        self.newest = _newest(self.messages)

    def say(self, messages: list[dict[str, Any]]) -> None:
        """From now on these are sent instead."""
        self.messages = self.fields["messages"] = messages
        self.changed = True

    @property
    def context_tokens(self) -> int:
        """Of prompt and bounded answer, rather too few than too many."""
        return self._bytes // _BYTES_A_TOKEN + (self.fields.get("max_tokens") or 0)

    @property
    def in_tool_loop(self) -> bool:
        """Whether the last message is a tool's result."""
        return bool(self.messages) and self.messages[-1].get("role") == "tool"


def _media(messages: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    found: frozenset[str] = _NONE
    for message in messages:
        content = message.get("content")
        if type(content) is list:
            found |= frozenset(part["type"] for part in content) - _TEXTS
    return found


def _needs(fields: Mapping[str, Any], media: frozenset[str]) -> frozenset[Need]:
    found: set[Need] = set()
    if fields.get("tools"):
        found.add("tools")
    if (fields.get("response_format") or _NOTHING).get("type") == "json_schema":
        found.add("json_schema")
    if "image_url" in media:
        found.add("vision")
    if "input_audio" in media:
        found.add("audio")
    if fields.get("logprobs"):
        found.add("logprobs")
    return frozenset(found) if found else _NO_NEEDS


def _newest(messages: Sequence[Mapping[str, Any]]) -> str:
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content")
            return content if type(content) is str else "\n".join(prose(message))
    return ""


class Reader:
    """Of one process. ``classify(tenant_id, text)`` gives an intent with its confidence."""

    def __init__(
        self,
        identify: Callable[[str], Any],
        classify: Callable[[str, str], tuple[str | None, float]] | None = None,
        most: int = _MOST_READ,
    ) -> None:
        self._identify = identify
        self._classify = classify
        self._most = most
        self._known: OrderedDict[bytes, Any] = OrderedDict()

    def said(self, tenant_id: str, text: str) -> Said:
        """Language and intent of one turn."""
        return self._remembered("said", tenant_id, text, lambda: self._read(tenant_id, text))  # type: ignore[no-any-return]

    def personal(
        self, messages: Sequence[Mapping[str, Any]], formats: Sequence[re.Pattern[str]], rule: str
    ) -> frozenset[str]:
        """Kinds of personal data in every turn, tool argument and tool result. ``rule`` names ``formats``."""
        found: frozenset[str] = frozenset()
        asked = ""
        for message in messages:
            for text in texts_of(message):
                found |= self._remembered(
                    rule,
                    asked,
                    text,
                    lambda: frozenset(p.kind.value for p in find(text, asked=asked, formats=formats)),  # noqa: B023
                )
            content = message.get("content")
            asked = content if isinstance(content, str) else ""
        return found

    def _read(self, tenant_id: str, text: str) -> Said:
        found = self._identify(text[:_LANGUAGE_FROM])
        intent, confidence = (None, 0.0) if self._classify is None else self._classify(tenant_id, text)
        return Said(found.tag, bool(found.romanised), intent, confidence, wants_a_person(text))

    def _remembered(self, what: str, beside: str, text: str, read: Callable[[], Any]) -> Any:
        of = [part.encode("utf-8", "surrogatepass") for part in (what, beside, text)]
        key = hashlib.blake2b(b"%d:%b%d:%b" % (len(of[0]), of[0], len(of[1]), of[1]) + of[2], digest_size=16).digest()
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
            return found
        made = self._known[key] = read()
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return made

    def forget(self) -> None:
        """What was read by rules that hold no more."""
        self._known.clear()


def texts_of(message: Mapping[str, Any]) -> Iterator[str]:
    """Everything in a message that somebody wrote: contents, refusals, a tool's arguments."""
    for name in ("content", "name", "refusal", "reasoning"):
        value = message.get(name)
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (text for part in value for text in (part.get("text"), part.get("refusal")) if text)
    for call in message.get("tool_calls") or ():
        yield call["function"]["arguments"]
