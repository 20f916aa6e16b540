"""Personal data out of a conversation, and back into its answer.

What it is: one ``Redaction`` a conversation's request: ``hide`` puts ``[PHONE_1]`` where a number stood, the same
stand-in for the same value in every turn; ``restore`` and ``Restoring`` (for streams) put the values back.
What it refuses to be: kept. It lives as long as its request; nothing it knows is written anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from appliance.policy.personal import Kind, Personal, find

# Models change the case, drop the brackets' neighbours or add a blank; the name and the number they keep.
_STAND_IN = re.compile(r"\[\s?([A-Za-z]+(?:_[A-Za-z]+)?)[_ ]?([0-9]{1,4})\s?\]")
_LONGEST_STAND_IN = 32


class Redaction:
    """What was hidden in one request, value by value."""

    def __init__(self, formats: Sequence[re.Pattern[str]] = ()) -> None:
        self._formats = formats
        self._stand_ins: dict[tuple[Kind, str], str] = {}
        self._values: dict[tuple[str, int], str] = {}
        self._used: set[tuple[str, int]] = set()

    def reserve(self, text: str) -> None:
        """Never use a stand-in that ``text`` holds already; call it for every turn before the first ``hide``."""
        for match in _STAND_IN.finditer(text):
            self._used.add((match[1].lower(), int(match[2])))

    def hide(self, text: str, *, asked: str = "") -> str:
        """``text`` with every find of ``personal.find`` replaced."""
        pieces, done = [], 0
        for found in find(text, asked=asked, formats=self._formats):
            pieces += [text[done : found.start], self._stand_in(found, text[found.start : found.end])]
            done = found.end
        return "".join([*pieces, text[done:]]) if pieces else text

    @property
    def kinds(self) -> frozenset[Kind]:
        """Of everything that was hidden."""
        return frozenset(kind for kind, _ in self._stand_ins)

    def restore(self, text: str) -> str:
        """``text`` with the values back; stand-ins nobody made stay as they are."""
        if not self._values or "[" not in text:
            return text
        return _STAND_IN.sub(self._value, text)

    def _value(self, match: re.Match[str]) -> str:
        return self._values.get((match[1].lower(), int(match[2])), match[0])

    def _stand_in(self, found: Personal, value: str) -> str:
        made = self._stand_ins.get((found.kind, value))
        if made is None:
            name = found.kind.value
            number = 1
            while (name, number) in self._used:
                number += 1
            self._used.add((name, number))
            self._values[(name, number)] = value
            made = self._stand_ins[(found.kind, value)] = f"[{name.upper()}_{number}]"
        return made


class Restoring:
    """``restore`` for an answer that comes in pieces: holds back what may be the beginning of a stand-in."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._held = ""

    def feed(self, piece: str) -> str:
        """What may leave now."""
        text = self._held + piece
        opened = text.rfind("[")
        unfinished = opened >= 0 and "]" not in text[opened:] and len(text) - opened < _LONGEST_STAND_IN
        cut = opened if unfinished else len(text)
        self._held = text[cut:]
        return self._redaction.restore(text[:cut])

    def end(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return self._redaction.restore(held)
