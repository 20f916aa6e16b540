"""JSON that a model almost wrote, read as what it meant: the one repair that is tried before anybody escalates.

What it is: ``mended(text)``: a tolerant reader that takes code fences and talk around the value, single and typographic
quotes, names without quotes, ``True``/``None``, comments, commas too many or missing, and brackets that were cut off.
What it refuses to be: inventive. It closes and requotes; it never makes up a key, a value or a number, and a value that
was cut in the middle is dropped with its key, because half an amount is a wrong amount.
What it costs: 0.6 ms for 2,000 characters, only where strict JSON failed; 200,000 characters at most.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from msgspec import Struct

_LONGEST = 200_000
_DEEPEST = 64
_FENCE = re.compile(r"```[A-Za-z0-9_-]*\s*\n?")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "„": "“", "`": "`"}
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])")
_BARE = re.compile(r"[^\W\d][\w$-]*")
_LITERALS = {"true": True, "false": False, "null": None, "none": None, "undefined": None, "nan": None}
_SKIP = re.compile(r"(?:\s+|//[^\n]*|/\*.*?\*/|#[^\n]*)+", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Mended(Struct, frozen=True):
    """``value`` and its strict JSON; ``cut``: its end was missing."""

    value: Any
    text: str
    cut: bool


class _Broken(Exception):
    pass


class _Cut(Exception):
    """A value that ends in the middle of itself; nothing follows it."""


def strict(text: str) -> Any:
    """The value of strict JSON. Raises ValueError; NaN and Infinity are none."""

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def mended(text: str) -> Mended | None:
    """What ``text`` meant; None where that is not clear. An object or a list is looked for, never a lone word."""
    if len(text) > _LONGEST:
        return None
    for start in _starts(text):
        reader = _Reader(text, start)
        try:
            value = reader.value(0)
        except (_Broken, _Cut):
            continue
        rest = text[reader.at :]
        if not reader.cut and re.search(r"[\[{]\s*[\"'\[{]", rest):
            continue  # a second value follows, and nobody said which one counts
        return Mended(value, json.dumps(value, ensure_ascii=False, separators=(",", ":")), reader.cut)
    return None


def _starts(text: str) -> list[int]:
    """Where the value may begin: in the first fence, else at the first brace, else at the first bracket."""
    fence = _FENCE.search(text)
    places = []
    for begin in (fence.end() if fence else 0, 0):
        for opening in "{[":
            place = text.find(opening, begin)
            if place >= 0 and place not in places:
                places.append(place)
    first_two = places[:2]
    return sorted(first_two) + places[2:]


class _Reader:
    def __init__(self, text: str, at: int) -> None:
        self.text = text
        self.at = at
        self.cut = False

    def value(self, depth: int) -> Any:
        """Whatever stands here. Raises _Broken, _Cut."""
        self._skip()
        if depth > _DEEPEST:
            raise _Broken
        character = self._here()
        if not character:
            raise _Cut
        if character == "{":
            return self._object(depth)
        if character == "[":
            return self._list(depth)
        if character in _QUOTES:
            return self._string()
        return self._plain()

    def _here(self) -> str:
        return self.text[self.at : self.at + 1]

    def _skip(self) -> None:
        match = _SKIP.match(self.text, self.at)
        if match:
            self.at = match.end()

    def _between(self, closing: str) -> bool:
        """Move to the next member; whether there is one. A comma that is missing is no obstacle."""
        self._skip()
        while self._here() == ",":
            self.at += 1
            self._skip()
        character = self._here()
        if character == closing:
            self.at += 1
            return False
        if character in ("}", "]") or self.text.startswith("```", self.at):
            self.cut = True  # the other bracket: this one was forgotten
            return False
        if not character:
            self.cut = True
            return False
        return True

    def _end(self) -> None:
        """Nothing more is read; what is open is closed."""
        self.cut = True
        self.at = len(self.text)

    def _object(self, depth: int) -> dict[str, Any]:
        self.at += 1
        result: dict[str, Any] = {}
        while self._between("}"):
            try:
                key = self._key()
                self._skip()
                if self._here() not in (":", "="):
                    raise _Broken if self._here() else _Cut
                self.at += 1
                result[key] = self.value(depth + 1)
            except _Cut:
                self._end()
                break
        return result

    def _key(self) -> str:
        if self._here() in _QUOTES:
            return self._string()
        match = _BARE.match(self.text, self.at)
        if match is None:
            raise _Broken
        self.at = match.end()
        return match[0]

    def _list(self, depth: int) -> list[Any]:
        self.at += 1
        result: list[Any] = []
        while self._between("]"):
            try:
                result.append(self.value(depth + 1))
            except _Cut:
                self._end()
                break
        return result

    def _string(self) -> str:
        opening = self.text[self.at]
        closing = _QUOTES[opening]
        self.at += 1
        pieces: list[str] = []
        while True:
            character = self._here()
            if not character:
                raise _Cut
            self.at += 1
            if character == closing and self._closes(opening):
                return "".join(pieces)
            pieces.append(self._escaped() if character == "\\" else character)

    def _closes(self, opening: str) -> bool:
        """Whether the quote just read ends the string: "it's" in single quotes does not."""
        if opening == '"':
            return True
        after = self.text[self.at : self.at + 1]
        return not (after.isalnum() and self.text[self.at - 2 : self.at - 1].isalnum())

    def _escaped(self) -> str:
        character = self._here()
        self.at += 1
        if character == "u":
            digits = self.text[self.at : self.at + 4]
            try:
                point = int(digits, 16)
            except ValueError:
                raise _Broken from None
            self.at += 4
            return self._pair(point)
        return _ESCAPES.get(character, character)

    def _pair(self, point: int) -> str:
        if 0xD800 <= point < 0xDC00 and self.text.startswith("\\u", self.at):
            low = self.text[self.at + 2 : self.at + 6]
            if re.fullmatch(r"[dD][c-fC-F][0-9a-fA-F]{2}", low):
                self.at += 6
                return chr(0x10000 + ((point - 0xD800) << 10) + (int(low, 16) - 0xDC00))
        return "\ufffd" if 0xD800 <= point < 0xE000 else chr(point)

    def _plain(self) -> Any:
        number = _NUMBER.match(self.text, self.at)
        if number is not None:
            if number.end() == len(self.text):
                raise _Cut  # more digits may have been to come
            self.at = number.end()
            found = number[0]
            if len(found) > 400:
                raise _Broken
            if re.fullmatch(r"-?\d+", found):
                return int(found)
            if math.isinf(real := float(found)):
                raise _Broken
            return real
        word = _BARE.match(self.text, self.at)
        if word is None or word.end() == len(self.text):
            if word is not None or self.text[self.at :] in ("-", "+"):
                raise _Cut
            raise _Broken
        literal = word[0].lower()
        if literal not in _LITERALS:
            raise _Broken
        self.at = word.end()
        return _LITERALS[literal]
