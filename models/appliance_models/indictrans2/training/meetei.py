"""Manipuri in Bengali script written in Meetei Mayek, by rule, so that the embedded model has seen mni_Mtei at all.

What it is: a letter-by-letter transliteration for training data, which has no Meetei Mayek of its own; every sentence
made here is labelled so in the model's card.
What it refuses to be: an orthography. Meetei Mayek spells some words by sound, which letters alone do not tell.
"""

from __future__ import annotations

_CONSONANTS = dict(
    zip(
        "কখগঘঙচছজঝঞটঠডঢণতথদধনপফবভমযৰরলশষসহৱয়",
        "ꯀꯈꯒꯘꯉꯆꯁꯖꯓꯅꯇꯊꯗꯙꯅꯇꯊꯗꯙꯅꯄꯐꯕꯚꯃꯌꯔꯔꯂꯁꯁꯁꯍꯋꯌ",
        strict=False,
    )
)
_VOWELS = dict(zip("অআইঈউঊএঐওঔঋ", ("ꯑ", "ꯑꯥ", "ꯏ", "ꯏ", "ꯎ", "ꯎ", "ꯑꯦ", "ꯑꯩ", "ꯑꯣ", "ꯑꯧ", "ꯔꯤ"), strict=True))
_SIGNS = dict(zip("ািীুূেৈোৌৃংঃঁ", ("ꯥ", "ꯤ", "ꯤ", "ꯨ", "ꯨ", "ꯦ", "ꯩ", "ꯣ", "ꯧ", "꯭ꯔꯤ", "ꯡ", "ꯍ", "ꯪ"), strict=True))
_FINALS = dict(zip("ꯀꯂꯃꯄꯅꯇꯉꯏ", "ꯛꯜꯝꯞꯟꯠꯡꯢ", strict=True))
_OTHER = {"।": "꯫", "ৎ": "ꯠ", "়": "", **{chr(0x9E6 + i): chr(0xABF0 + i) for i in range(10)}}
_LETTERS = {**_CONSONANTS, **_VOWELS, **_OTHER}
_VIRAMA = "্"


def from_bengali(text: str) -> str:
    """``text`` of mni_Beng in Meetei Mayek; what is not Bengali script stays."""
    out: list[str] = []
    for i, char in enumerate(text):
        following = text[i + 1 : i + 2]
        if char in _CONSONANTS:
            letter = _CONSONANTS[char]
            ends = not (following in _SIGNS or following == _VIRAMA or following in _LETTERS or following == "়")
            out.append(_FINALS.get(letter, letter) if ends else letter)
        elif char == _VIRAMA:
            out.append("꯭" if following in _CONSONANTS else "")
        else:
            out.append(_SIGNS.get(char) or _LETTERS.get(char, char))
    return "".join(out)
