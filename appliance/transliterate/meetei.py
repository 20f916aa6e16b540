"""Meetei Mayek and Bengali letters for Manipuri.

What it is: the 27 letters, the lonsum (closing) letters and the vowel signs of Meetei Mayek against the Bengali
spelling of Manipuri.
What it refuses to be: a lexicon. Bengali writes closing consonants inside a word without a mark (``মখলগী`` is
ma-khal-gi), so Meetei Mayek from it has lonsum letters at the ends of words and in conjuncts only; Bengali letters that
Meetei Mayek lacks become their nearest ones, and long and short i and u become one.
"""

from __future__ import annotations

import re
import unicodedata

_VIRAMA, _APUN = "্", "꯭"
_LETTERS = dict(
    zip(
        "কসলমপনচতখঙথৱয়হউইফঅগঝরবজদঘধভ".replace("য়", "\u09df"),
        "ꯀꯁꯂꯃꯄꯅꯆꯇꯈꯉꯊꯋꯌꯍꯎꯏꯐꯑꯒꯓꯔꯕꯖꯗꯘꯙꯚ",
        strict=True,
    )
)
_SIGNS = dict(zip("ািুেোৈৌং", "ꯥꯤꯨꯦꯣꯩꯧꯪ", strict=True))
_LONSUM = {"ক": "ꯛ", "ল": "ꯜ", "ম": "ꯝ", "প": "ꯞ", "ন": "ꯟ", "ত": "ꯠ", "ঙ": "ꯡ"}
_NEAREST = {
    "ী": "ি", "ূ": "ু", "ৎ": f"ত{_VIRAMA}", "ছ": "চ", "ট": "ত", "ঠ": "থ", "ড": "দ", "ঢ": "ধ", "ণ": "ন", "শ": "স",
    "ষ": "স", "ঞ": "ন", "য": "\u09df", "ৰ": "র", "ঈ": "ই", "ঊ": "উ", "ঋ": "রি", "ৃ": f"{_VIRAMA}রি", "ঃ": "হ",
    "ঁ": "ং", "\u09dc": "র", "\u09dd": "র",
}  # fmt: skip
_VOWELS = {"আ": "ꯑꯥ", "এ": "ꯑꯦ", "ও": "ꯑꯣ", "ঐ": "ꯑꯩ", "ঔ": "ꯑꯧ"}
_WHOLE = {"ড়": "\u09dc", "ঢ়": "\u09dd", "য়": "\u09df"}
_BENGALI = "ঀ-৿"
_ENDING = re.compile(f"(?<=[{_BENGALI}])([{''.join(_LONSUM)}]){_VIRAMA}?(?![{_BENGALI}])")
_CLOSED = re.compile(f"(?<=[{_BENGALI}])(?<!{_VIRAMA})([{''.join(_LONSUM)}]){_VIRAMA}(?=[ক-হ])(?![রলৱ\u09df])")
_TO_MAYEK = str.maketrans({**_LETTERS, **_SIGNS, **_VOWELS, _VIRAMA: _APUN, "।": "꯫", "়": ""})
_TO_BENGALI = str.maketrans(
    {mayek: bengali for bengali, mayek in (_LETTERS | _SIGNS).items()}
    | {lonsum: bengali + _VIRAMA for bengali, lonsum in _LONSUM.items()}
    | {_APUN: _VIRAMA, "꯫": "।", "ꯢ": "ই", "꯬": ""}
)
_NEAREST_TABLE = str.maketrans(_NEAREST)


def bengali_to_mayek(text: str) -> str:
    """Bengali letters of ``text`` in Meetei Mayek, the rest as it was."""
    text = unicodedata.normalize("NFC", text)
    for apart, whole in _WHOLE.items():
        text = text.replace(apart, whole)
    text = text.translate(_NEAREST_TABLE)
    # a consonant that closes the word, and the first of a conjunct after a vowel unless it opens a syllable with it
    return _CLOSED.sub(_closing, _ENDING.sub(_closing, text)).translate(_TO_MAYEK)


def mayek_to_bengali(text: str) -> str:
    """Meetei Mayek letters of ``text`` in Bengali, the rest as it was."""
    for bengali, mayek in _VOWELS.items():
        text = text.replace(mayek, bengali)
    text = text.translate(_TO_BENGALI)
    text = re.sub(f"ঙ{_VIRAMA}", "ং", text)
    text = re.sub(f"ত{_VIRAMA}(?![{_BENGALI}])", "ৎ", text)
    text = re.sub(f"([কলমপন]){_VIRAMA}(?![{_BENGALI}])", r"\1", text)
    return unicodedata.normalize("NFC", text)


def _closing(found: re.Match[str]) -> str:
    return _LONSUM[found[1]]
