"""What the conversations of a month came to: counts, energy, cost a resolved one, by tenant, intent, language, channel.

What it is: sums over a ``Cohort``'s columns. A conversation belongs to the month it was opened in, with everything it
ever cost. Its energy is its share of measured busy time once every hour it ran in is reconciled, and what the
coefficients booked until then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from appliance.languages import TAGS, display_name
from appliance.ledger.report.bootstrap import Blocks, ratios
from appliance.ledger.report.reading import Cohort
from appliance.ledger.report.repeats import Repeated
from appliance.ledger.report.values import Counts, Escalated, Group, Span, Trouble

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

DIMENSIONS = {"tenant": "tenant_id", "intent": "intent", "language": "language", "channel": "channel"}
_MOST_GROUPS = 40
_MOST_TROUBLES = 10
_LEAST_IN_A_ROW = 20  # conversations; fewer say nothing about an intent in a language


class Costed(Struct, frozen=True):
    """A cohort with its money: nano-USD and nanoseconds of the server, a conversation each."""

    cohort: Cohort
    energy_nusd: Ints
    load_ns: Ints
    measured: Bools
    confirmed: Bools
    presumed: Bools
    unresolved: Bools
    handed: Bools

    @property
    def hosted_nusd(self) -> Ints:
        """What hosted models charged."""
        return self.cohort.numbers["hosted_nusd"]

    @property
    def marginal_nusd(self) -> Ints:
        """Energy and hosted."""
        return self.energy_nusd + self.hosted_nusd

    @property
    def reported(self) -> Bools:
        """Those of which a caller said what became of them, last of all."""
        return self.confirmed | self.unresolved | self.handed

    def part(self, chosen: Bools) -> Costed:
        """Only those."""
        rest = (getattr(self, field)[chosen] for field in self.__struct_fields__[1:])
        return Costed(self.cohort.part(chosen), *rest)


def costed(cohort: Cohort, rates: tuple[Ints, npt.NDArray[np.float64]], reconciled_until_ms: int | None) -> Costed:
    """``rates``: from when on, and nano-USD a busy nanosecond (the first of them before all)."""
    numbers = cohort.numbers
    measured = (numbers["busy_ns"] > 0) & (numbers["last_seen_ms"] < (reconciled_until_ms or 0))
    load = np.where(measured, numbers["busy_ns"], numbers["work_ns"])
    rate = rates[1][np.searchsorted(rates[0], numbers["opened_ms"], side="right")]
    energy = np.where(measured, np.rint(load * rate).astype(np.int64), numbers["energy_nusd"])
    states = (
        cohort.label("state", name) for name in ("resolved", "presumed_resolved", "unresolved", "handed_to_human")
    )
    return Costed(cohort, energy, load, measured, *states)


def counts(c: Costed) -> Counts:
    """Conversations by what became of them."""
    return _counts(c, np.zeros(c.cohort.size, np.int64), 1)[0]


def _counts(c: Costed, number: Ints, groups: int) -> list[Counts]:
    """The same for each of ``groups``; ``number`` says which one a conversation is in, negative for none."""
    columns = (
        np.ones(c.cohort.size),
        c.confirmed,
        c.presumed,
        c.unresolved,
        c.handed,
        c.cohort.label("state", "open"),
        c.cohort.numbers["reopened"] > 0,
        c.cohort.numbers["escalated"],
        c.cohort.label("answered_by", "hosted"),
    )
    return [Counts(*row) for row in zip(*(_sums(column, number, groups) for column in columns), strict=True)]


def _sums(values: npt.NDArray[np.generic], number: Ints, groups: int) -> list[int]:
    """Whole sums by group: exact, as nothing here reaches 2⁵³ nano-dollars or nanoseconds of a group's month."""
    weights = values.astype(np.float64)
    return [round(one) for one in np.bincount(number + 1, weights, groups + 1)[1:].tolist()]


def groups(c: Costed, dimension: str, server_nusd: int | None) -> tuple[Group, ...]:
    """By ``dimension``, the largest first; ``server_nusd`` is shared out by the server's time that each took."""
    field = DIMENSIONS[dimension]
    names, codes = c.cohort.names[field], c.cohort.codes[field]
    sizes = np.bincount(codes, minlength=len(names))
    order = [int(code) for code in np.argsort(-sizes, kind="stable")[:_MOST_GROUPS] if sizes[code]]
    place = np.full(len(names), -1)
    place[order] = np.arange(len(order))
    number = place[codes]
    blocks = Blocks(number, len(order))
    confirmed_share = ratios(blocks, c.confirmed, np.ones(len(codes)))
    reported_share = ratios(blocks, c.confirmed, c.reported)
    marginal = ratios(blocks, c.marginal_nusd, c.confirmed)
    counted = _counts(c, number, len(order))
    hosted, energy, load = (_sums(one, number, len(order)) for one in (c.hosted_nusd, c.energy_nusd, c.load_ns))
    load_all = int(c.load_ns.sum())
    result = []
    for n, code in enumerate(order):
        count = counted[n]
        loaded = None
        if server_nusd is not None and load_all:
            loaded = per(hosted[n] + server_nusd * load[n] / load_all, count.confirmed)
        result.append(
            Group(
                name=names[code],
                label=label(dimension, names[code]),
                counts=count,
                confirmed_share=confirmed_share[n],
                reported_share=reported_share[n],
                marginal=marginal[n],
                marginal_with_presumed=per(hosted[n] + energy[n], count.confirmed + count.presumed),
                loaded=loaded,
                hosted_nusd=hosted[n],
                energy_nusd=energy[n],
            )
        )
    return tuple(result)


