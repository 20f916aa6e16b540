"""Which conversation each request of a group belongs to.

What it is: three set-based look-ups (the caller's own ids, earlier answers, recorded histories), so that a group
costs at most three round trips however many requests it holds.
What it refuses to be: a guess. A history that two conversations share names neither, and a first turn none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from appliance.ledger.db import Db
from appliance.types import Admission, Turn

# a join and not IN: SQLite would scan the whole table for (a, b) IN (VALUES …)
_WANTED = "WITH w (tenant_id, name) AS (VALUES {}) "
_SAYS = "c.id, c.state, c.language, c.intent, c.value_class, c.subject, c.answered_by, c.last_seen_ms"
_BY_ID = (
    _WANTED + f"SELECT c.tenant_id, c.id, {_SAYS} FROM w"
    " JOIN conversations AS c ON c.tenant_id = w.tenant_id AND c.id = w.name"
)
_BY_THREAD = (
    _WANTED + f"SELECT t.tenant_id, t.hash, {_SAYS} FROM w"
    " JOIN threads AS t ON t.tenant_id = w.tenant_id AND t.hash = w.name"
    " JOIN conversations AS c ON c.tenant_id = t.tenant_id AND c.id = t.conversation_id"
)
_BY_ANSWER = (
    _WANTED + f"SELECT r.tenant_id, r.id, {_SAYS} FROM w JOIN requests AS r ON r.id = w.name"
    " JOIN conversations AS c ON c.tenant_id = r.tenant_id AND c.id = r.conversation_id"
    " WHERE r.tenant_id = w.tenant_id"
)
# one statement text for 1, 2, 4, 8 … pairs keeps the prepared statements few; the last pair is repeated to fill up
_MOST_PAIRS = 256


class Found(Struct, frozen=True):
    """A conversation that is there, its state, and what is known of it."""

    id: str
    state: str
    language: str | None = None
    intent: str | None = None
    value_class: str | None = None
    subject: str | None = None
    answered_by: str | None = None
    last_seen_ms: int = 0

    def knows(self, turn: Turn) -> bool:
        """Whether ``turn`` says nothing of it that is new."""
        return (
            turn.language in (None, self.language)
            and turn.intent in (None, self.intent)
            and turn.value_class in (None, self.value_class)
            and (turn.subject is None or self.subject is not None)
        )


class Known:
    """What the look-ups found, for one group."""

    def __init__(self, db: Db, admissions: Sequence[Admission]) -> None:
        self._by_id = _look_up(db, _BY_ID, admissions, lambda a: a.turn.conversation_id)
        self._by_answer = _look_up(db, _BY_ANSWER, admissions, lambda a: _rest(a, a.turn.previous_id))
        self._by_thread = _look_up(db, _BY_THREAD, admissions, lambda a: _rest(a, a.turn.thread))

    def of(self, admission: Admission) -> Found | None:
        """The conversation ``admission`` goes on with; None where it opens one."""
        turn, tenant_id = admission.turn, admission.request.key.tenant.id
        if turn.conversation_id is not None:
            return self._by_id.get((tenant_id, turn.conversation_id))
        if turn.previous_id is not None:
            return self._by_answer.get((tenant_id, turn.previous_id))
        if turn.thread is not None:
            return self._by_thread.get((tenant_id, turn.thread))
        return None

    def opened(self, tenant_id: str, conversation_id: str) -> None:
        """A request of this group opened it; a later one of the group goes on with it."""
        self._by_id[(tenant_id, conversation_id)] = Found(conversation_id, "open")

    def reopened(self, admission: Admission, found: Found) -> None:
        """Do not reopen it twice."""
        now = msgspec.structs.replace(found, state="open")
        tenant_id = admission.request.key.tenant.id
        for table in (self._by_id, self._by_answer, self._by_thread):
            for key, other in table.items():
                if key[0] == tenant_id and other.id == found.id:
                    table[key] = now


_Pair = tuple[str, str | bytes]


def _rest(admission: Admission, name: str | bytes | None) -> str | bytes | None:
    """``name``, unless the caller gave the conversation's id itself (and for threads, an answer's)."""
    turn = admission.turn
    if turn.conversation_id is not None or (isinstance(name, bytes) and turn.previous_id is not None):
        return None
    return name


def _look_up(
    db: Db,
    statement: str,
    admissions: Sequence[Admission],
    name_of: Callable[[Admission], str | bytes | None],
) -> dict[_Pair, Found]:
    wanted = {(a.request.key.tenant.id, name) for a in admissions if (name := name_of(a)) is not None}
    found: dict[_Pair, Found] = {}
    if not wanted:
        return found
    pairs = sorted(wanted, key=repr)
    for start in range(0, len(pairs), _MOST_PAIRS):
        some = pairs[start : start + _MOST_PAIRS]
        size = 1 << (len(some) - 1).bit_length()
        some += some[-1:] * (size - len(some))
        row = tuple(value for pair in some for value in pair)
        for result in db.query(statement.format(", ".join(["(?, ?)"] * size)), row):
            tenant_id, name, *says = result
            found[(tenant_id, bytes(name) if isinstance(name, memoryview) else name)] = Found(*says)
    return found
