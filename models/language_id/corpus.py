"""What the language identifier learns from and is tested on.

What it is: rows of the parallel data (tag, English, Indic), parted by their English sides so that no test sentence's
English occurs in training in any language; synthetic romanised text; and hand-written seeds of everyday phrases.
What it refuses to be: representative. Most of the data are user-interface strings and names of CLDR.
"""

from __future__ import annotations

import hashlib
import lzma
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from romanise import romanised

from appliance.language_id.features import units_of
from appliance.language_id.scripts import NONE, SCRIPTS, script_table

_KINDS = script_table()
HERE = Path(__file__).resolve().parent
SEEDS = HERE / "seeds"
ROMANISED = ("hin", "tam", "tel", "ben", "mar")
# romanised, these are to be abstained from rather than taken for a neighbour
_ABSTAINED = ("kan", "mal", "guj", "pan", "ory", "asm", "npi")
# in no script of the appliance's languages, or none of its languages: learned, so that they are not taken for one
UNKNOWN = ""
# parts of a hundred
_TEST, _DEV = 30, 5
_SPACE = re.compile(r"\W+")


class Sample(NamedTuple):
    """One text. ``script`` says which table learns it, ``label`` what it should answer."""

    script: str
    label: str
    text: str


class Corpus(NamedTuple):
    """Three parts that share no English side and no text."""

    train: list[Sample]
    dev: list[Sample]
    test: list[Sample]


def part_of(english: str) -> str:
    """Which part every row with this English belongs to; case, digits, spaces and punctuation make no difference."""
    plain = re.sub(r"\d+", "0", _SPACE.sub(" ", english.casefold()).strip())
    number = int.from_bytes(hashlib.sha256(plain.encode()).digest()[:8], "big") % 100
    return "test" if number < _TEST else "dev" if number < _TEST + _DEV else "train"


def rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """Tag, English, Indic of each row."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            tag, english, indic = line.rstrip("\n").split("\t")
            yield tag, english, indic


def read(path: Path, seed: int) -> Corpus:
    """The three parts of the data at ``path``; the same bytes and ``seed`` give the same parts."""
    parts: dict[str, dict[Sample, None]] = {"train": {}, "dev": {}, "test": {}}
    rng = random.Random(seed)
    for tag, english, indic in rows(path):
        part = parts[part_of(english)]
        part[Sample("Latn", "eng_Latn", english)] = None
        # LibreOffice's sentences under sd_Deva are Marathi; CLDR's names are Sindhi
        if tag == "snd_Deva" and len(indic.split()) > 3:
            continue
        # and some of its Konkani is in Latin letters, some strings are not translated at all
        if not written_in(indic, tag[4:]):
            continue
        label = UNKNOWN if tag == "sat_Deva" else tag
        part[Sample(tag[4:], label, indic)] = None
        if tag[:3] in ROMANISED + _ABSTAINED:
            part[Sample("Latn", tag if tag[:3] in ROMANISED else UNKNOWN, romanised(indic, tag, rng))] = None
    seen = {(one.script, one.text) for one in parts["train"]}
    dev = [one for one in parts["dev"] if (one.script, one.text) not in seen]
    test = [one for one in parts["test"] if (one.script, one.text) not in seen]
    return Corpus(list(parts["train"]), dev, test)


def seeds() -> dict[tuple[str, str], list[str]]:
    """Hand-written phrases by table and label: ``hin_Deva.txt``, ``hin_Latn.txt`` (romanised), ``none_Latn.txt``."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in sorted(SEEDS.glob("*.txt")):
        name, script = path.stem.split("_")
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
        label = UNKNOWN if name == "none" else native_tag(name) if script == "Latn" else path.stem
        found[script, label] = [line for line in lines if line and not line.startswith("#")]
    return dict(found)


def written_in(text: str, script: str) -> bool:
    """Whether at least half of the letters of ``text`` are of ``script``."""
    counts = np.bincount(_KINDS.take(units_of(text)), minlength=len(SCRIPTS))
    return bool(2 * counts[SCRIPTS.index(script)] >= counts[NONE + 1 :].sum() > 0)


def native_tag(name: str) -> str:
    """The tag of a language of the Latin table."""
    scripts = {"hin": "Deva", "mar": "Deva", "ben": "Beng", "tam": "Taml", "tel": "Telu", "eng": "Latn"}
    return f"{name}_{scripts[name]}"
