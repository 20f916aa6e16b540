"""What a month's requests came to: routes and reasons, waiting times, and what the same work would cost hosted.

What it is: sums over ``Flow`` and percentiles of a sample. The comparison prices the tokens of the attempts that
answered, day by day, at the prices in force.
What it refuses to be: a price that nobody set. A model without one is named, with the command that sets it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct
from sqlalchemy import Connection, select

from appliance.ledger.report.conversations import label, per
from appliance.ledger.report.reading import DAY_MS, Flow, MonthRead, Tokens
from appliance.ledger.report.values import EscalationReason, Hosted, Latency, Quote, RouteShare
from appliance.ledger.schema import calls
from appliance.ledger.tariff import LOCAL, Tariff
from appliance.settings import SloSettings
from appliance.types import Usage

_LOOKED_AT = 1000
SPEECH = "transcription"


class Slo(Struct, frozen=True):
    """What an intent's answers should keep to, in milliseconds; None where nothing is asked."""

    ttft_p95_ms: float | None = None
    total_p95_ms: float | None = None


def slos_of(settings: Mapping[str, SloSettings]) -> dict[str, Slo]:
    """By intent, as appliance.toml has them."""
    return {intent: Slo(one.ttft_p95_ms, one.total_p95_ms) for intent, one in settings.items()}


def routes(flows: Sequence[Flow]) -> tuple[RouteShare, ...]:
    """By route and reason, the most frequent first."""
    total = sum(flow.requests for flow in flows)
    sums: dict[tuple[str | None, str | None], list[int]] = {}
    for flow in flows:
        row = sums.setdefault((flow.route, flow.reason), [0, 0, 0])
        for n, value in enumerate((flow.requests, flow.ok, flow.hosted_nusd)):
            row[n] += value
    shares = [
        RouteShare(route, reason, count, count / total, ok / count, hosted)
        for (route, reason), (count, ok, hosted) in sums.items()
    ]
    return tuple(sorted(shares, key=lambda one: (-one.requests, str(one.route), str(one.reason))))


def escalation_reasons(flows: Sequence[Flow]) -> tuple[EscalationReason, ...]:
    """Why answers were replaced, the dearest first."""
    sums: dict[str, list[int]] = {}
    for flow in flows:
        if flow.escalated:
            row = sums.setdefault(flow.reason or "(not given)", [0, 0])
            row[0] += flow.requests
            row[1] += flow.hosted_nusd
    found = [EscalationReason(reason, count, nusd) for reason, (count, nusd) in sums.items()]
    return tuple(sorted(found, key=lambda one: (-one.hosted_nusd, -one.answers, one.reason)))


def latency(read: MonthRead, slos: Mapping[str, Slo]) -> tuple[Latency, ...]:
    """By intent, transcriptions last."""
    rows = []
    for intent, (ttft, total) in read.waits.items():
        begun = ttft[~np.isnan(ttft)]
        slo = slos.get(intent or "", Slo())
        name = SPEECH if intent == "" else label("intent", intent)
        whole = np.percentile(total, (50, 95)).tolist()
        first: list[float | None] = np.percentile(begun, (50, 95)).tolist() if len(begun) else [None, None]
        rows.append(
            Latency(
                intent or "",
                name,
                len(total),
                first[0],
                first[1],
                whole[0],
                whole[1],
                slo.ttft_p95_ms,
                slo.total_p95_ms,
            )
        )
    return tuple(sorted(rows, key=lambda row: (row.label == SPEECH, -row.answers, row.label)))


def hosted(
    connection: Connection,
    tariff: Tariff,
    priced: Sequence[tuple[str, str, bool]],
    flows: Sequence[Flow],
    tokens: Sequence[Tokens],
    confirmed: int,
    ids: tuple[str, str],
    until_ms: int,
    wanted: tuple[str, str] | None,
) -> Hosted:
    """The traffic at the prices of ``wanted``, or of the hosted model in use, and of every other one with prices.

    ``priced``: provider, model and tier of every model there are prices for; ``ids``: the month's range of ids.
    """
    models = sorted({(provider, model) for provider, model, _ in priced})
    used = _in_use(connection, ids) if any(flow.hosted_nusd for flow in flows) else None
    quotes = {
        (provider, model, batch): _quote(tariff, tokens, provider, model, batch, until_ms, confirmed)
        for provider, model in sorted({*models, *([wanted] if wanted else []), *([used] if used else [])})
        for batch in (False, True)
        if not batch or (provider, model, True) in priced
    }
    if wanted is not None:
        lead, chosen = wanted, "as asked with --hosted-model"
    elif used is not None:
        lead, chosen = used, f"the model of the month's last {_LOOKED_AT:,} hosted calls"
    else:
        sums = {key[:2]: quote.total_nusd for key, quote in quotes.items() if quote.total_nusd and not key[2]}
        if not sums:
            return Hosted((), "no hosted model has prices for this month")
        lead, chosen = min(sums, key=lambda key: (sums[key], key)), "the cheapest of those with prices; none was used"
    ordered = sorted(quotes.values(), key=lambda q: ((q.provider, q.model) != lead, q.provider, q.model, q.batch))
    return Hosted(tuple(ordered), chosen, _notes(flows, tokens))


def _in_use(connection: Connection, ids: tuple[str, str]) -> tuple[str, str] | None:
    c = calls.c
    newest = (
        select(c.provider, c.model)
        .where(c.request_id >= ids[0], c.request_id < ids[1], c.provider != LOCAL)
        .order_by(c.request_id.desc())
        .limit(_LOOKED_AT)
    )
    seen: dict[tuple[str, str], int] = {}
    for provider, model in connection.execute(newest):
        seen[provider, model] = seen.get((provider, model), 0) + 1
    return max(seen, key=lambda key: (seen[key], key)) if seen else None


def _quote(
    tariff: Tariff,
    tokens: Sequence[Tokens],
    provider: str,
    model: str,
    batch: bool,
    until_ms: int,
    confirmed: int,
) -> Quote:
    total, why = 0, ""
    for day in tokens:
        usage = Usage(day.prompt, day.cached, day.completion, day.audio_s)
        at_ms = min(day.day_ms + DAY_MS, until_ms) - 1
        try:
            total += tariff.rate(provider, model, usage, at_ms, batch).hosted_nusd
        except LookupError as e:
            text = Usage(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
            if not usage.audio_s:
                return Quote(provider, model, batch, None, None, str(e.args[0]))
            try:
                total += tariff.rate(provider, model, text, at_ms, batch).hosted_nusd
            except LookupError as both:
                return Quote(provider, model, batch, None, None, str(both.args[0]))
            why = "speech is left out: this model has no price for an audio_s"
    return Quote(provider, model, batch, total, per(total, confirmed), why)


def _notes(flows: Sequence[Flow], tokens: Sequence[Tokens]) -> tuple[str, ...]:
    """What the comparison takes for granted."""
    notes = ["tokens as the local models count them; another model's tokenizer would count others"]
    if any(day.cached for day in tokens):
        notes.append("what was cached here is priced as cached there")
    if any(flow.route == "pivot" for flow in flows):
        notes.append("a pivot's English question and answer stand for the original ones")
    return tuple(notes)
