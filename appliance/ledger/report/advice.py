"""Recommendations: what the month's numbers themselves suggest, each with the numbers.

What it is: one small rule a function; a rule that does not apply says nothing. Where two shares are compared, their
intervals must not overlap.
What it refuses to be: advice that would be the same next month whatever happened in this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from msgspec.structs import replace

from appliance.ledger.report.text import count, money, share, span_share
from appliance.ledger.report.values import Advice, Counts, Report
from appliance.types import SHADOW

_UNTOLD = 0.25  # of conversations without a reported outcome
_CROWDED = 0.8  # of an hour
_OVERFLOW = 0.005  # of requests
_REFUSED = 0.005
_NOTABLE = 0.02  # of a share; less is not worth a recommendation, however sure


def advise(report: Report) -> Report:
    """``report`` with its recommendations."""
    return replace(report, advice=tuple(chain.from_iterable(rule(report) for rule in _RULES)))


def _volume(r: Report) -> Iterator[Advice]:
    even = r.break_even
    if even is None:
        return
    here, there = money(even.here_each_nusd, r), money(even.standard_each_nusd, r)
    if even.standard is None:
        yield Advice(
            "Look at what each conversation costs here before adding volume",
            f"A confirmed resolved conversation takes {here} of energy and hosted charges here and {there} all-hosted:"
            " no volume pays for the server.",
        )
    elif even.capacity is not None and even.standard > even.capacity:
        yield Advice(
            "One server of this kind cannot reach break-even",
            f"It would take {count(even.standard)} confirmed resolved conversations a month; at 70 % utilisation this"
            f" server reaches some {count(even.capacity)}.",
        )
    elif even.now < even.standard:
        yield Advice(
            "Bring more of the traffic to this server",
            f"It resolves {count(even.now)} conversations a month and pays for itself at {count(even.standard)}:"
            f" {count(even.standard - even.now)} more. Each further one costs {here} here, {there} all-hosted.",
        )
    else:
        yield Advice(
            "The server pays for itself; the next conversation is the cheapest",
            f"It resolves {count(even.now)} conversations a month, break-even is {count(even.standard)}. Each further"
            f" one costs {here} here, {there} all-hosted.",
        )


def _dear_escalations(r: Report) -> Iterator[Advice]:
    total = sum(row.hosted_nusd for row in r.escalation_reasons)
    if not total or not r.cost.hosted_nusd:
        return
    first = r.escalation_reasons[0]
    yield Advice(
        f"Work on “{first.reason}” first: it is the dearest reason to escalate",
        f"{count(first.answers)} answers were replaced for it, for {money(first.hosted_nusd, r)}:"
        f" {share(first.hosted_nusd / total)} of what escalated answers cost and"
        f" {share(first.hosted_nusd / r.cost.hosted_nusd)} of all hosted charges.",
    )


def _idle_escalations(r: Report) -> Iterator[Advice]:
    """An intent where escalated conversations are resolved no more often than the others."""
    worse = [row for row in r.escalation[1:] if _below(row.reported_share.high, row.otherwise_share.low)]
    if worse:
        row = max(worse, key=lambda one: one.escalated * one.added_nusd)
        yield Advice(
            f"Ask whether escalating “{row.label}” helps",
            f"{count(row.escalated)} escalated conversations: {span_share(row.reported_share)} of the reported ones"
            f" were resolved, against {span_share(row.otherwise_share)} of the others, for {money(row.added_nusd, r)}"
            " more a conversation. Harder ones escalate, so let people look at a sample before the threshold changes.",
        )


def _weak_groups(r: Report) -> Iterator[Advice]:
    told = _told(r.counts)
    whole = r.counts.confirmed / told if told else 0.0
    for dimension, title in (("language", "Improve the answers in {}"), ("channel", "Look into the channel {}")):
        weak = [g for g in r.groups[dimension] if g.name and _below(g.reported_share.high, whole - _NOTABLE)]
        if not weak:
            continue
        group = min(weak, key=lambda g: g.reported_share.value or 0.0)
        yield Advice(
            title.format(group.label),
            f"Of {count(_told(group.counts))} conversations with a reported outcome {span_share(group.reported_share)}"
            f" are resolved, of all {share(whole)}; {count(group.counts.unresolved + group.counts.handed_to_human)}"
            " were not, or went to a person.",
        )


def _trouble(r: Report) -> Iterator[Advice]:
    bad = r.counts.unresolved + r.counts.handed_to_human
    if r.trouble and bad:
        row = r.trouble[0]
        lost = row.unresolved + row.handed_to_human
        yield Advice(
            f"Read conversations about “{row.intent}” in {row.language}",
            f"{count(lost)} of {count(row.conversations)}, {span_share(row.share)}, were not resolved or went to a"
            f" person: {share(lost / bad)} of all such conversations, the most of any intent in one language.",
        )


def _outcomes(r: Report) -> Iterator[Advice]:
    untold = r.counts.presumed + r.counts.open
    if not r.counts.conversations or untold / r.counts.conversations < _UNTOLD:
        return
    groups = [g for g in r.groups["tenant"] if g.counts.conversations]
    where = ""
    if len(groups) > 1:
        most = max(groups, key=lambda g: (g.counts.presumed + g.counts.open) / g.counts.conversations)
        rate = (most.counts.presumed + most.counts.open) / most.counts.conversations
        where = f"; most of all {most.label}, with {share(rate)}"
    yield Advice(
        "Have more outcomes reported",
        f"Of {share(untold / r.counts.conversations)} of the conversations nobody said what became of them{where}."
        " Only confirmed ones count in the cost of a resolved one; POST /v1/conversations/{id}/outcome says it.",
    )


def _crowding(r: Report) -> Iterator[Advice]:
    total = r.requests or 1
    over = sum(row.requests for row in r.routes if row.reason == "capacity_overflow")
    spent = sum(row.hosted_nusd for row in r.routes if row.reason == "capacity_overflow")
    busiest = r.utilisation.busiest_hour
    if over / total >= _OVERFLOW:
        hours = r.utilisation.by_hour
        when = ""
        if hours:
            top = max(range(24), key=lambda hour: hours[hour])
            when = f" The busiest hour of the day is {top:02d}:00, at {share(hours[top])} on average."
        yield Advice(
            "Move work out of the busiest hours, or give the local engines more room",
            f"{count(over)} requests ({share(over / total)}) went to a hosted model because the server was full, for"
            f" {money(spent, r)}.{when}",
        )
    elif busiest is not None and busiest >= _CROWDED:
        yield Advice(
            "Watch the busiest hours",
            f"In the busiest hour of the month the server was busy {share(busiest)} of the time.",
        )


def _refusals(r: Report) -> Iterator[Advice]:
    refused = [row for row in r.routes if row.route is None and row.reason not in (None, SHADOW)]
    total = sum(row.requests for row in refused)
    if refused and total / (r.requests or 1) >= _REFUSED:
        first = refused[0]
        yield Advice(
            f"Look at refusals for “{first.reason}”",
            f"{count(total)} requests ({share(total / r.requests)}) were refused, {count(first.requests)} of them for"
            " this reason.",
        )


def _slow(r: Report) -> Iterator[Advice]:
    late = [row for row in r.latency if row.slo_ttft_p95 and row.ttft_p95 and row.ttft_p95 > row.slo_ttft_p95]
    if late:
        row = max(late, key=lambda one: (one.ttft_p95 or 0) / (one.slo_ttft_p95 or 1))
        yield Advice(
            f"“{row.label}” misses its SLO",
            f"95 % of its answers begin within {row.ttft_p95:,.0f} ms; its SLO is {row.slo_ttft_p95:,.0f} ms.",
        )


def _below(high: float | None, other: float | None) -> bool:
    return high is not None and other is not None and high < other


def _told(counts: Counts) -> int:
    return counts.confirmed + counts.unresolved + counts.handed_to_human


_RULES: tuple[Callable[[Report], Iterator[Advice]], ...] = (
    _volume,
    _trouble,
    _weak_groups,
    _dear_escalations,
    _idle_escalations,
    _crowding,
    _slow,
    _refusals,
    _outcomes,
)
