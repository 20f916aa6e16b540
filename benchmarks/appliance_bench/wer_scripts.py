"""One spelling for what Unicode writes in several ways: before words of the 22 languages are compared.

What it is: letters that look and read alike and differ only in the code points that one keyboard or font gave them.
Joiners and marks that nobody hears go; digits of any script become ASCII; the letters of ``_SAME`` become one. The
pairs are Unicode's own ("do not use", "preferred spelling" and "atomic chillu" in its chapters on South Asian scripts)
and, for Arabic letters, the look-alikes of Arabic and Urdu keyboards.
What it refuses to be: forgiving. Long and short vowels, anusvara against nasal consonants, nukta against none and
Assamese against Bengali ra are differences of spelling, and count as errors for everyone alike.
"""

from __future__ import annotations

import re
import unicodedata

# Soft hyphen, joiners, direction marks and the byte order mark: not heard, and inside of words.
_SILENT = "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
_SAME = {
    # Bengali ta without its vowel, as it was written before Unicode 4.1 (its joiner is gone by then at a word's end)
    "\u09a4\u09cd\u200d": "\u09ce",
    # Malayalam: consonant, virama, joiner against the atomic chillu
    "\u0d23\u0d4d\u200d": "\u0d7a",
    "\u0d28\u0d4d\u200d": "\u0d7b",
    "\u0d30\u0d4d\u200d": "\u0d7c",
    "\u0d32\u0d4d\u200d": "\u0d7d",
    "\u0d33\u0d4d\u200d": "\u0d7e",
    "\u0d4c": "\u0d57",  # the au sign, old and new
    # Odia: yya as ya with a dot, wa as its own letter and as va
    "\u0b2f\u0b3c": "\u0b5f",
    "\u0b71": "\u0b35",
    # Devanagari: a candra e that was typed in two parts, and an eyelash ra in both of its forms
    "\u0905\u0945": "\u0972",
    "\u0931\u094d": "\u0930\u094d",
    # Arabic letters of Urdu, Sindhi and Kashmiri as Arabic keyboards have them
    "\u064a": "\u06cc",
    "\u0649": "\u06cc",
    "\u0643": "\u06a9",
    "\u0647": "\u06c1",
    "\u06d5": "\u06c1",
    "\u0629": "\u06c3",
}
_PAIRS = re.compile("|".join(map(re.escape, sorted(_SAME, key=len, reverse=True))))
# The short vowels and the stretching line of Arabic script, which Urdu and Sindhi leave out. Kashmiri writes them:
# there this forgives a wrong one.
_OPTIONAL = re.compile("[\u064b-\u0652\u0670\u0640]")
_HEARD_NOWHERE = re.compile(f"[{_SILENT}]")


def one_spelling(text: str) -> str:
    """``text``, normalised (NFKC), in the one spelling that is compared."""
    text = unicodedata.normalize("NFKC", text)
    text = _PAIRS.sub(lambda found: _SAME[found.group()], text)
    text = _HEARD_NOWHERE.sub("", _OPTIONAL.sub("", text))
    return "".join(str(unicodedata.digit(c)) if c.isdecimal() else c for c in text)