def escalation(c: Costed, repeats: Mapping[str | None, Repeated]) -> tuple[Escalated, ...]:
    """All, then by intent, those with the most escalated conversations first."""
    escalated = (c.cohort.numbers["escalated"] > 0).astype(np.int64)
    if not escalated.any():
        return ()
    names, codes = c.cohort.names["intent"], c.cohort.codes["intent"].astype(np.int64)
    everything = Repeated(
        sum(one.conversations for one in repeats.values()), sum(one.facts for one in repeats.values())
    )
    rows = [("", "All intents", *_sides(c, escalated, 1)[0], *_repeats(everything))]
    by_intent = _sides(c, codes * 2 + escalated, len(names))
    for code in sorted(range(len(names)), key=lambda one: -by_intent[one][0]):
        if by_intent[code][0] >= _LEAST_IN_A_ROW and len(rows) <= _MOST_TROUBLES:
            again = _repeats(repeats.get(names[code]))
            rows.append((names[code] or "", label("intent", names[code]), *by_intent[code], *again))
    return tuple(Escalated(*row) for row in rows)


def _repeats(found: Repeated | None) -> tuple[int, float | None]:
    return (found.conversations, per(found.facts, found.conversations)) if found is not None else (0, None)


def _sides(c: Costed, number: Ints, pairs: int) -> list[tuple[int, Span, Span, float]]:
    """Of groups in pairs, the second of each escalated: how many, both shares, and what it costs more, hosted."""
    blocks = Blocks(number, 2 * pairs)
    shares = ratios(blocks, c.confirmed, c.reported)
    sizes = _sums(np.ones(len(number)), number, 2 * pairs)
    hosted = [per(nusd, size) or 0.0 for nusd, size in zip(_sums(c.hosted_nusd, number, 2 * pairs), sizes, strict=True)]
    return [
        (sizes[n], shares[n], shares[n - 1], hosted[n] - hosted[n - 1] if sizes[n] and sizes[n - 1] else 0.0)
        for n in range(1, 2 * pairs, 2)
    ]


def trouble(c: Costed) -> tuple[Trouble, ...]:
    """Intents in a language with the most conversations that were not resolved or went to a person."""
    intents, languages = c.cohort.names["intent"], c.cohort.names["language"]
    pair = c.cohort.codes["intent"].astype(np.int64) * len(languages) + c.cohort.codes["language"]
    bad = c.unresolved | c.handed
    size = len(intents) * len(languages)
    sizes, worst = np.bincount(pair, minlength=size), np.bincount(pair[bad], minlength=size)
    worst[sizes < _LEAST_IN_A_ROW] = 0
    chosen = [int(p) for p in np.argsort(-worst, kind="stable")[:_MOST_TROUBLES] if worst[p]]
    place = np.full(size, -1)
    place[chosen] = np.arange(len(chosen))
    spans = ratios(Blocks(place[pair], len(chosen)), bad, np.ones(len(pair))) if chosen else []
    handed = np.bincount(pair[c.handed], minlength=size)
    return tuple(
        Trouble(
            label("intent", intents[p // len(languages)]),
            label("language", languages[p % len(languages)]),
            int(sizes[p]),
            int(worst[p] - handed[p]),
            int(handed[p]),
            span,
        )
        for p, span in zip(chosen, spans, strict=True)
    )


def per(nusd: float, count: int) -> float | None:
    """A mean, where there is something to divide by."""
    return nusd / count if count else None


def spread(c: Costed, above: Callable[[Costed], npt.NDArray[np.generic]]) -> Span:
    """A sum over all conversations a confirmed resolved one."""
    return ratios(Blocks(np.zeros(c.cohort.size, np.int64), 1), above(c), c.confirmed)[0]


def label(dimension: str, name: str | None) -> str:
    """As people read it."""
    if name is None:
        return "(not given)"
    if dimension == "language" and name in TAGS:
        return display_name(name)
    return name
