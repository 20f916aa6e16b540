"""Synthetic romanised text: what people might have typed, from text in native scripts.

What it is: ISO 15919 with the silent vowels dropped, then one of many spellings of every sound, drawn at random from
a generator that the caller seeds.
What it refuses to be: real. Nobody typed this; the card says so, and a hand-written set tests what it is worth.
"""

from __future__ import annotations

import random
import re

from appliance.transliterate.brahmic import to_hub
from appliance.transliterate.latin import plain, silent, to_iso

_WORD = re.compile(r"[^\W\d_][^\s\d.,;!?()\"/]*")

# how a person spells each sound; a habit is drawn once a text and kept
_CHOICES: dict[str, tuple[str, ...]] = {
    "ā": ("a", "a", "aa"), "ī": ("i", "i", "ee", "ii"), "ū": ("u", "u", "oo"), "ai": ("ai", "ai", "ae", "ei"),
    "au": ("au", "au", "ou", "o"), "ē": ("e",), "ō": ("o",), "v": ("v", "v", "w"), "ś": ("sh", "sh", "s"),
    "ṣ": ("sh", "sh", "s"), "ṛ": ("r", "d"), "ph": ("ph", "f"), "ch": ("chh", "ch"), "kṣ": ("ksh", "x"),
    "jñ": ("gy", "gn", "jn"), "ḷ": ("l",), "ṁ": ("n", "m", "n"), "m̐": ("n", ""), "z": ("z", "j"), "q": ("q", "k"),
}  # fmt: skip
_OF: dict[str, dict[str, tuple[str, ...]]] = {
    "ben": {"v": ("b",), "ś": ("sh", "s"), "s": ("s", "sh"), "ẏ": ("y", "y", ""), "a": ("a", "o", "o"), "ṇ": ("n",)},
    "tam": {
        "ḻ": ("zh", "zh", "l"), "ṟṟ": ("tr", "tt"), "t": ("th", "t", "dh"), "tt": ("tth", "th", "tt"), "c": ("s", "ch"),
        "cc": ("cch", "ch"), "ñc": ("nj",), "ṅk": ("ng", "nk", "ngk"), "nt": ("nth", "nd", "ndh"), "ṇṭ": ("nd", "nt"),
        "mp": ("mb", "mp"), "ṭ": ("d", "t"), "ṭṭ": ("tt",), "k": ("k", "g"), "kk": ("kk", "k"), "p": ("p", "b"),
        "pp": ("pp",), "ṉṟ": ("ndr", "nr"), "ṟ": ("r",), "ai": ("ai", "ai", "a", "e"),
    },
    "tel": {"t": ("t", "th"), "th": ("th",), "c": ("ch",), "cc": ("cch", "ch"), "ṁ": ("m", "n", "m")},
    "mar": {"c": ("ch",), "jñ": ("dny", "gy"), "ḷ": ("l", "l")},
    "hin": {"mēṁ": ("mein", "me", "main"), "haiṁ": ("hain", "hai"), "nahīṁ": ("nahi", "nahin", "nai", "nhi")},
}  # fmt: skip
# a vowel that a hurried writer leaves out, and one that is dropped at the end of a word
_HURRY = re.compile("(?<=[bcdghjklmnprstvyz])a(?=[bcdghjklmnprstvyz]+[aeiou])")


def romanised(text: str, tag: str, rng: random.Random) -> str:
    """One way to type ``text`` (of the language and script of ``tag``) in Latin letters."""
    language = tag[:3]
    iso = to_iso(to_hub(text, tag[4:]))
    if language == "tam":
        iso = _tamil_n(iso, text)
    if language in ("hin", "mar", "ben"):
        iso = _WORD.sub(lambda word: silent(word[0], language), iso)
    table = {**_CHOICES, **_OF.get(language, {})}
    habit = {sound: rng.choice(ways) for sound, ways in table.items()}
    pattern = re.compile("|".join(sorted(map(re.escape, habit), key=len, reverse=True)))

    def spelled(match: re.Match[str]) -> str:
        sound = match[0]
        # most people are mostly consistent
        return habit[sound] if rng.random() < 0.85 else rng.choice(table[sound])

    out = plain(pattern.sub(spelled, iso))
    if language == "hin" and rng.random() < 0.1:
        out = _HURRY.sub("", out)
    if rng.random() < 0.6:
        out = out.lower()
    return out


def _tamil_n(iso: str, text: str) -> str:
    """The hub writes one n for two Tamil letters; before ṟ it is heard."""
    return iso.replace("nṟ", "ṉṟ")
