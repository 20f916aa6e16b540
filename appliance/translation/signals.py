"""What a judge can see of a translation without knowing the language: numbers kept, length, script, the way back.

What it is: ``measure`` of a text and its translation, and ``distance`` between a text and what came back of it.
What it refuses to be: a verdict. These are inputs to one; on short texts each of them is noise.
What it costs: 16 µs for a text of four words; the way back costs a translation, which is the caller's to pay.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter

import msgspec

from appliance.language_id.scripts import SCRIPTS, script_table

_ENTITY = re.compile(
    r"(?:https?|ftp)://[^\s<>\"।]{1,2000}(?<![.,;:!?)])|[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}"
    r"|(?<!\w)(?=[A-Za-z0-9/_-]{0,30}\d)(?=[A-Za-z0-9/_-]{0,30}[A-Za-z])[A-Za-z0-9]{1,24}(?:[-/_][A-Za-z0-9]{1,24}){0,6}(?!\w)"
    r"|\d[\d.,:/\u066b\u066c]{0,40}(?<=\d)|\d|\{\{[^{}]{0,200}\}\}"
)
_SEPARATORS = re.compile(r"(?<=\d)[,\u066c](?=\d)")
_LONGEST = 20_000
_ORDERS = (1, 2, 3, 4)


class Signals(msgspec.Struct, frozen=True):
    """``kept``: share of numbers, addresses and codes that came through (1.0 of none); ``lost``: the rest.

    ``length_ratio``: characters out a character in. ``script_share``: share of the letters, those of entities left out,
    that are of the script wanted. ``round_trip``: 0 (the same) to 1 from the text to what came back of it, None where
    nobody asked.
    """

    kept: float
    lost: tuple[str, ...]
    length_ratio: float
    script_share: float
    round_trip: float | None = None


def measure(text: str, translation: str, script: str, round_trip: str | None = None) -> Signals:
    """Of a ``translation`` into ``script`` (ISO 15924); ``round_trip`` is what came back of it."""
    wanted, there = entities(text), entities(translation)
    lost = tuple((wanted - there).elements())
    total = sum(wanted.values())
    length = len(translation.strip()) / len(text.strip()) if text.strip() else 1.0
    back = None if round_trip is None else distance(text, round_trip)
    return Signals(1.0 - len(lost) / total if total else 1.0, lost, length, script_share(translation, script), back)


def entities(text: str) -> Counter[str]:
    """Numbers, addresses, codes and templates; digits as ASCII, without separators of thousands."""
    return Counter(_plain(match[0]) for match in _ENTITY.finditer(text[:_LONGEST]))


def script_share(text: str, script: str) -> float:
    """Share of the letters of ``text``, entities left out, that are of ``script``; 1.0 where there are none."""
    if script not in SCRIPTS:
        return 0.0
    letters = [c for c in _ENTITY.sub(" ", text[:_LONGEST]) if c.isalpha()]
    if not letters:
        return 1.0
    wanted, table = SCRIPTS.index(script), _table()
    return sum(ord(c) < len(table) and table[ord(c)] == wanted for c in letters) / len(letters)


def distance(text: str, other: str) -> float:
    """0 for the same letters, 1 for none in common: one less the mean F1 of runs of 1 to 4 letters, spaces left out."""
    left, right = _letters(text), _letters(other)
    if left == right:
        return 0.0
    scores = [_f1(left, right, n) for n in _ORDERS if min(len(left), len(right)) >= n]
    return 1.0 - sum(scores) / len(scores) if scores else 1.0


@functools.cache
def _table() -> bytes:
    return script_table().tobytes()


def _f1(left: str, right: str, n: int) -> float:
    one, two = (Counter(t[i : i + n] for i in range(len(t) - n + 1)) for t in (left, right))
    return 2 * (one & two).total() / (one.total() + two.total())


def _letters(text: str) -> str:
    return "".join(unicodedata.normalize("NFC", text[:_LONGEST]).lower().split())


def _plain(entity: str) -> str:
    if entity.isascii() and "," not in entity:
        return entity
    ascii_digits = "".join(str(unicodedata.decimal(c, c)) for c in entity)
    return _SEPARATORS.sub("", ascii_digits)
