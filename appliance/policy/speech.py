"""Which speech model hears a language, and whether what it wrote is written in that language's script.

What it is: pure functions. A language goes to the model the operator prefers for it, else to the one the catalogue
prefers, else to any that speaks it; one that is ready goes before one that is not. A model that has no token for a
language is never asked to guess it.
What it refuses to be: a detector. Whisper's host is one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from msgspec import Struct

from appliance.errors import BadRequest
from appliance.languages import LANGUAGES, SCHEDULED, language_of, script_of, whisper_code

CONFORMER = "indic-conformer-600m-multilingual"
"""The catalogue's model for all 22 languages."""
_BY_CODE = {language.bcp47: language for language in LANGUAGES}
# The letters of a text that have to be in its language's script. Half: names and loanwords are written in Latin.
_LEAST_SHARE = 0.5
_LEAST_LETTERS = 4
_SCRIPT_NAMES = {
    "Arab": ("ARABIC",), "Beng": ("BENGALI",), "Deva": ("DEVANAGARI",), "Gujr": ("GUJARATI",), "Guru": ("GURMUKHI",),
    "Knda": ("KANNADA",), "Latn": ("LATIN",), "Mlym": ("MALAYALAM",), "Mtei": ("MEETEI",), "Olck": ("OL CHIKI",),
    "Orya": ("ORIYA",), "Taml": ("TAMIL",), "Telu": ("TELUGU",),
}  # fmt: skip


class Speaker(Struct, frozen=True):
    """A speech model. ``languages`` and ``preferred_for`` are BCP-47 codes; ``languages`` empty: not known.

    ``detects``: it finds the language itself where none is given; ``tells``: it can be asked for the language alone.
    """

    model: str
    languages: frozenset[str]
    preferred_for: frozenset[str]
    ready: bool
    detects: bool
    tells: bool


def speaker(model: str, kind: str, tags: Sequence[str], preferred: Sequence[str], ready: bool) -> Speaker:
    """A speech model of engine ``kind``. What the catalogue does not say follows from the kind."""
    codes = frozenset(language_of(tag).bcp47 for tag in tags)
    if not codes and kind == "conformer":
        codes = frozenset(language.bcp47 for language in SCHEDULED)
    if not codes and kind == "whisper":
        codes = frozenset(language.bcp47 for language in LANGUAGES if whisper_code(language.tags[0]))
    best = frozenset(language_of(tag).bcp47 for tag in preferred)
    return Speaker(model, codes, best, ready, detects=kind != "conformer", tells=kind == "whisper")


def ranked(code: str, speakers: Sequence[Speaker], prefer: Mapping[str, str]) -> list[Speaker]:
    """Those of ``speakers`` that hear ``code``, best first. ``prefer``: the operator's choice by code.

    A code outside the appliance's 23 languages is left to models that know more than those.
    """
    ours = code in _BY_CODE

    def hears(one: Speaker) -> bool:
        return code in one.languages if ours and one.languages else one.detects or not one.languages

    def order(place: int, one: Speaker) -> tuple[bool, bool, bool, bool, int]:
        return (
            not one.ready,
            prefer.get(code) != one.model,
            code not in one.preferred_for,
            not one.languages,
            place,
        )

    able = [(order(place, one), one) for place, one in enumerate(speakers) if hears(one)]
    return [one for _, one in sorted(able, key=lambda pair: pair[0])]


def not_heard(code: str, speakers: Sequence[Speaker], instead: Sequence[str] = ()) -> BadRequest:
    """What a caller is told whose language none of ``speakers`` hears: who does, or the command to get one."""
    language = _BY_CODE.get(code)
    name = language.name if language is not None else code
    if instead:
        message = f"{speakers[0].model} does not hear {name}; name {' or '.join(instead)} as 'model', or an alias"
    elif language is None or code == "en":
        have = ", ".join(s.model for s in speakers) or "none"
        message = f"no speech model here hears {name} ({have}); install a Whisper model and make it an engine"
    else:
        message = (
            f"no speech model here hears {name}; fetch one with `appliance models pull {CONFORMER}` and add an engine"
            ' of kind "conformer" to appliance.toml'
        )
    return BadRequest(message, code="language_not_installed", param="language")


def detectable(code: str, detectors: Sequence[Speaker]) -> bool:
    """Whether one of ``detectors`` can tell that ``code`` is spoken."""
    return any(not one.languages or code in one.languages or code not in _BY_CODE for one in detectors)


def wrong_script(text: str, code: str | None) -> bool:
    """Whether most letters of ``text`` are in no script that language ``code`` is written in.

    False for a language outside the table, and for texts too short to tell.
    """
    language = _BY_CODE.get(code or "")
    if language is None:
        return False
    names = tuple(name for tag in language.tags for name in _SCRIPT_NAMES[script_of(tag)])
    letters = [c for c in text if unicodedata.category(c)[0] in "LM"]
    if len(letters) < _LEAST_LETTERS:
        return False
    own = sum(unicodedata.name(c, "").startswith(names) for c in letters)
    return own < _LEAST_SHARE * len(letters)
