"""Where sentences end, in every script: ``split`` for a whole text, ``Stream`` for one that arrives in pieces.

What it is: rules on characters. Danda, the Urdu full stop, the marks of Ol Chiki and Meetei Mayek and line breaks
always end a sentence; a Latin full stop does so unless it stands in a number, an address, an abbreviation, an initial
or the label of a list. The pieces joined are the text, byte for byte; blank space belongs to the sentence before it. A
``Stream`` gives the same pieces as ``split``, each as soon as the next word shows that it has ended.
What it refuses to be: a tokenizer, or a judge of length in the model's tokens. A sentence longer than ``limit``
characters is cut at a clause, else at a space, else between two letters as readers see them.
What it costs: 0.2 µs a character; every look back or ahead is bounded, so no text is slow.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from appliance.translation.abbreviations import COUNTS, LEADS, LETTER_NAMES, MAY_END

LIMIT = 1000
_LEAST_LETTERS = 4  # of a word before a full stop without space behind it
_LOOK = 48  # characters that a decision may look back

_BREAKS = "\n\r\v\f\x85\u2028\u2029"
# Danda and double danda, Urdu full stop, Ol Chiki mucaad and double mucaad, Meetei Mayek cheikhei, cheikhan and ahang
# khudam, the full-width forms, and the danda's places in other blocks, which are reserved and typed all the same: they
# end a sentence also where no space follows.
_STRONG = "।॥۔᱾᱿꯫꫰꫱。！？" + "".join(chr(base + n) for base in range(0x09E4, 0x0D80, 0x80) for n in (0, 1))
_ASKS = "?!؟‽"
_CLOSERS = "\"'”’»›)]}*_`"
_MARK = re.compile(rf"[{_STRONG}{_ASKS}.…]+[{re.escape(_CLOSERS)}]*|(?=[{_BREAKS}])")
_SPACE = re.compile(rf"[^\S{_BREAKS}]*(?:[{_BREAKS}]\s*)?")
_BREAK = re.compile(f"[{_BREAKS}]")
_BETWEEN = re.compile(r"[\s(\[{\"'“‘«/,;:–—-]")
_LABEL = re.compile(r"[\s>*#+(\[\-•–]*(?:\d{1,4}|[^\W\d_]|[ivxIVX]{1,5})\Z")
_TOKEN = re.compile(r"[^\s.]{1,12}\.?")

_NO_VOWEL = re.compile(r"[bcdfghjklmnpqrstvwxz]{2,5}\Z")
_CLAUSE = re.compile(r"[,;:،؛—–](?=\s)")


def split(text: str, limit: int = LIMIT) -> list[str]:
    """The sentences of ``text`` with the blank space after each; joined they are ``text``."""
    stream = Stream(limit)
    return [*stream.push(text), *stream.close()]


class Stream:
    """Sentences of a text that arrives in pieces of any size; holds back at most ``limit`` characters and a little."""

    def __init__(self, limit: int = LIMIT) -> None:
        if limit < 1:
            raise ValueError(f"a sentence has at least one character, not {limit}")
        self._limit = limit
        self._text = ""

    @property
    def held(self) -> str:
        """What has arrived and is not a whole sentence yet."""
        return self._text

    def push(self, text: str) -> list[str]:
        """The sentences that ``text`` completes."""
        self._text += text
        return self._take(final=False)

    def close(self) -> list[str]:
        """What is left when nothing more comes."""
        return self._take(final=True)

    def _take(self, final: bool) -> list[str]:
        out = []
        start = 0
        for end in _ends(self._text, self._limit, final):
            out.append(self._text[start:end])
            start = end
        self._text = self._text[start:]
        return out


def _ends(text: str, limit: int, final: bool) -> Iterator[int]:
    """Where each sentence of ``text`` ends, as far as it is known yet."""
    start = 0
    while start < len(text):
        end = _end(text, start, limit, final)
        if end is None:
            return
        yield end
        start = end


def _end(text: str, start: int, limit: int, final: bool) -> int | None:
    """The end of the sentence that begins at ``start``, or None while more text could change it."""
    size, window = len(text), start + limit
    for match in _MARK.finditer(text, start, min(size, window + 1)):
        stop = match.end()
        space = _SPACE.match(text, stop, min(size, window + 1))
        end = stop if space is None else space.end()
        if end > window:
            break
        if end == size:
            return size if final else None
        verdict = _ends_here(text, start, match.start(), stop, end, final)
        if verdict is None:
            return None
        if verdict:
            return end
    if size > window:
        return _cut(text, start, window)
    return size if final else None


def _ends_here(text: str, start: int, mark: int, stop: int, end: int, final: bool) -> bool | None:
    """Whether the mark at ``mark`` ends the sentence; ``stop`` is behind its quotes, ``end`` behind the space."""
    if _BREAK.search(text, stop, end):
        return True
    marks = text[mark:stop]
    if mark - start <= _LOOK and not any(map(str.isalnum, text[start:mark])):
        return False  # nothing has been said yet
    spaced, following = end > stop, text[end]
    if any(c in _STRONG for c in marks):
        return spaced or not (following.isdigit() and text[mark - 1 : mark].isdigit())
    quoted = marks[-1] in _CLOSERS
    if any(c in _ASKS for c in marks):
        # Letters at once behind a question mark are an address or code, but not in the scripts of India.
        return not (quoted and following.islower()) if spaced else following.isalpha() and following > "\u0590"
    if not spaced:
        return marks == "." and _is_typed_without_space(text, start, mark, following)
    if quoted or len(marks) > 1 or marks == "…":
        return not (following.islower() or text[mark - 1] == ",")
    return _full_stop(text, start, mark, end, final)


def _is_typed_without_space(text: str, start: int, mark: int, following: str) -> bool:
    """Whether the full stop at ``mark`` stands between two sentences (``खुला है.अब जाएँ``) and not in an abbreviation."""
    if following <= "\u0590" or not following.isalpha():
        return False
    word = unicodedata.normalize("NFC", _BETWEEN.split(text[max(start, mark - _LOOK) : mark])[-1])
    known = word in LEADS or word in COUNTS or word in LETTER_NAMES or "." in word
    return len(word) >= _LEAST_LETTERS and word[-1] > "\u0590" and not known


def _full_stop(text: str, start: int, mark: int, end: int, final: bool) -> bool | None:
    """Whether the single full stop at ``mark`` with space behind it ends the sentence."""
    following = text[end]
    *before, word = _BETWEEN.split(text[max(start, mark - _LOOK) : mark])
    word = unicodedata.normalize("NFC", word)
    if mark - start <= _LOOK and _LABEL.match(text, start, mark):
        return False
    key = word.lower()
    if key in COUNTS:
        return not (following.isdigit() or following.islower())
    if key in MAY_END:
        return not (following.islower() or following.isdigit())
    if key in LEADS or _is_dotted(key) or (len(word) == 1 and word.isalpha() and not word.islower()):
        return False
    if word in LETTER_NAMES:
        return _ends_initials(text, end, before, final)
    return not (following.islower() and _NO_VOWEL.match(key))


def _is_dotted(word: str) -> bool:
    """Whether ``word`` is an abbreviation with stops inside (``u.s``, ``ए.पी.जे``) and not an address or a number."""
    parts = word.split(".")
    return len(parts) > 1 and all(p.isalpha() and len(p) <= 2 if p.isascii() else len(p) <= 5 for p in parts)


def _ends_initials(text: str, end: int, before: list[str], final: bool) -> bool | None:
    """Whether a letter's name with a full stop (``पी.``) is a word and not one of several initials."""
    if any(before[-1:]) and before[-1][-1] == "." and before[-1][:-1] in LETTER_NAMES:
        return False
    following = _TOKEN.match(text, end)
    if following is None:
        return True
    if following.end() == len(text) and not final and following[0][-1] != ".":
        return None
    return not (following[0][-1] == "." and unicodedata.normalize("NFC", following[0][:-1]) in LETTER_NAMES)


def _cut(text: str, start: int, window: int) -> int:
    """Where to cut a sentence that goes on past ``window``: its last clause or space there, else between letters."""
    early = start + (window - start) // 3
    clauses = [m.end() for m in _CLAUSE.finditer(text, early, window)]
    if clauses:
        return _behind_space(text, clauses[-1], window)
    for at in range(window, early, -1):
        if text[at - 1].isspace():
            return at
    for at in range(window, start, -1):
        if not _joins(text[at - 1], text[at]):
            return at
    return window


def _behind_space(text: str, at: int, window: int) -> int:
    while at < window and text[at].isspace():
        at += 1
    return at


def _joins(left: str, right: str) -> bool:
    """Whether readers see ``left`` and ``right`` as parts of one letter."""
    viramas = unicodedata.combining(left) == 9 or left == "\u200d"
    return viramas or unicodedata.category(right)[0] == "M" or right in "\u200c\u200d"
