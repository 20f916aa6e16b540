"""The parallel data as training, development and test pairs.

What it is: a reader of ``tag<TAB>English<TAB>Indic[<TAB>key]`` lines (plain or .xz) and the decisions about them: what
is cleaned (keyboard accelerators of menus), what is dropped and why (counted), what is made (Meetei Mayek, by rule),
the split. The split is by the letters of the English side (or of the key, where a line has one), so that no English
sentence of the test set, in whatever case or punctuation, occurs in training for any language.
What it refuses to be: random. The same file gives the same pairs in the same order everywhere.
What it costs: 30 s for 266k lines.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from appliance_models.indictrans2.tags import TAGS
from appliance_models.indictrans2.training.meetei import from_bengali

Part = Literal["train", "dev", "test"]
PARTS: tuple[Part, ...] = ("train", "dev", "test")
TEST_PER_MILLE = 40
DEV_PER_MILLE = 5
MAX_CHARACTERS = 400

_SCRIPT_NAMES = {
    "Arab": "ARABIC", "Beng": "BENGALI", "Deva": "DEVANAGARI", "Gujr": "GUJARATI", "Guru": "GURMUKHI",
    "Knda": "KANNADA", "Mlym": "MALAYALAM", "Mtei": "MEETEI", "Olck": "OL", "Orya": "ORIYA", "Taml": "TAMIL",
    "Telu": "TELUGU",
}  # fmt: skip
_ACCELERATOR_SUFFIX = re.compile(r"\s*\(\s*[&~_]?\s*[A-Za-z0-9]\s*\)")
_ACCELERATOR = re.compile(r"(?<![&~])[&~](?=\w)(?![A-Za-z#0-9]+;)")
_ACCELERATOR_BEFORE_WORD = re.compile(r"(?<![^\s(])[&~](?=\w)(?![A-Za-z#0-9]+;)")
_KEPT_AMPERSAND = re.compile(r"(?<=[A-Z])&(?=[A-Z])")


class Pair(msgspec.Struct, frozen=True):
    """One sentence pair. ``made`` says that the Indic side was transliterated here."""

    tag: str
    english: str
    indic: str
    part: Part
    made: bool = False


def read(path: Path) -> tuple[list[Pair], Counter[str]]:
    """Every usable pair, in the order of the file, and how many lines were dropped for which reason."""
    dropped: Counter[str] = Counter()
    seen: set[tuple[str, str, str]] = set()
    pairs: list[Pair] = []
    for tag, english, indic, key in _lines(path):
        english, indic = _without_accelerators(english, indic)
        reason = _fault(tag, english, indic)
        if reason is None and (tag, english, indic) in seen:
            reason = "duplicate"
        if reason is not None:
            dropped[reason] += 1
            continue
        seen.add((tag, english, indic))
        pairs.append(Pair(tag, english, indic, part_of(key)))
        if tag == "mni_Beng":
            pairs.append(Pair("mni_Mtei", english, from_bengali(indic), part_of(key), made=True))
    return pairs, dropped


def _lines(path: Path) -> Iterator[tuple[str, str, str, str]]:
    with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            fields = line.rstrip("\n").split("\t")
            if len(fields) not in (3, 4):
                raise ValueError(f"{path}:{number} has {len(fields)} fields; each line is tag, English and Indic text")
            yield fields[0], fields[1].strip(), fields[2].strip(), fields[-1] if len(fields) == 4 else fields[1]


def _without_accelerators(english: str, indic: str) -> tuple[str, str]:
    """Menus mark a key with & or ~ (``&Close``), and translations append it (``… (&C)``); neither is language."""
    if not re.search(r"\([^)]?[A-Za-z0-9]\)", english):
        indic = _ACCELERATOR_SUFFIX.sub("", indic)
    kept = _KEPT_AMPERSAND.sub("\0", english)
    english = _ACCELERATOR.sub("", kept).replace("\0", "&")
    return " ".join(english.split()), " ".join(_ACCELERATOR_BEFORE_WORD.sub("", indic).split())


def _fault(tag: str, english: str, indic: str) -> str | None:
    if tag not in TAGS:
        return f"no IndicTrans2 tag: {tag}"
    if not english or not indic:
        return "empty"
    if len(english) > MAX_CHARACTERS or len(indic) > MAX_CHARACTERS:
        return "too long"
    if not any(c.isalpha() for c in english):
        return "no words"
    letters = [c for c in indic if c.isalpha()]
    if 2 * sum(_in_script(c, TAGS[tag].script) for c in letters) < max(len(letters), 1):
        return "not in the script of its tag"
    if not 0.2 < (len(indic) + 8) / (len(english) + 8) < 5:
        return "lengths far apart"
    return None


def _in_script(char: str, script: str) -> bool:
    return unicodedata.name(char, "").startswith(_SCRIPT_NAMES[script])


def part_of(english: str) -> Part:
    """Where a pair belongs, by the letters and digits of its English side alone."""
    key = "".join(c for c in english.casefold() if c.isalnum())
    draw = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 1000
    if draw < TEST_PER_MILLE:
        return "test"
    return "dev" if draw < TEST_PER_MILLE + DEV_PER_MILLE else "train"


def of(pairs: Iterable[Pair], part: Part) -> list[Pair]:
    """The pairs of one part."""
    return [pair for pair in pairs if pair.part == part]
