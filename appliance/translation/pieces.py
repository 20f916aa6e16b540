"""A text as what a translation sees and what it must not: Markdown's marks before a line, code, blank space.

What it is: ``pieces`` of a whole text, ``Cutter`` for sentences as they come. Lead, body and tail of every piece
joined are the text; only a body goes to a translation.
What it refuses to be: a Markdown parser. Marks inside a sentence (``**``, links, cells of a table) are the
translation's to keep.
"""

from __future__ import annotations

import re

import msgspec

from appliance.translation.messages import has_letters
from appliance.translation.sentences import split

# quotes, headings, bullets, numbers of a list, the border of a table
_LEAD = re.compile(r"(?:\s|>|#{1,6}\s|[-*+•]\s|\d{1,3}[.)]\s|\|)*")
_FENCE = re.compile(r"\s{0,3}(?:```|~~~)[^`~]*\Z")


class Piece(msgspec.Struct, frozen=True):
    """Part of a text; ``body`` is one sentence without space around it, or empty."""

    lead: str
    body: str = ""
    tail: str = ""


class Cutter:
    """Cuts sentences into pieces; knows from one to the next whether they are code."""

    def __init__(self) -> None:
        self._in_code = False
        self._line_begins = True

    def piece(self, sentence: str) -> Piece:
        """The next sentence, as ``sentences`` gives them."""
        begins, self._line_begins = self._line_begins, sentence[-1:] in "\n\r\v\f\x85\u2028\u2029"
        if begins and _FENCE.match(sentence):
            self._in_code = not self._in_code
            return Piece(sentence)
        if self._in_code:
            return Piece(sentence)
        lead = _LEAD.match(sentence)
        at = lead.end() if lead is not None else 0
        body = sentence[at:].rstrip()
        if not has_letters(body):
            return Piece(sentence)
        return Piece(sentence[:at], body, sentence[at + len(body) :])


def pieces(text: str) -> list[Piece]:
    """The pieces of a whole text."""
    cutter = Cutter()
    return [cutter.piece(sentence) for sentence in split(text)]
