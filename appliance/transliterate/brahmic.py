"""Between the nine Brahmic scripts of the ISCII layout, with Devanagari as the hub.

What it is: ``to_hub`` (any of the nine → Devanagari, nothing lost but spelling habits of the script) and
``from_hub`` (Devanagari → any of the nine, in that script's spelling). Eight blocks repeat Devanagari's layout at
their own offset; the tables below say only where they do not: Tamil's gaps, Gurmukhi's addak and tippi, Bengali and
Assamese ``ৰ ৱ ৎ য়``, Odia ``ୱ ୟ``, Malayalam's chillus, nukta letters.
What it refuses to be: a speller. A letter that the target lacks becomes its nearest one (``lossless`` says when that
happens), and no dictionary is asked.
What it costs: one ``str.translate`` and a few substitutions; about 20 µs for 200 characters.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Mapping

BLOCKS: Mapping[str, int] = {
    "Deva": 0x0900, "Beng": 0x0980, "Guru": 0x0A00, "Gujr": 0x0A80, "Orya": 0x0B00,
    "Taml": 0x0B80, "Telu": 0x0C00, "Knda": 0x0C80, "Mlym": 0x0D00,
}  # fmt: skip

VIRAMA, NUKTA, ANUSVARA = "्", "़", "ं"
# Offsets at which the blocks agree. Between them lie inverted candrabindu, khanda ta, length marks, nukta letters
# (NFC takes those apart) and each script's own additions.
_ALIKE = (*range(0x01, 0x04), *range(0x05, 0x3A), *range(0x3C, 0x4E), 0x50, *range(0x60, 0x64), *range(0x66, 0x70))
# assigned, but not what Devanagari has there or not in use
_NOT_ALIKE = {"Telu": (0x3C,), "Mlym": (0x3B, 0x3C), "Taml": (0x02,), "Orya": (0x2F, 0x35), "Beng": (0x2F,)}

_CONSONANT = "[क-हॸ-ॿ]़?"
# What a script without the left writes instead: hub characters again, so chains resolve.
_NEAREST: Mapping[str, str] = {
    "ऀ": "ँ", "ँ": "ं", "ः": "ह्", "ऄ": "अ", "ऍ": "ए", "ऎ": "ए", "ऑ": "आ", "ऒ": "ओ", "ॲ": "ऍ",
    "ॅ": "े", "ॆ": "े", "ॉ": "ा", "ॊ": "ो", "ऋ": "रि", "ृ": "्रि", "ॠ": "री", "ॄ": "्री",
    "ऌ": "लि", "ॢ": "्लि", "ॡ": "ली", "ॣ": "्ली", "ऩ": "न", "ऱ": "र", "ऴ": "ळ", "ळ": "ल", "व": "ब",
    "ष": "श", "श": "स", "ऽ": "’", "ॽ": "’", "ॐ": "ओम्", NUKTA: "",
    # Sindhi implosives and Kashmiri vowels
    "ॻ": "ग", "ॼ": "ज", "ॾ": "ड", "ॿ": "ब", "ॸ": "ड", "ॹ": "ज", "ॺ": "य", "ॳ": "अ", "ॴ": "आ", "ॵ": "ओ",
    "ॶ": "उ", "ॷ": "ऊ", "ऺ": "", "ऻ": "ा", "ॏ": "ो", "ॖ": "ु", "ॗ": "ू", "ॕ": "े", "ॎ": "े",
    # accents of Vedic text and abbreviation marks
    "॑": "", "॒": "", "॓": "", "॔": "", "॰": ".", "ॱ": "",
}  # fmt: skip
_NEAREST_TAMIL: Mapping[str, str] = {
    "ख": "क", "ग": "क", "घ": "क", "छ": "च", "झ": "ज", "ठ": "ट", "ड": "ट", "ढ": "ट", "थ": "त", "द": "त",
    "ध": "त", "फ": "प", "ब": "प", "भ": "प", "ऋ": "रु", "ृ": "्रु", "ॠ": "रू", "ॄ": "्रू", ANUSVARA: "म्",
}  # fmt: skip
# One character of a script that is no offset of Devanagari's, both ways; the hub's side may be two characters.
_PAIRS: Mapping[str, Mapping[str, str]] = {
    "Taml": {"ஃ": "ः"},
    "Knda": {"ೞ": "ऴ"},
    "Orya": {"ୱ": "व"},
}
# further spellings that only lead to the hub
_INWARD: Mapping[str, Mapping[str, str]] = {
    "Beng": {"ৰ": "र", "ৱ": "व", "ৎ": "त्", "য": "य"},
    "Guru": {"ੰ": ANUSVARA, "ੜ": "ड़", "ੵ": "्य", "ੑ": "", "ੴ": "ੴ"},
    "Orya": {"ଯ": "य", "ୟ": "य", "ଵ": "व"},
    "Taml": {"ன": "न", "ஂ": ANUSVARA},
    "Telu": {"ఀ": "ँ", "ౘ": "च", "ౙ": "ज"},
    "Mlym": {"ൺ": "ण्", "ൻ": "न्", "ർ": "र्", "ൽ": "ल्", "ൾ": "ळ्", "ൿ": "क्", "ൎ": "र्"},
}
# pairs of hub characters that become one letter of the script, which is read as another
_MERGED: Mapping[str, tuple[str, ...]] = {
    "Beng": ("य़", "ेा"), "Orya": ("य़", "ेा"), "Mlym": ("ेा", "ॆा"), "Taml": ("ेा", "ॆा"), "Guru": ("स़", "ल़"),
}  # fmt: skip
_ASPIRATED = dict(zip("खघछझठढथधफभ", "कगचजटडतदपब", strict=True))


def to_hub(text: str, script: str) -> str:
    """``text`` with the letters of ``script`` (one of ``BLOCKS``) in Devanagari, everything else as it was; NFC."""
    text = unicodedata.normalize("NFC", text)
    if script == "Deva":
        return text
    if script in ("Beng", "Orya"):
        text = text.replace("য়", "য").replace("ଯ଼", "ୟ")
    elif script == "Guru":
        text = text.replace("ਸ਼", "श").replace("ਲ਼", "ळ").replace("ੜ੍ਹ", "ढ़")
    text = text.translate(_inward(script))
    if script == "Guru":
        text = re.sub(f"ੱ([क-ह])({NUKTA}?)", _doubled, text)
    return unicodedata.normalize("NFC", text)


def from_hub(text: str, script: str, tag: str = "") -> str:
    """Devanagari in ``text`` in ``script``, spelled as the language of ``tag`` does where languages differ."""
    text = unicodedata.normalize("NFC", text)
    if script == "Deva":
        return text
    fit = _FITS.get(script)
    if fit is not None:
        text = fit(text, tag)
    return unicodedata.normalize("NFC", text.translate(_outward(script)))


def lossless(text: str, script: str, tag: str = "") -> bool:
    """Whether ``script`` has every Devanagari letter of ``text``, so that it can come back unchanged."""
    text = unicodedata.normalize("NFC", text)
    if script == "Guru":
        text = text.replace("ड़", "ड").replace("ढ़", "ढ")
    elif script == "Beng" and tag[:3] in ("asm", "mni"):
        text = text.replace("व", "र")
    if any(pair in text for pair in _MERGED.get(script, ())):
        return False
    exact = _exact(script)
    return all(c in exact or not "ऀ" <= c <= "ॿ" or c in "।॥" for c in text)


@functools.cache
def _pairs(script: str) -> dict[str, str]:
    """Hub character → character of ``script``, where both scripts have it."""
    base, skipped = BLOCKS[script], _NOT_ALIKE.get(script, ())
    found = {}
    for offset in _ALIKE:
        hub, there = chr(0x0900 + offset), chr(base + offset)
        if offset not in skipped and unicodedata.category(there) != "Cn" != unicodedata.category(hub):
            found[hub] = there
    found.update({hub: there for there, hub in _PAIRS.get(script, {}).items()})
    return found


@functools.cache
def _exact(script: str) -> frozenset[str]:
    own = {"Guru": "शळ", "Beng": "य", "Orya": "य", "Mlym": ""}.get(script, "")
    lost = {"Taml": "ऩ"}.get(script, "")
    return frozenset((set(_pairs(script)) | set(own)) - set(lost))


@functools.cache
def _inward(script: str) -> dict[int, str]:
    table = {there: hub for hub, there in _pairs(script).items()} | dict(_INWARD.get(script, {}))
    return {ord(there): hub for there, hub in table.items()}


@functools.cache
def _outward(script: str) -> dict[int, str]:
    pairs = _pairs(script)
    nearest = {**_NEAREST, **(_NEAREST_TAMIL if script == "Taml" else {})}

    def spelled(hub: str) -> str:
        found = pairs.get(hub)
        if found is not None:
            return found
        return "".join(map(spelled, nearest[hub])) if hub in nearest else hub

    return {code: spelled(chr(code)) for code in (*range(0x0900, 0x0964), *range(0x0966, 0x0980))}


def _doubled(found: re.Match[str]) -> str:
    letter, nukta = found.groups()
    return f"{_ASPIRATED.get(letter, letter)}{nukta}{VIRAMA}{letter}{nukta}"


def _fit_bengali(text: str, tag: str) -> str:
    text = text.replace("ॺ", "य")
    # য is written at the start of a word, after a virama and after anusvara; elsewhere য়
    text = re.sub(f"(?<=[ऄ-ह{NUKTA}ऽ-ौॐ])य{NUKTA}?(?!{NUKTA})", "য়", text)
    text = text.replace("य", "য")
    text = re.sub(f"त{VIRAMA}(?![ऀ-ॿঀ-৿])", "ৎ", text)
    text = text.replace("ॲ", "अ্যা").replace("ऍ", "এ").replace("ॅ", "্যা")
    if tag.startswith("asm"):
        text = text.replace("र", "ৰ")
    return text.replace("व", "ৱ") if tag[:3] in ("asm", "mni") else text


def _fit_odia(text: str, tag: str) -> str:
    text = text.replace("ॺ", "य")
    # ଯ begins words, ୟ stands everywhere else
    return re.sub(f"(?<![ऀ-ॿ])य(?!{NUKTA})", "ଯ", text).replace(f"य{NUKTA}", "ୟ").replace("य", "ୟ")


def _fit_gurmukhi(text: str, tag: str) -> str:
    text = text.replace("ड़", "ੜ").replace("ढ़", "ੜ੍ਹ")
    # a consonant doubled, or before its own aspirate, is written once with addak
    text = re.sub(f"([क-ह])({NUKTA}?){VIRAMA}([क-ह])(?!{NUKTA})", _addak, text)
    # tippi after no vowel sign, ि, ु and ू, and after the letters अ इ उ ऊ; bindi elsewhere
    text = re.sub(f"(?<=[कखगघङचछजझञटठडढणतथदधनपफबभमयरलळवशषसह{NUKTA}ੜੱिुूअइउ]){ANUSVARA}", "ੰ", text)
    return re.sub(f"श(?!{NUKTA})", "ਸ਼", text).replace("ष", "ਸ਼").replace("ळ", "ਲ਼")


def _addak(found: re.Match[str]) -> str:
    first, nukta, second = found.groups()
    # nasals and ह are not doubled by addak
    alike = first == second and second not in "ङञणनमह" and second not in _ASPIRATED
    return f"ੱ{second}" if not nukta and (alike or _ASPIRATED.get(second) == first) else found[0]


def _fit_tamil(text: str, tag: str) -> str:
    text = re.sub(f"[{ANUSVARA}ँ](?=[क-घ])", f"ங{VIRAMA}", text)
    text = re.sub(f"[{ANUSVARA}ँ](?=[च-झ])", f"ञ{VIRAMA}", text)
    text = re.sub(f"[{ANUSVARA}ँ](?=[ट-ढ])", f"ण{VIRAMA}", text)
    text = re.sub(f"[{ANUSVARA}ँ](?=[त-ध])", f"ந{VIRAMA}", text)
    # ந begins words and stands before த; ன everywhere else
    text = re.sub(f"न(?={VIRAMA}[त-ध])|(?<![ऀ-ॿஂ-்])न", "ந", text)
    return text.replace("न", "ன")


def _fit_malayalam(text: str, tag: str) -> str:
    # a consonant without vowel at the end of a word is a chillu where there is one; र् also inside
    for pure, chillu in (("ण", "ൺ"), ("न", "ൻ"), ("ल", "ൽ"), ("ळ", "ൾ")):
        text = re.sub(f"{pure}{VIRAMA}(?![ऀ-ॿ\u200d])", chillu, text)
    return re.sub(f"र{VIRAMA}(?![यर\u200d])", "ർ", text)


_FITS = {
    "Beng": _fit_bengali,
    "Orya": _fit_odia,
    "Guru": _fit_gurmukhi,
    "Taml": _fit_tamil,
    "Mlym": _fit_malayalam,
}
