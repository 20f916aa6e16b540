"""Language and script of a text: the 25 tags, English, and Hindi, Tamil, Telugu, Bengali and Marathi in Latin letters.

What it is: Unicode blocks where one language owns a script (nine do), a small linear model of character n-grams where
several share one, word by word in Latin letters, because customers mix English with everything.
What it refuses to be: a guesser. Below the threshold, in an unknown script and without letters the tag is None.
What it costs: under 50 µs for 200 characters (the card in models/language_id has the measurement), and never more
than ten times that, for it reads the first 2,000 characters only. The first call loads the model, 10 ms.
"""

from __future__ import annotations

import functools

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from appliance.language_id.features import BOUNDARY, ORDERS, Codes, Kinds, Units, symbols, units_of
from appliance.language_id.model import UNKNOWN, Model, load
from appliance.language_id.scripts import NONE, OTHER, SCRIPTS, script_table
from appliance.languages import ENGLISH

LONGEST = 2000
# scripts that one language owns here
_SETTLED = {
    "Guru": "pan_Guru", "Gujr": "guj_Gujr", "Orya": "ory_Orya", "Taml": "tam_Taml", "Telu": "tel_Telu",
    "Knda": "kan_Knda", "Mlym": "mal_Mlym", "Olck": "sat_Olck", "Mtei": "mni_Mtei",
}  # fmt: skip
_LATIN = SCRIPTS.index("Latn")
# An Indic language with this share of the words is what the customer speaks; English words inside are borrowed.
_MATRIX = 0.3
# a language with a smaller share is a name or an accident
_MENTION = 0.15
# How far a word in Latin letters leans to the Indic language: in logits, as the model scales a text of that length.
# Indic function words lean 5 to 12, English ones -2 to -7, borrowed nouns stand between.
_LEANS, _LEANS_FROM_ENGLISH = 2.0, 4.0


class Identified(Struct, frozen=True):
    """What a text is. ``tag`` is None where it cannot be told; ``script`` is ISO 15924, empty without letters.

    ``confidence`` is the calibrated probability of ``tag`` (of the best guess where that was not good enough).
    ``romanised`` text has ``script`` Latn and the tag of its language. ``mixed`` has languages and their shares of the
    words, largest first, where there is more than one; else it is empty.
    """

    tag: str | None
    script: str
    confidence: float
    romanised: bool = False
    mixed: tuple[tuple[str, float], ...] = ()


class _Part(Struct, frozen=True):
    """The words of one script. ``inside`` are further languages among them, with their numbers of words."""

    script: str
    words: int
    tag: str | None
    confidence: float
    inside: tuple[tuple[str, int], ...] = ()


_NOTHING = Identified(None, "", 0.0)


def identify(text: str) -> Identified:
    """The language of ``text``; any string is taken."""
    return _identifier().identify(text)


@functools.cache
def _identifier() -> Identifier:
    return Identifier(load())


