"""The requests of a day's invented conversations, with their attempts and engine calls.

What it is: ``Traffic``, arrays with one entry a request, and ``Calls``, one entry an engine call. A spoken turn is a
transcription and a chat request; a pivot answer is three calls; an escalated one has a first attempt that was not good
enough and a hosted one that was.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from appliance.ledger.demo import mix
from appliance.ledger.demo.conversations import HOUR_MS, Bools, Floats, Ints, Talks

LOCAL, PIVOT, HOSTED = range(3)
ROUTES = ("local", "pivot", "hosted")
OK, FAILED, CANCELLED = range(3)
STATUSES = ("ok", "failed", "cancelled")
_ESCALATIONS = tuple(name for name, _ in mix.ESCALATIONS)
REASONS = ("routine", "sticky", "language_pivot", "high_value", "context_too_long", "capacity_overflow", *_ESCALATIONS)
ENGINES = (mix.CHAT.name, mix.TRANSLATE.name, mix.TRANSCRIBE.name, mix.HOSTED_ENGINE)
MODELS = (mix.CHAT.model, mix.TRANSLATE.model, mix.TRANSCRIBE.model, mix.HOSTED_MODEL)
CHAT, TRANSLATE, TRANSCRIBE, CLOUD = range(4)
_LONG_PROMPT = 7000
_PEAK = np.array([share >= 78 for share in mix.HOURS])


class Traffic(Struct, frozen=True):
    """One entry a request, in order of ``at_ms``. ``talk`` is its conversation; ``first`` the route tried first."""

    talk: Ints
    at_ms: Ints
    audio: Bools
    first: Ints
    route: Ints
    reason: Ints
    first_reason: Ints
    escalated: Bools
    status: Ints
    ttft_ms: Floats
    total_ms: Floats
    first_total_ms: Floats


class Calls(Struct, frozen=True):
    """One entry a call, in order of request, attempt and ordinal."""

    request: Ints
    attempt: Ints
    ordinal: Ints
    engine: Ints
    prompt: Ints
    cached: Ints
    completion: Ints
    characters: Ints
    audio_s: Floats


def draw(rng: np.random.Generator, talks: Talks, day_ms: int) -> tuple[Traffic, Calls]:
    """The requests of ``talks`` and their calls."""
    talk, turn, audio, at_ms = _order(rng, talks)
    count = len(talk)
    intent = talks.intent[talk]
    prompt = np.array([i.prompt for i in mix.INTENTS])[intent]
    prompt = (prompt * rng.lognormal(0, 0.35, count) + turn * rng.integers(120, 420, count)).astype(np.int64)
    completion = np.array([i.completion for i in mix.INTENTS])[intent]
    completion = np.maximum(4, completion * rng.lognormal(0, 0.45, count)).astype(np.int64)
    first, first_reason, escalated = _planned(rng, talks, talk, turn, audio, at_ms, prompt, day_ms)
    route = np.where(escalated, HOSTED, first)
    reason = np.where(escalated, _escalation(rng, count), first_reason)
    luck = rng.random(count)
    status = np.where(luck < 0.003, FAILED, np.where(luck < 0.009, CANCELLED, OK))
    escalated &= status == OK
    route, reason = np.where(escalated, route, first), np.where(escalated, reason, first_reason)
    heard_s = np.where(audio, rng.gamma(3.0, 1.9, count) + 0.6, 0.0).round(3)
    waits = _waits(rng, route, first, escalated, audio, prompt, completion, heard_s)
    traffic = Traffic(
        talk, at_ms, audio, first, route, reason, first_reason, escalated, status, *(wait.round(1) for wait in waits)
    )
    return traffic, _calls(rng, traffic, turn, prompt, completion, heard_s)


def _order(rng: np.random.Generator, talks: Talks) -> tuple[Ints, Ints, Bools, Ints]:
    """Conversation, turn, whether it is a transcription, and time of every request, sorted by time."""
    talk = np.repeat(np.arange(len(talks.turns)), talks.turns)
    starts = np.cumsum(talks.turns) - talks.turns
    turn = np.arange(len(talk)) - starts[talk]
    gap = np.where(turn == 0, 0, 12_000 + rng.exponential(38_000, len(talk))).astype(np.int64)
    since = np.cumsum(gap)
    at_ms = talks.opened_ms[talk] + since - since[starts][talk]
    spoken = np.array([name in mix.SPOKEN for name, _ in mix.CHANNELS])[talks.channel][talk]
    said = np.flatnonzero(spoken)
    talk, turn = np.concatenate([talk, talk[said]]), np.concatenate([turn, turn[said]])
    audio = np.concatenate([np.zeros(len(at_ms), np.bool_), np.ones(len(said), np.bool_)])
    at_ms = np.concatenate([at_ms + np.where(spoken, 1400, 0), at_ms[said]])
    order = np.argsort(at_ms, kind="stable")
    return talk[order], turn[order], audio[order], at_ms[order]


def _planned(
    rng: np.random.Generator,
    talks: Talks,
    talk: Ints,
    turn: Ints,
    audio: Bools,
    at_ms: Ints,
    prompt: Ints,
    day_ms: int,
) -> tuple[Ints, Ints, Bools]:
    """Where each request is sent first, why, and whether it escalates."""
    count = len(talk)
    pivots = np.array([one.route == "pivot" for one in mix.LANGUAGES])[talks.language[talk]]
    may = np.array([t.residency != "local_only" for t in mix.TENANTS])[talks.tenant[talk]]
    high = np.array([i.value_class == "high_value" for i in mix.INTENTS])[talks.intent[talk]]
    hour = ((at_ms - day_ms) // HOUR_MS) % 24
    route = np.where(pivots & ~audio, PIVOT, LOCAL)
    why = np.where(pivots & ~audio, REASONS.index("language_pivot"), np.where(turn == 0, 0, 1))
    luck = rng.random(count)
    for name, when in (
        ("capacity_overflow", _PEAK[hour] & (luck < 0.022)),
        ("high_value", high & (luck > 0.86)),
        ("context_too_long", prompt > _LONG_PROMPT),
        ("sticky", (turn > talks.escalates_at[talk]) & (luck > 0.3)),
    ):
        hosted = when & may & ~audio
        route, why = np.where(hosted, HOSTED, route), np.where(hosted, REASONS.index(name), why)
    return route, why, (turn == talks.escalates_at[talk]) & ~audio & (route != HOSTED)


def _escalation(rng: np.random.Generator, count: int) -> Ints:
    edges = np.cumsum([share for _, share in mix.ESCALATIONS])[:-1]
    return np.searchsorted(edges, rng.random(count), side="right") + REASONS.index(_ESCALATIONS[0])


def _waits(
    rng: np.random.Generator,
    route: Ints,
    first: Ints,
    escalated: Bools,
    audio: Bools,
    prompt: Ints,
    completion: Ints,
    heard_s: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Time to the first token, total, and of the first attempt; milliseconds."""
    count = len(route)
    begins = np.array([150.0, 420.0, 610.0])
    token_ms = np.array([11.0, 11.5, 6.0])
    first_total = begins[first] + prompt * 0.02 + completion * token_ms[first]
    ttft = (begins[route] + prompt * 0.02) * rng.lognormal(0, 0.38, count)
    ttft = np.where(escalated, ttft + first_total, ttft)
    total = ttft + completion * token_ms[route] * rng.lognormal(0, 0.2, count)
    heard = 120 + heard_s * 62 * rng.lognormal(0, 0.25, count)
    return np.where(audio, np.nan, ttft), np.where(audio, heard, total), np.where(audio, heard, first_total)


