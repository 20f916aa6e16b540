"""What is learned from: judged requests with what became of their conversations.

What it is: ``Judged`` (one row of the ledger's decisions with its outcome), ``examples`` and ``routes`` made of many:
labels of 0 (resolved) to 1 (unresolved), with weights that undo which answers were let out and which were sent on.
What it refuses to be: certain. An outcome belongs to a conversation; each of its judged answers gets it, with an equal
part of one weight. Where nobody said how a conversation ended, a shadow run's agreement stands in, as far as agreement
is known to go with outcomes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from msgspec import Struct

from appliance.policy.isotonic import rising
from appliance.types import Decision

# an answer that had a chance of one in fifty to be let out does not count for more than this many
_MOST_WEIGHT = 20.0
_PAIRS = 30
_SHADOW_WEIGHT = 0.5


class Judged(Struct, frozen=True):
    """One decision. ``resolved`` None: nobody knows. ``hosted_nusd``: what its request was billed.

    ``answered``: the route of the answer that left; None where none did.
    """

    request_id: str
    conversation: str
    opened_ms: int
    resolved: bool | None
    hosted_nusd: int
    answered: str | None
    decision: Decision


class Example(Struct, frozen=True):
    """One answer of the judged route: its features, and P(unresolved) as it turned out."""

    conversation: str
    opened_ms: int
    features: Mapping[str, float]
    intent: str | None
    language: str | None
    label: float
    weight: float


class Route(Struct, frozen=True):
    """One answer of another route, and how it turned out."""

    conversation: str
    route: str
    intent: str | None
    language: str | None
    label: float
    weight: float


def examples(rows: Sequence[Judged]) -> list[Example]:
    """The answers that left as they were judged, and those whose shadow run says enough."""
    shadows = {row.decision.shadow_of: row.decision.agreement for row in rows if row.decision.shadow_of is not None}
    committed = [row for row in rows if row.decision.shadow_of is None and row.decision.verdict == "commit"]
    meaning = _meaning_of_agreement(committed, shadows)
    parts = _parts(committed)
    found = []
    for row in committed:
        label, weight = _label(row, shadows.get(row.request_id), meaning)
        if weight:
            d = row.decision
            weight *= min(1.0 / max(d.propensity, 1e-6), _MOST_WEIGHT) / parts[row.conversation]
            found.append(
                Example(row.conversation, row.opened_ms, d.signals, d.intent, d.language, label, round(weight, 6))
            )
    return found


def routes(rows: Sequence[Judged]) -> list[Route]:
    """The answers that were escalated and whose conversation ended."""
    sent = [
        row
        for row in rows
        if row.decision.verdict == "escalate" and row.resolved is not None and row.answered == row.decision.alternative
    ]
    parts = _parts(sent)
    return [
        Route(
            row.conversation,
            str(row.answered),
            row.decision.intent,
            row.decision.language,
            float(not row.resolved),
            1.0 / parts[row.conversation],
        )
        for row in sent
    ]


def split(found: Sequence[Example], share: float = 0.25) -> tuple[list[Example], list[Example]]:
    """Earlier and later conversations: the last ``share`` of them, none in both."""
    opened: dict[str, int] = {}
    for one in found:
        opened[one.conversation] = min(one.opened_ms, opened.get(one.conversation, one.opened_ms))
    order = sorted(opened, key=lambda name: (opened[name], name))
    later = set(order[len(order) - int(len(order) * share) :])
    return [one for one in found if one.conversation not in later], [one for one in found if one.conversation in later]


def by_cell(found: Iterable[Example], name: str) -> dict[str, list[Example]]:
    """Grouped by ``language`` or ``intent``; those that have none under ``unknown``."""
    cells: dict[str, list[Example]] = defaultdict(list)
    for one in found:
        cells[getattr(one, name) or "unknown"].append(one)
    return dict(cells)


def _parts(rows: Sequence[Judged]) -> Counter[str]:
    return Counter(row.conversation for row in rows)


def _label(row: Judged, agreement: float | None, meaning: tuple[np.ndarray, np.ndarray] | None) -> tuple[float, float]:
    """What the answer is taken for, and how far to believe it."""
    if row.resolved is not None:
        return float(not row.resolved), 1.0
    if agreement is None or meaning is None:
        return 0.0, 0.0
    xs, ys = meaning
    return 1.0 - float(np.interp(agreement, xs, ys)), _SHADOW_WEIGHT


def _meaning_of_agreement(
    committed: Sequence[Judged], shadows: Mapping[str, float | None]
) -> tuple[np.ndarray, np.ndarray] | None:
    """P(resolved) by agreement, where enough conversations have both; a rising curve."""
    pairs = [
        (float(agreement), float(row.resolved))
        for row in committed
        if row.resolved is not None and (agreement := shadows.get(row.request_id)) is not None
    ]
    if len(pairs) < _PAIRS:
        return None
    x, y = np.array(sorted(pairs)).T
    return x, rising(y, np.ones_like(y))
