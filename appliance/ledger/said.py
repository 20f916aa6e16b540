"""What may be said of how a conversation ended: the value and its rules.

What it is: ``Said`` and ``checked``, the one place that says what an outcome may be, for the API, for operators and
for the command line.
What it refuses to be: an importer of SQLAlchemy. A gateway checks an outcome on its event loop.
"""

from __future__ import annotations

from msgspec import Struct

from appliance.ledger.stores import values

LONGEST_NOTE = 2000


class Said(Struct, frozen=True):
    """An outcome as a caller gives it; None where it says nothing about that. ``csat`` is 1 to 5."""

    resolved: bool | None = None
    handed_to_human: bool | None = None
    csat: int | None = None
    note: str | None = None

    @property
    def state(self) -> str | None:
        """The state it puts a conversation into; None where it says neither."""
        if self.handed_to_human:
            return "handed_to_human"
        if self.resolved is None:
            return None
        return "resolved" if self.resolved else "unresolved"


class Unsayable(ValueError):
    """``field`` of an outcome cannot be recorded, or all of it where that is None; the text says what would do."""

    def __init__(self, sentence: str, field: str | None = None) -> None:
        super().__init__(sentence)
        self.field = field


def checked(said: Said) -> Said:
    """``said``, if it says something that can be recorded. Raises Unsayable."""
    if said == Said():
        raise Unsayable("the outcome is empty; send at least one of resolved, handed_to_human, csat and note")
    if said.csat is not None and not 1 <= said.csat <= 5:
        raise Unsayable(f"csat is {said.csat}; give a number from 1 to 5", "csat")
    if said.note is not None:
        try:
            values.free(said.note, "the note", LONGEST_NOTE)
        except ValueError as e:
            raise Unsayable(str(e), "note") from None
    if said.resolved and said.handed_to_human:
        raise Unsayable(
            "resolved and handed_to_human contradict each other; say resolved when the person has resolved it",
            "resolved",
        )
    return said