class Identifier:
    """``identify`` over one model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._kinds = script_table()

    def identify(self, text: str) -> Identified:
        """The language of ``text``."""
        units = units_of(text[:LONGEST])
        kinds = self._kinds.take(units)
        counts = np.bincount(kinds, minlength=len(SCRIPTS)).tolist()
        counts[NONE] = 0
        present = [script for script, count in enumerate(counts) if count]
        if not present:
            return _NOTHING
        if len(present) == 1:
            return _alone(self._part(units, kinds, present[0], 1))
        words = _words(kinds)
        if 0 < words[_LATIN] < _MATRIX * sum(words):
            # a few Latin words in a text of another script: looking at them would cost as much as the text
            present.remove(_LATIN)
            parts = [_Part("Latn", words[_LATIN], ENGLISH, 0.0)]
        else:
            parts = []
        parts += [self._part(units, kinds, script, words[script]) for script in present if words[script]]
        return _together(parts) if len(parts) > 1 else _alone(parts[0])

    def _part(self, units: Units, kinds: Kinds, script: int, words: int) -> _Part:
        name = SCRIPTS[script]
        settled = _SETTLED.get(name)
        if settled is not None:
            return _Part(name, words, settled, 1.0)
        table = self._model.tables.get(name)
        if table is None:
            return _Part(name, words, None, 0.0)
        found = symbols(units, kinds, script)
        scores = table.scores(found)
        best = max(scores.probabilities)
        label = table.labels[scores.probabilities.index(best)]
        tag = label if label != UNKNOWN and best >= self._model.threshold else None
        inside: tuple[tuple[str, int], ...] = ()
        if script == _LATIN and tag is not None:
            inside = _inside(found, scores.weights, table.labels, tag, scores.probabilities)
        return _Part(name, words, tag, best, inside)


def _alone(part: _Part) -> Identified:
    """The answer for a text in one script."""
    romanised = part.script == "Latn" and part.tag not in (None, ENGLISH)
    total = sum(words for _, words in part.inside)
    mixed = tuple((tag, round(words / total, 3)) for tag, words in part.inside)
    script = part.script if part.script != SCRIPTS[OTHER] else ""
    return Identified(part.tag, script, round(part.confidence, 4), romanised, mixed)


def _together(parts: list[_Part]) -> Identified:
    """The answer for a text in several scripts."""
    total = sum(part.words for part in parts)
    # the language of the customer: Indic letters with a fair share of the words, else the most words
    lead = max(parts, key=lambda part: (part.tag not in (None, ENGLISH) and part.words >= _MATRIX * total, part.words))
    if lead.script != "Latn" and lead.tag is not None:
        parts = [_borrowed(part, lead.tag) for part in parts]
    shares: dict[str, float] = {}
    for part in parts:
        inside = part.inside or (((part.tag, part.words),) if part.tag is not None else ())
        of_part = sum(words for _, words in inside)
        for tag, words in inside:
            shares[tag] = shares.get(tag, 0.0) + words / of_part * part.words / total
    if lead.script == "Latn" or lead.tag is None:
        alone = _alone(lead)
    else:
        alone = Identified(lead.tag, lead.script, round(lead.confidence, 4))
    kept = sorted(((tag, share) for tag, share in shares.items() if share >= _MENTION), key=lambda one: -one[1])
    mixed = tuple((tag, round(share, 3)) for tag, share in kept) if len(kept) > 1 else ()
    return Identified(alone.tag, alone.script, alone.confidence, alone.romanised, mixed)


def _borrowed(part: _Part, tag: str) -> _Part:
    """Latin words beside those of ``tag`` are English, or ``tag`` romanised; a third language would be a mistake."""
    third = part.script == "Latn" and part.tag not in (None, ENGLISH, tag)
    return _Part("Latn", part.words, ENGLISH, part.confidence) if third else part


def _words(kinds: Kinds) -> list[int]:
    """How many words begin in each script."""
    begins = kinds.copy()
    begins[1:][kinds[1:] == kinds[:-1]] = NONE
    words: list[int] = np.bincount(begins, minlength=len(SCRIPTS)).tolist()
    words[NONE] = 0
    return words


def _inside(
    found: Codes, weights: NDArray[np.float32], labels: tuple[str, ...], tag: str, probabilities: list[float]
) -> tuple[tuple[str, int], ...]:
    """English and the Indic language word by word, where both have a share worth mentioning; else nothing."""
    english = labels.index(ENGLISH)
    if tag == ENGLISH:
        others = [i for i, label in enumerate(labels) if label not in (ENGLISH, UNKNOWN)]
        other = max(others, key=probabilities.__getitem__)
    else:
        other = labels.index(tag)
    n = len(found)
    contrast = weights[:, other] - weights[:, english]
    by_place = contrast[:n]
    at = n
    for order in range(1, ORDERS):
        by_place[: n - order] += contrast[at : at + n - order]
        at += n - order
    starts = np.flatnonzero(found[:-1] == BOUNDARY)
    leaning = np.add.reduceat(by_place, starts)
    letters = np.diff(starts, append=n - 1)
    total = len(starts)
    # a word of few letters says less; what leans a little is what both languages use (account, sir, block)
    least = _LEANS_FROM_ENGLISH if tag == ENGLISH else _LEANS
    indic = int(np.count_nonzero(leaning > least * np.sqrt(ORDERS * letters)))
    shares = sorted(((labels[other], indic), (ENGLISH, total - indic)), key=lambda one: -one[1])
    return tuple(shares) if shares[-1][1] >= _MENTION * total else ()
