"""What numbers, addresses, codes, templates and glossary terms a pivot lost on its way in and back.

What it is: ``Crossing``, one request's running count, so that a judge can be told while an answer is still held.
What it refuses to be: a finder of names. A name counts where the tenant's glossary has it as a term.
What it costs: some 10 µs a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from appliance.translation.signals import entities

# "5pm", "500ml", "1st": the number has to come through, what is written behind it is the language's own business
_UNIT = re.compile(r"(\d+)[A-Za-z]{1,2}")
_ORDINAL = re.compile(r"\d{1,2}(?:st|nd|rd|th)", re.IGNORECASE)


class Crossing:
    """``wanted`` counts what had to come through, ``lost`` names what did not."""

    def __init__(self) -> None:
        self.wanted = 0
        self.lost: list[str] = []

    def saw(self, text: str, made: str, lost_terms: Sequence[str] = ()) -> None:
        """One text and what was made of it; ``lost_terms`` are the glossary's that went."""
        gone = lost(text, made)
        terms = [term for term in lost_terms if term not in gone]
        self.wanted += entities(text).total() + len(terms)
        self.lost += [*gone, *terms]

    @property
    def share(self) -> float:
        """Of all that had to come through, what did not."""
        return len(self.lost) / self.wanted if self.lost else 0.0


def lost(text: str, made: str) -> list[str]:
    """Entities of ``text`` that ``made`` does not have."""
    there = entities(made)
    gone = [entity for entity in (entities(text) - there).elements() if not _ORDINAL.fullmatch(entity)]
    left = there - entities(text)
    found = []
    for entity in gone:
        unit = _UNIT.fullmatch(entity)
        if unit is not None and left[unit[1]] > 0:
            left[unit[1]] -= 1
        else:
            found.append(entity)
    return found
