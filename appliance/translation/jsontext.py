"""The values of a JSON text that people read, found and replaced in place; everything else stays byte for byte.

What it is: ``values`` walks the text's tokens and names each string value with its key; ``replaced`` writes new ones.
Keys, numbers (``1.10`` stays ``1.10``), order, repeated keys and blank space are never touched. ``for_people`` says by
key and content whether a value is prose: never under a key that names an identifier, a name, a code or a place, never
an address, a date or a single token, always under one such as ``message``; elsewhere from three words on.
What it refuses to be: sure. An enum of three words is taken for prose; a schema would know better.
What it costs: 0.2 µs a character.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import msgspec

from appliance.translation.abbreviations import words

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]')
_WORDS = re.compile(r"[a-z0-9]+|[A-Z]+(?![a-z])|[A-Z][a-z0-9]*")
# The last word of a key; of "ticket_id", "orderId" and "id" it is "id".
_FOR_MACHINES = words(
    """id ids uuid key keys code codes sku ref reference token hash url uri link href path file filename email mail
    phone mobile number no name names username user type kind status state enum format mime locale language lang
    currency unit date time timestamp at datetime timezone tz version model method action command query sql role
    schema pincode zip address city country region vehicle pnr upi vpa ifsc pan gstin aadhaar regex pattern
    color icon image src class tag tags"""
)
_FOR_PEOPLE = words(
    """message text title subtitle description answer reply response summary reason explanation note notes comment body
    content caption label heading question greeting instruction instructions advice warning hint prompt speech say
    subject apology suggestion"""
)
_OPAQUE = re.compile(
    r"\s*(?:\S+|(?:https?|ftp)://\S+|[\w.%+-]+@[\w.-]+|[\d\s.,:/+()TZ-]+|[A-Z0-9]+(?:[-_/ ][A-Z0-9]+)+)\s*\Z"
)
_LETTERS = re.compile(r"[^\W\d_]{2}")
_LEAST_WORDS = 3


class Value(msgspec.Struct, frozen=True):
    """A string value: where its token stands in the text, what it says, and the key it is under ("" for none)."""

    start: int
    end: int
    text: str
    key: str


def is_json(text: str) -> bool:
    """Whether ``text`` is a JSON object or array. A bare string or number is taken for plain text."""
    if text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def values(text: str) -> list[Value]:
    """The string values of ``text``, which ``is_json``."""
    found: list[Value] = []
    # the key that holds at each depth: elements of an array are under the array's
    keys = [""]
    tokens = list(_TOKEN.finditer(text))
    for token, following in zip(tokens, [*(t[0] for t in tokens[1:]), ""], strict=True):
        mark = token[0]
        if mark in ("{", "["):
            keys.append(keys[-1])
        elif mark in ("}", "]"):
            keys.pop()
        elif mark[0] == '"':
            said = str(json.loads(mark))
            if following == ":":
                keys[-1] = said
            else:
                found.append(Value(token.start(), token.end(), said, keys[-1]))
    return found


def replaced(text: str, new: Mapping[int, str]) -> str:
    """``text`` with the values that start at the keys of ``new`` replaced."""
    out: list[str] = []
    end = 0
    for value in values(text):
        if value.start in new:
            clean = new[value.start].encode("utf-8", "replace").decode()
            out += text[end : value.start], json.dumps(clean, ensure_ascii=False)
            end = value.end
    out.append(text[end:])
    return "".join(out)


def for_people(value: Value, strict: bool = False) -> bool:
    """Whether ``value`` is prose. ``strict``: only where the key says so, for what a program acts on."""
    last = _last_word(value.key)
    if last in _FOR_MACHINES or not _LETTERS.search(value.text):
        return False
    if last in _FOR_PEOPLE:
        return not _OPAQUE.match(value.text) or not value.text.isascii() or value.text.strip().isalpha()
    if strict or _OPAQUE.match(value.text):
        return False
    return len(value.text.split()) >= _LEAST_WORDS


def for_machines(value: Value) -> bool:
    """Whether the key says that ``value`` is an identifier, a name, a code or a place."""
    return _last_word(value.key) in _FOR_MACHINES


def is_native(text: str) -> bool:
    """Whether ``text`` holds letters that are not Latin."""
    return any(letter > "\u036f" and letter.isalpha() for letter in text)


def _last_word(key: str) -> str:
    parts = _WORDS.findall(key)
    return parts[-1].lower() if parts else ""
