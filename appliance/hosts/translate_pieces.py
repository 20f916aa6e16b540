"""A text of any length as pieces that are translated or pass as they are: joined they are the text, byte for byte.

What it is: sentences (``translation.sentences``), rules and long unbroken runs of ASCII left alone, Markdown taken
apart (HTML is in ``translate_html``); and ``halves``, the safe place to cut a sentence that is too long for the model.
What it refuses to be: a tokenizer or a parser that repairs. Markup that is not understood passes as it is.
What it costs: a generator; it holds one block of text at a time, whatever the length of the document.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from msgspec import Struct

from appliance.hosts import translate_html
from appliance.hosts.translate_wire import Mode
from appliance.translation.sentences import Stream

LONGEST = 600
"""Characters of a sentence at most; a model's limit is in tokens, and ``halves`` brings what is left below it."""
_BLOCK = 16_384

# A line of dashes made others hang (IndicTrans2 #23), and no language here has words of 120 ASCII characters: code,
# keys and base64 do.
_ALONE = re.compile(r"[!-~]{120,}|([-_=*~.·•─━—–+#|])\1{7,}|(?:[-_=*~.·•─━—–+#|] ){12,}")

_FENCE = re.compile(r"^ {0,3}(`{3,}+|~{3,}+)[^\n]*+\n(?:.*?^ {0,3}\1[ \t]*(?:\n|\Z)|.*\Z)", re.DOTALL | re.MULTILINE)
_PREFIX = re.compile(r"[ \t]*(?:(?:[>#|]+|[-*+](?= )|\d{1,9}[.)](?= )|\[[ xX]\](?= ))[ \t]*)*")
# the look ahead first, so that there is one way to match and a line of a million bars costs one look
_TABLE_RULE = re.compile(r"(?=[ \t:-]*\|)[ \t:|-]+")
_DEFINITION = re.compile(r" {0,3}\[[^\]]+\]:\s*\S+")
MARKDOWN_SPANS = re.compile(
    r"`+[^`\n]+`+|!?\[(?=[^\]\n]*\]\()|\]\([^)\s]*(?:\s+\"[^\"\n]*\")?\)|\*{1,3}|~~|(?<!\w)_{1,3}|_{1,3}(?!\w)|\|"
)
"""What stands in a line of Markdown for people's programs: inline code, links' targets, emphasis, cells."""

_CLAUSES = re.compile(r"[,;:،؛—–|](?=\s)|[।॥۔.?!](?=\s)")


class Piece(Struct, frozen=True):
    """``text`` is translated, or passes as it is."""

    text: str
    translate: bool


def pieces(text: str, mode: Mode) -> Iterator[Piece]:
    """The pieces of ``text``."""
    if mode == "html":
        return html(text)
    if mode == "markdown":
        return _markdown(text)
    return plain(text)


def html(text: str) -> Iterator[Piece]:
    """What people read of HTML, where a line break is a space; block tags between."""
    for part, for_people in translate_html.runs(text):
        if for_people and part.strip():
            yield from plain(part.replace("\r", " ").replace("\n", " "))
        else:
            yield Piece(part, False)


def plain(text: str) -> Iterator[Piece]:
    """Sentences, with what is no language between them."""
    start = 0
    for match in _ALONE.finditer(text):
        yield from _sentences(text, start, match.start())
        yield Piece(match[0], False)
        start = match.end()
    yield from _sentences(text, start, len(text))


def _sentences(text: str, start: int, end: int) -> Iterator[Piece]:
    stream = Stream(LONGEST)
    for at in range(start, end, _BLOCK):
        for sentence in stream.push(text[at : min(at + _BLOCK, end)]):
            yield Piece(sentence, True)
    for sentence in stream.close():
        yield Piece(sentence, True)


def _markdown(text: str) -> Iterator[Piece]:
    start = 0
    for match in _FENCE.finditer(text):
        yield from _lines(text, start, match.start())
        yield Piece(match[0], False)
        start = match.end()
    yield from _lines(text, start, len(text))


def _lines(text: str, start: int, end: int) -> Iterator[Piece]:
    while start < end:
        stop = text.find("\n", start, end) + 1 or end
        line = text[start:stop]
        start = stop
        bare = line.rstrip("\r\n")
        if _TABLE_RULE.fullmatch(bare) or _DEFINITION.match(bare):
            yield Piece(line, False)
            continue
        prefix = _PREFIX.match(line)
        if prefix is not None and prefix[0]:
            yield Piece(prefix[0], False)
            line = line[prefix.end() :]
        yield from plain(line)


def halves(text: str, spans: Iterator[tuple[int, int]]) -> tuple[str, str] | None:
    """``text`` cut in two at the clause, else the space, else the letters nearest its middle; never inside a span.

    None where it is a single letter, or nothing but one span.
    """
    closed = [(start, end) for start, end in spans if end - start > 1]

    def free(at: int) -> bool:
        return 0 < at < len(text) and not any(start < at < end for start, end in closed)

    middle = len(text) / 2
    for places, reach in ((_clauses(text), 0.3), (_spaces(text), 0.49), (_letters(text), 0.5)):
        near = [at for at in places if abs(at - middle) <= reach * len(text) and free(at)]
        if near:
            at = min(near, key=lambda one: abs(one - middle))
            return text[:at], text[at:]
    return None


def _clauses(text: str) -> Iterator[int]:
    return (match.end() for match in _CLAUSES.finditer(text))


def _spaces(text: str) -> Iterator[int]:
    return (match.end() for match in re.finditer(r"\s+", text))


def _letters(text: str) -> Iterator[int]:
    return (at for at in range(1, len(text)) if _between_letters(text, at))


def _between_letters(text: str, at: int) -> bool:
    """Whether readers see two letters at ``at`` and not one cut apart."""
    left, right = text[at - 1], text[at]
    joined = unicodedata.combining(left) == 9 or left == "\u200d"
    return not joined and unicodedata.category(right)[0] != "M" and right not in "\u200c\u200d"
