"""A day's invented conversations: who, about what, in which language, how long, and how they ended.

What it is: ``Talks``, arrays with one entry a conversation, drawn from ``mix`` by a seeded generator.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from appliance.ledger.demo import mix

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NEVER = 1 << 30
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_MOST_TURNS = 14


class Drift(Struct, frozen=True):
    """How a month differs from the mix: what is added to every resolved share, and what escalations are times."""

    resolved: float = 0.0
    escalates: float = 1.0


class Talks(Struct, frozen=True):
    """One entry a conversation. ``tenant``, ``intent``, ``language`` and ``channel`` are places in ``mix``'s tuples;
    ``escalates_at`` is the turn that does, or NEVER; ``luck`` decides whether it is resolved."""

    tenant: Ints
    intent: Ints
    language: Ints
    channel: Ints
    opened_ms: Ints
    turns: Ints
    escalates_at: Ints
    luck: Floats
    chance: Floats


def draw(rng: np.random.Generator, day_ms: int, count: int, drift: Drift) -> Talks:
    """``count`` conversations opened on the day that begins at ``day_ms``, in order of opening."""
    tenant = _chosen(rng, [t.weight for t in mix.TENANTS], count)
    intent = np.zeros(count, np.int64)
    for number in range(len(mix.TENANTS)):
        places, weights = _intents_of(number)
        own = tenant == number
        intent[own] = places[_chosen(rng, list(weights), int(own.sum()))]
    hour = _chosen(rng, list(mix.HOURS), count)
    opened_ms = np.sort(day_ms + hour * HOUR_MS + rng.integers(0, HOUR_MS, count))
    turns = 1 + rng.poisson(np.array([i.turns for i in mix.INTENTS])[intent] * 1.14 - 1)
    turns = np.minimum(turns, _MOST_TURNS)
    may = np.array([t.residency != "local_only" for t in mix.TENANTS])[tenant]
    rate = np.array([i.escalates for i in mix.INTENTS])[intent] * drift.escalates
    escalates = may & (rng.random(count) < rate)
    language = _chosen(rng, [one.weight for one in mix.LANGUAGES], count)
    chance = (
        np.array([i.resolved for i in mix.INTENTS])[intent]
        + np.array([one.resolved for one in mix.LANGUAGES])[language]
        + np.where(escalates, -0.05, 0.0)
        + drift.resolved
    )
    return Talks(
        tenant=tenant,
        intent=intent,
        language=language,
        channel=_chosen(rng, [weight for _, weight in mix.CHANNELS], count),
        opened_ms=opened_ms,
        turns=turns,
        escalates_at=np.where(escalates, rng.integers(0, turns), NEVER),
        luck=rng.random(count),
        chance=chance,
    )


@cache
def _intents_of(tenant: int) -> tuple[Ints, tuple[float, ...]]:
    """The places of a tenant's intents, and their weights."""
    own = [(n, i.weight) for n, i in enumerate(mix.INTENTS) if mix.TENANTS[tenant].id in i.tenants]
    return np.array([n for n, _ in own]), tuple(weight for _, weight in own)


def _chosen(rng: np.random.Generator, weights: list[float] | list[int], count: int) -> Ints:
    shares = np.array(weights, np.float64)
    return np.searchsorted(np.cumsum(shares / shares.sum())[:-1], rng.random(count), side="right").astype(np.int64)