def _calls(
    rng: np.random.Generator, traffic: Traffic, turn: Ints, prompt: Ints, completion: Ints, heard_s: Floats
) -> Calls:
    everyone = np.arange(len(turn))
    nothing = np.zeros(len(turn), np.int64)
    text = ~traffic.audio
    pivot = text & (traffic.first == PIVOT)
    local = text & (traffic.first != HOSTED)
    cached = (prompt * np.where(turn > 0, 0.72, 0.38)).astype(np.int64)
    asked = rng.integers(40, 260, len(turn))
    second = traffic.escalated.astype(np.int64)
    hosted = text & (traffic.route == HOSTED)
    parts = [
        # who, attempt, ordinal, engine, prompt, cached, completion, characters
        (traffic.audio, nothing, 0, TRANSCRIBE, nothing, nothing, nothing, nothing),
        (pivot, nothing, 0, TRANSLATE, nothing, nothing, nothing, asked),
        (local, nothing, pivot.astype(np.int64), CHAT, prompt, cached, completion, nothing),
        (pivot, nothing, 2, TRANSLATE, nothing, nothing, nothing, completion * 4),
        (hosted, second, 0, CLOUD, prompt, np.where(turn > 0, prompt // 3, 0), completion, nothing),
    ]
    columns = [
        np.concatenate([(np.broadcast_to(part[field], who.shape))[who] for part in parts for who in [part[0]]])
        for field in range(1, 8)
    ]
    request = np.concatenate([everyone[part[0]] for part in parts])
    audio_s = np.where(columns[2] == TRANSCRIBE, heard_s[request], 0.0)
    order = np.lexsort((columns[1], columns[0], request))
    numbers = [column[order].astype(np.int64) for column in columns]
    return Calls(request[order], *numbers, audio_s[order])  # type: ignore[call-arg]
