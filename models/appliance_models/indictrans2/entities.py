"""What must come through a translation byte for byte: found, replaced by ``<ID1>`` …, and put back.

What it is: pure functions. ``wrap`` numbers entities by place, the same text always the same number; ``mark``
sees a placeholder in whatever form the model returns it (``< ID1 >``, ``[id 1]``, ``< आईडी12 >``), number whole;
``unmark`` puts the entities back.
What it refuses to be: state. The numbers live in the returned value, so any number of threads may use it.
What it costs: 5–20 µs a sentence; every pattern is linear in the length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence

import msgspec

# Order matters: at one place the first alternative wins. Every repetition is bounded, so no input makes one slow.
_EMOJI = "\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u2190-\u21ff\u2300-\u23ff\u00a9\u00ae\u2122"
_JOINED = rf"{_EMOJI}\ufe0f\u200d\u20e3\U000e0020-\U000e007f"
_CURRENCY = r"(?:[₹$€£¥]|(?<![A-Za-z])(?:Rs\.?|INR|USD|EUR))"
# What ends an address in running text: quotes, brackets, danda, the Urdu full stop. Trailing stops belong to the text.
_ADDRESS = r"[^\s<>\"'`{}|\\^।॥۔]"
_NO_STOP = r"(?<![.,;:!?)\]])"
_ENDINGS = "com|org|net|edu|gov|int|info|biz|in|io|co|ai|app|dev|uk|us|eu"
_HOST = r"(?<![\w./@-])(?:[A-Za-z0-9-]{1,63}\.){1,8}"
_PATTERNS: tuple[tuple[str, str], ...] = (
    ("template", r"\{\{[^{}]{0,200}\}\}|\$\{[^{}]{0,200}\}|\$\([A-Za-z0-9_]{1,64}\)|\{[A-Za-z0-9_.:]{0,64}\}"),
    ("markup", r"</?[A-Za-z][A-Za-z0-9:-]{0,31}(?:\s[^<>]{0,500})?/?>|<!--[^<>]{0,500}-->"),
    ("character", r"&(?:[A-Za-z]{2,31}|#[0-9]{1,7}|#x[0-9A-Fa-f]{1,6});"),
    ("email", r"(?<![\w.%+-])[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}(?<![-.])"),
    ("url", rf"(?:https?|ftp)://{_ADDRESS}{{1,2000}}{_NO_STOP}"),
    ("url", rf"{_HOST}(?:{_ENDINGS})(?![\w.-]*\w)(?:[/?#]{_ADDRESS}{{0,2000}}{_NO_STOP})?"),
    (
        "format",
        r"%(?:\([A-Za-z0-9_]{1,64}\))?(?:[0-9]{1,2}\$)?[-+#0]{0,3}[0-9]{0,4}(?:\.[0-9]{1,4})?[sdifuxXgGc@](?![A-Za-z])"
        r"|%[A-Za-z0-9_]{2,64}%|%[0-9](?![0-9%])",
    ),
    ("handle", r"(?<![\w@#])[@#][A-Za-z0-9_][\w-]{0,63}"),
    ("emoji", rf"[{_EMOJI}][{_JOINED}{_EMOJI}]{{0,15}}|[0-9#*]\ufe0f?\u20e3"),
    ("number", rf"{_CURRENCY}\s?\d[\d,.]{{0,40}}(?<=\d)(?:/-)?"),
    ("number", r"\+\d{1,3}[\s-]?\(?\d{2,5}\)?(?:[\s-]?\d{2,5}){1,4}(?!\w)"),
    ("number", r"(?<![\w.,])\d{3,5}[\s-]\d{3,5}(?:[\s-]\d{2,5})?(?![\w.,:/-]\d|\w)"),
    (
        "code",
        r"(?<![\w-])(?=[A-Za-z-]{0,20}\d)(?=\d{0,20}-?[A-Za-z])[A-Za-z0-9]{1,20}(?:[-_/][A-Za-z0-9]{1,20}){1,6}(?![\w-])",
    ),
    ("code", r"(?<!\w)(?=[A-Z]{0,10}\d)(?=\d{0,10}[A-Z])[A-Z0-9]{5,24}(?!\w)"),
    ("number", r"(?<![\w.,])\d{1,40}(?:[-/.,:]\d{1,40}){1,6}(?:\s?%)?(?!\w)"),
    ("number", r"(?<![\w.,])\d{1,12}\s?%"),
    ("number", r"(?<![\w.,])\d{5,40}(?!\w)"),
)
_ENTITY = re.compile("|".join(f"({pattern})" for _, pattern in _PATTERNS))
_KINDS = tuple(kind for kind, _ in _PATTERNS)


class Entity(msgspec.Struct, frozen=True):
    """One entity: its text in the source, whether its digits may change form, and which sides touch a word."""

    text: str
    number: bool = False
    touches_left: bool = False
    touches_right: bool = False


class Wrapped(msgspec.Struct, frozen=True):
    """A sentence whose entities are placeholders; entity ``i`` is placeholder ``i + 1``."""

    text: str
    entities: tuple[Entity, ...]


def spans(text: str) -> Iterator[tuple[int, int, bool]]:
    """Start, end and whether it is a number, of every entity in ``text``."""
    for match in _ENTITY.finditer(text):
        kind = _KINDS[(match.lastindex or 1) - 1]
        yield match.start(), match.end(), kind == "number"


def placeholder(number: int) -> str:
    """What the model reads in place of entity ``number``, counted from 1."""
    return f"<ID{number}>"


def wrap(text: str, wanted: Callable[[str], bool] = lambda entity: True) -> Wrapped:
    """``text`` with the entities that are ``wanted`` replaced; equal entities share a number."""
    numbers: dict[str, int] = {}
    entities: list[Entity] = []
    out: list[str] = []
    end = 0
    for start, stop, number in spans(text):
        entity = text[start:stop]
        if not wanted(entity):
            continue
        if entity not in numbers:
            numbers[entity] = len(numbers) + 1
            left, right = _is_word(text[start - 1 : start]), _is_word(text[stop : stop + 1])
            entities.append(Entity(entity, number, left, right))
        out += text[end:start], " ", placeholder(numbers[entity]), " "
        end = stop
    out.append(text[end:])
    return Wrapped("".join(out), tuple(entities))


def _is_word(neighbour: str) -> bool:
    """Whether an entity that touches this character is written as one word with it; punctuation is not a word."""
    return neighbour != "" and (unicodedata.category(neighbour)[0] in "LMN" or neighbour in "<>{}%@#")


# What the published models make of "ID" now and then, in every script they write (Devanagari as decoded). In brackets
# any of it is a placeholder; without them only the Indic forms are, for "ID 4" and "grid 4" are words of their own.
_INDIC_ID = (
    r"(?:आई\s?\.?\s?डी\s?\.?|आय\s?\.?\s?डी\s?\.?|आइ\s?\.?\s?डी\s?\.?|ऐटि|ऐडि|आइडि|"
    r"آی\s?ڈی|آئی\s?ڈی|ꯑꯥꯏꯗꯤ|ᱟᱭᱰᱤ(?:\s?᱾)?)"
)
_ENGLISH_ID = r"(?:I\s?\.?\s?D\s?\.?|[Ii]d)"
_NUMBER = r"\s?([0-9]{1,4})(?![0-9])"
_PLACEHOLDER = re.compile(
    rf"[<\[]\s?(?:{_ENGLISH_ID}|{_INDIC_ID}){_NUMBER}(?:\s?[>\]])?|(?<!\w){_INDIC_ID}{_NUMBER}(?:\s?[>\]])?"
)
_SPOKEN = re.compile(rf"(?<!\w)(?:{_ENGLISH_ID}|{_INDIC_ID})\s?\d")
_OPEN, _CLOSE = "\ufdd1", "\ufdd2"
_MARK = re.compile(rf"( ?){_OPEN}(\d+){_CLOSE}( ?)")


def mark(text: str, entities: Sequence[Entity], bare: bool = True) -> str:
    """The model's ``text`` with every placeholder as one opaque token that nothing later changes.

    ``bare`` says whether a placeholder may have lost its brackets; a source that speaks of an ``ID 1`` itself forbids
    it. A number without an entity is the model's invention: in brackets it is dropped, bare it is a word.
    """

    def one(match: re.Match[str]) -> str:
        number = int(match[1] or match[2])
        if not bare and match[0][0] not in "<[":
            return match[0]
        if 1 <= number <= len(entities):
            return f" {_OPEN}{number}{_CLOSE} "
        return " " if match[0][0] in "<[" else match[0]

    return _PLACEHOLDER.sub(one, text)


def speaks_of_ids(text: str) -> bool:
    """Whether ``text`` itself holds what could be taken for a placeholder without brackets."""
    return _SPOKEN.search(text) is not None


def unmark(text: str, entities: Sequence[Entity]) -> tuple[str, frozenset[int]]:
    """``text`` with the entities in place, and the indices of those that came through."""
    seen: set[int] = set()

    def one(match: re.Match[str]) -> str:
        entity = entities[int(match[2]) - 1]
        seen.add(int(match[2]) - 1)
        left = "" if entity.touches_left else match[1]
        return left + entity.text + ("" if entity.touches_right else match[3])

    return _MARK.sub(one, text), frozenset(seen)
