"""Perso-Arabic and Devanagari for Sindhi and Kashmiri, as far as rules go.

What it is: letter for letter, with the rules for vowels at the start of a word and beside each other.
What it refuses to be: a reader of what is not written. Sindhi in Perso-Arabic leaves short vowels out, so its
Devanagari has the inherent vowel wherever the script is silent (``ڪم`` gives कम, people write कमु), and ``و`` and ``ي``
are taken for the long vowels ओ and ई after a consonant, for व and य elsewhere. Kashmiri writes its vowels and fares
better. From Devanagari, one Arabic letter stands for each sound (of س ث ص the first), and Sindhi short vowels are not
written. There is no round trip, and Urdu is left alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

# Arabic to Devanagari; of several letters with one sound the first is written on the way back
_COMMON = {
    "ب": "ब", "پ": "प", "ت": "त", "ط": "त", "ج": "ज", "چ": "च", "خ": "ख़", "د": "द", "ر": "र", "ز": "ज़", "ذ": "ज़",
    "ض": "ज़", "ظ": "ज़", "س": "स", "ث": "स", "ص": "स", "ش": "श", "غ": "ग़", "ف": "फ़", "ق": "क़", "گ": "ग", "ل": "ल",
    "م": "म", "ن": "न",
}  # fmt: skip
_SINDHI = {
    **_COMMON,
    "ٻ": "ॿ", "ڀ": "भ", "ٿ": "थ", "ٽ": "ट", "ٺ": "ठ", "ڄ": "ॼ", "ڃ": "ञ", "ڇ": "छ", "ڌ": "ध", "ڏ": "ॾ", "ڊ": "ड",
    "ڍ": "ढ", "ڙ": "ड़", "ڦ": "फ", "ڪ": "क", "ک": "ख", "ڳ": "ॻ", "ڱ": "ङ", "ڻ": "ण", "جھ": "झ", "جه": "झ", "گھ": "घ",
    "گه": "घ", "ڙھ": "ढ़", "ه": "ह", "ھ": "ह", "ہ": "ह", "ح": "ह",
}  # fmt: skip
_ASPIRATED = {
    "کھ": "ख", "گھ": "घ", "چھ": "छ", "جھ": "झ", "ٹھ": "ठ", "ڈھ": "ढ", "تھ": "थ", "دھ": "ध", "پھ": "फ", "بھ": "भ",
    "ژھ": "छ़", "ڑھ": "ढ़",
}  # fmt: skip
_KASHMIRI = {
    **_COMMON, **_ASPIRATED, "ٹ": "ट", "ڈ": "ड", "ڑ": "ड़", "ک": "क", "ژ": "च़", "ہ": "ह", "ھ": "ह", "ه": "ह",
    "ح": "ह",
}  # fmt: skip
_SHORT = {"َ": "अ", "ِ": "इ", "ُ": "उ"}
_SINDHI_VOWELS = {"آ": "आ", **_SHORT}
_KASHMIRI_VOWELS = {
    "آ": "आ", "ٲ": "ॴ", "وٗ": "ऊ", "یٖ": "ई", "ے": "ए", "ێ": "ऎ", "ۆ": "ऒ", "ۄ": "ॵ", "ٔ": "ॳ", "ٕ": "ॶ", "ٖ": "ई", "ٗ": "ऊ",
    "ٟ": "ॷ", **_SHORT,
}  # fmt: skip
_SIGN_OF = {
    "अ": "", "आ": "ा", "इ": "ि", "ई": "ी", "उ": "ु", "ऊ": "ू", "ए": "े", "ऎ": "ॆ", "ओ": "ो", "ऒ": "ॊ",
    "ॳ": "ऺ", "ॴ": "ऻ", "ॵ": "ॏ", "ॶ": "ॖ", "ॷ": "ॗ",
}  # fmt: skip
_VOWEL_OF = {sign: vowel for vowel, sign in _SIGN_OF.items() if sign} | {"ै": "ए", "ौ": "ओ", "ॅ": "ए", "ॉ": "आ"}
_MARKS = {"۔": "।", "،": ",", "؟": "?", "؛": ";"}
_MARKS_BACK = {ord(hub): there for there, hub in _MARKS.items()}
# letters that Devanagari has and the others do not
_NEAREST = str.maketrans({"ष": "श", "ळ": "ल", "ऐ": "ए", "औ": "ओ", "ऋ": "रि", "ृ": "्रि", "ॲ": "ए", "ऑ": "आ", "ः": "ह"})


class _Rules(NamedTuple):
    """One language: what is read as a consonant, a vowel or a whole word, and how vowels are written back."""

    consonants: Mapping[str, str]
    vowels: Mapping[str, str]
    words: Mapping[str, str]
    ye: str
    written: Mapping[str, str]
    own: Mapping[str, str]


_RULES = {
    "snd": _Rules(
        _SINDHI, _SINDHI_VOWELS, {"۾": "में", "۽": "ऐं"}, "ي",
        {"अ": "", "आ": "ا", "इ": "", "ई": "ي", "उ": "", "ऊ": "و", "ए": "ي", "ओ": "و"},
        {"ह": "ه", "ढ़": "ڙھ", "घ": "گھ", "झ": "جھ"},
    ),
    "kas": _Rules(
        _KASHMIRI, _KASHMIRI_VOWELS, {}, "ی",
        {"अ": "", "आ": "ا", "इ": "ِ", "ई": "یٖ", "उ": "ُ", "ऊ": "وٗ", "ए": "ے", "ऎ": "ێ", "ओ": "و", "ऒ": "ۆ", "ॳ": "ٔ",
         "ॴ": "ٲ", "ॵ": "ۄ", "ॶ": "ٕ", "ॷ": "ٟ"},
        {"ह": "ہ", "ण": "ن", "ङ": "ن", "ञ": "ن"},
    ),
}  # fmt: skip
_WORD = re.compile(r"[؀-ۿ\u200c\u200d]+")


def arabic_to_hub(text: str, language: str) -> str:
    """Perso-Arabic of ``text`` in Devanagari; ``language`` is ``snd`` or ``kas``."""
    rules = _RULES[language]
    text = unicodedata.normalize("NFC", text).replace("ي", rules.ye).replace("ی", rules.ye)
    text = text.replace("ى", rules.ye).replace("ؤ", "ءو").replace("ئ", "ء").replace("أ", "أ").replace("إ", "إ")
    read = _WORD.sub(lambda word: rules.words.get(word[0]) or _read(word[0], rules), text)
    return unicodedata.normalize("NFC", read)


def hub_to_arabic(text: str, language: str) -> str:
    """Devanagari of ``text`` in Perso-Arabic; ``language`` is ``snd`` or ``kas``."""
    rules = _RULES[language]
    letters = {hub: there for there, hub in reversed(list(rules.consonants.items()))} | dict(rules.own)
    whole = {hub: there for there, hub in rules.words.items()}
    text = unicodedata.normalize("NFC", text)
    spelled = re.sub("[ऀ-ॣॱ-ॿ]+", lambda word: whole.get(word[0]) or _write(word[0], rules, letters), text)
    return spelled.translate(_MARKS_BACK)


def _read(word: str, rules: _Rules) -> str:
    """One word, left to right; what stands before decides what an ambiguous letter is."""
    out: list[str] = []
    after = ""  # "", "consonant" or "vowel"
    at = 0

    def vowel(letter: str) -> None:
        nonlocal after
        out.append(_SIGN_OF[letter] if after == "consonant" else letter)
        after = "vowel"

    while at < len(word):
        pair, letter, following = word[at : at + 2], word[at], word[at + 1 : at + 2]
        at += 1
        # a vowel mark or alif after و and ي makes them consonants
        voiced = following == "ا" or following in rules.vowels
        if pair in rules.vowels and len(pair) == 2:
            vowel(rules.vowels[pair])
            at += 1
        elif pair in rules.consonants and len(pair) == 2:
            out.append(rules.consonants[pair])
            after, at = "consonant", at + 1
        elif letter in "اء" and not after and following in ("و", rules.ye):
            vowel("ओ" if following == "و" else "ई")
            at += 1
        elif letter == "ء" and following in ("و", rules.ye):
            after = "vowel"
            vowel("ओ" if following == "و" else "ई")
            at += 1
        elif letter == "ا" and not after:
            if following not in rules.vowels or not following:  # else it carries the vowel that follows
                vowel("अ")
        elif letter == "ا":
            vowel("आ")
        elif letter == "و" or letter == rules.ye:
            if after == "consonant" and not voiced:
                vowel("ओ" if letter == "و" else "ई")
            else:
                out.append("व" if letter == "و" else "य")
                after = "consonant"
        elif letter in rules.vowels:
            vowel(rules.vowels[letter])
        elif letter in rules.consonants:
            out.append(rules.consonants[letter])
            after = "consonant"
        elif letter == "ع":
            if not after and following not in ("ا", "و", rules.ye):
                vowel("अ")
        elif letter in "ۍؠ":
            out.append("्य")
        elif letter == "ں":
            out.append("ँ")
        elif letter not in "ْءّـ\u200c\u200d":
            out.append(_MARKS.get(letter, letter))
            after = ""
    return "".join(out)


def _write(word: str, rules: _Rules, letters: Mapping[str, str]) -> str:
    out: list[str] = []
    after = ""
    word = word.translate(_NEAREST)
    for found in re.finditer("[क-हॸ-ॿ]़?|.", word, re.DOTALL):
        part = found[0]
        if part in letters or part[0] in letters or part in ("व", "य"):
            out.append({"व": "و", "य": rules.ye}.get(part) or letters.get(part) or letters[part[0]])
            after = "consonant"
        elif part in _VOWEL_OF:
            out.append(rules.written.get(_VOWEL_OF[part], ""))
            after = "vowel"
        elif part in _SIGN_OF:
            written = rules.written.get(part, "")
            if part == "आ" and not after:
                out.append("آ")
            elif after:  # two vowels in a row are parted by a hamza
                out.append("ئ" + written if written not in ("ا", "") else "ا")
            else:
                out.append("ا" + written)
            after = "vowel"
        elif part in "ंँ":
            out.append("ن")
    return "".join(out)
