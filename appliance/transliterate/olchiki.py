"""Ol Chiki and Devanagari for Santali.

What it is: Ol Chiki is an alphabet, so every vowel is a letter of its own; Devanagari's signs become letters and back.
What it refuses to be: exact. Devanagari does not tell ᱚ from a silent vowel (one at the end of a word is taken as
silent after a vowel was heard), nor ᱟᱹ from ᱟ, and checked consonants (ᱜ ᱡ ᱫ ᱵ) are written as plain ones.
"""

from __future__ import annotations

import re
import unicodedata

_CONSONANTS = {
    "क": "ᱠ", "ख": "ᱠᱷ", "ग": "ᱜ", "घ": "ᱜᱷ", "ङ": "ᱝ", "च": "ᱪ", "छ": "ᱪᱷ", "ज": "ᱡ", "झ": "ᱡᱷ", "ञ": "ᱧ",
    "ट": "ᱴ", "ठ": "ᱴᱷ", "ड": "ᱰ", "ढ": "ᱰᱷ", "ण": "ᱬ", "त": "ᱛ", "थ": "ᱛᱷ", "द": "ᱫ", "ध": "ᱫᱷ", "न": "ᱱ",
    "प": "ᱯ", "फ": "ᱯᱷ", "ब": "ᱵ", "भ": "ᱵᱷ", "म": "ᱢ", "य": "ᱭ", "र": "ᱨ", "ल": "ᱞ", "व": "ᱣ", "स": "ᱥ",
    "ह": "ᱦ", "ड़": "ᱲ", "ढ़": "ᱲᱷ",
}  # fmt: skip
_VOWELS = {"अ": "ᱚ", "आ": "ᱟ", "इ": "ᱤ", "उ": "ᱩ", "ए": "ᱮ", "ओ": "ᱳ"}
_SIGNS = {"ा": "आ", "ि": "इ", "ु": "उ", "े": "ए", "ो": "ओ"}
_NEAREST = str.maketrans(
    {
        "श": "स", "ष": "स", "ळ": "ल", "ी": "ि", "ू": "ु", "ई": "इ", "ऊ": "उ", "ऐ": "आइ", "औ": "आउ", "ऑ": "ओ", "ॉ": "ो",
        "ऍ": "ए", "ॅ": "े", "ॲ": "ए", "ऋ": "रि", "ृ": "्रि", "ऽ": "", "ऎ": "ए", "ॆ": "े", "ऒ": "ओ", "ॊ": "ो", "ः": "ह्",
    }
)  # fmt: skip
_MARKS = {"ँ": "ᱸ", "ं": "ᱸ", "।": "᱾", "॥": "᱿"}
_SIGN_OF = {vowel: sign for sign, vowel in _SIGNS.items()} | {"अ": ""}
_HUB_OF = {"ᱶ": "व", "ᱝ": "ं", **{there: here for here, there in {**_CONSONANTS, **_VOWELS}.items() if here != "ङ"}}
_HUB_OF |= {"ᱸ": "ँ", "᱾": "।", "᱿": "॥"}
_SILENT = {"ᱹ", "ᱻ", "ᱼ", "ᱽ"}
_SYLLABLE = re.compile(f"([क-ह]़?)([{''.join(_SIGNS)}ै ौ्]?)".replace(" ", ""))
_OL = re.compile("([ᱠᱜᱪᱡᱴᱰᱛᱫᱯᱵᱲ]ᱷ)|(.)", re.DOTALL)


def hub_to_olchiki(text: str) -> str:
    """Devanagari of ``text`` in Ol Chiki, the rest as it was."""
    text = unicodedata.normalize("NFC", text).translate(_NEAREST)
    # a nasal before a velar is a letter; at the end of a word the inherent vowel is silent, unless it is the only one
    text = re.sub("ं(?=[क-घ])", "ङ्", text)
    text = re.sub("(?<=[ा-ौअ-औक-हँं])([क-ह]़?)(?![ऀ-ॿ])", r"\1्", text)
    text = _SYLLABLE.sub(_spelled, text)
    return "".join(_VOWELS.get(c) or _MARKS.get(c) or c for c in text)


def olchiki_to_hub(text: str) -> str:
    """Ol Chiki of ``text`` in Devanagari; modifiers that Devanagari does not have are dropped."""
    out: list[str] = []
    open_consonant = False
    for match in _OL.finditer(text):
        letter = match[0]
        if letter in _SILENT:
            continue
        hub = _HUB_OF.get(letter, "ह" if letter == "ᱷ" else letter)
        if hub in _VOWELS:
            out.append(_SIGN_OF[hub] if open_consonant else hub)
            open_consonant = False
            continue
        consonant = hub in _CONSONANTS
        if open_consonant and consonant:
            out.append("्")
        out.append(hub)
        # a vowel that is not written is not there; at the end of a word no virama is written
        open_consonant = consonant
    return unicodedata.normalize("NFC", "".join(out))


def _spelled(found: re.Match[str]) -> str:
    consonant, sign = found.groups()
    base = _CONSONANTS.get(consonant) or _CONSONANTS.get(consonant[0], consonant)
    if sign == "्":
        return base
    if sign in ("ै", "ौ"):
        return base + "ᱟ" + ("ᱤ" if sign == "ै" else "ᱩ")
    return base + (_VOWELS[_SIGNS[sign]] if sign else "ᱚ")
