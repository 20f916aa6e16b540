"""The sections behind page one: what changed, what to do, and every breakdown."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.ledger.report import charts
from appliance.ledger.report.html import beside, figure, table, text, with_small
from appliance.ledger.report.text import (
    NONE,
    count,
    milliseconds,
    moment,
    money,
    month_title,
    share,
    span_share,
    span_usd,
    usd,
)
from appliance.ledger.report.values import Change, Escalated, Group, Report, Span

_TITLES = {"intent": "By intent", "language": "By language", "channel": "By channel", "tenant": "By tenant"}
_MOST_IN_A_CHART = 16
_FACTS = (
    "Facts repeated: numbers and e-mail addresses that the customer gave before the escalation and again after"
    " it, in conversations whose text is kept."
)
_TINY = 0.001  # of requests; smaller shares stand in the table alone


def sections(r: Report) -> Iterator[str]:
    """In the order of the page."""
    if r.counts.conversations:
        yield _changes(r)
        yield _advice(r)
        yield _trouble(r)
        for dimension, title in _TITLES.items():
            yield _groups(r, dimension, title)
        yield _routes(r)
        yield _latency(r)
        yield _escalation(r)
    yield _inputs(r)


def _changes(r: Report) -> str:
    if not r.changes:
        return f"<h2>What changed since last month</h2><p>{text(r.changes_why_not)}</p>"
    part = "" if r.complete else '<p class="note">The month is not over: compare shares and means, not counts.</p>'
    rows = [(text(one.name), _value(one.unit, one.before), _value(one.unit, one.now), _delta(one)) for one in r.changes]
    return f"<h2>What changed since last month</h2>{part}{table(('', 'Last month', 'This month', 'Change'), rows)}"


def _value(unit: str, value: float | None) -> str:
    if value is None:
        return NONE
    return {"count": count, "share": share, "nusd": usd}[unit](value)


def _delta(one: Change) -> str:
    if one.before is None or one.now is None:
        return NONE
    if one.unit == "share":
        return f"{100 * (one.now - one.before):+.1f} points"
    return f"{100 * (one.now / one.before - 1):+.0f} %" if one.before else NONE


def _advice(r: Report) -> str:
    items = "".join(f"<li><b>{text(one.title)}</b>{text(one.why)}</li>" for one in r.advice)
    body = f'<ol class="advice">{items}</ol>' if items else "<p>This month's numbers suggest nothing in particular.</p>"
    return f"<h2>Recommendations</h2>{body}"


def _trouble(r: Report) -> str:
    if not r.trouble:
        return ""
    rows = [
        (
            text(t.intent),
            text(t.language),
            count(t.conversations),
            count(t.unresolved),
            count(t.handed_to_human),
            _share(t.share),
        )
        for t in r.trouble
    ]
    heads = ("Intent", "Language", "Conversations", "Not resolved", "Handed to a person", "Share of the two")
    return f"<h2>Where most were not resolved</h2>{table(heads, rows, words=(0, 1))}"


def _groups(r: Report, dimension: str, title: str) -> str:
    found = r.groups[dimension]
    if len(found) < 2 and dimension == "tenant":
        return ""
    shown = found[:_MOST_IN_A_CHART]
    left = charts.spans("Marginal cost", [(g.label, g.marginal) for g in shown], lambda v: usd(v), 1e-9)
    right = charts.spans("Resolved", [(g.label, g.reported_share) for g in shown], share, 1.0)
    pair = (
        f'<div class="two"><div><h3>Marginal cost of a confirmed resolved one</h3>{figure(left)}</div>'
        f"<div><h3>Resolved, of those with a reported outcome</h3>{figure(right)}</div></div>"
    )
    heads = (
        _TITLES[dimension].removeprefix("By ").capitalize(),
        "Conver­sations",
        "Confirmed resolved",
        "Presumed",
        "Not resolved, to a person",
        "Esca­lated",
        "Marginal",
        "Marginal with presumed",
        "Fully loaded",
        "Hosted charges",
    )
    return f"<h2>{title}</h2>{pair}{table(heads, [_group(g) for g in found])}"


def _group(g: Group) -> tuple[str, ...]:
    n = g.counts
    return (
        text(g.label),
        count(n.conversations),
        with_small(count(n.confirmed), span_share(g.confirmed_share)),
        with_small(count(n.presumed), share(n.presumed / n.conversations)),
        with_small(
            count(n.unresolved + n.handed_to_human), share((n.unresolved + n.handed_to_human) / n.conversations)
        ),
        share(n.escalated / n.conversations),
        _usd(g.marginal),
        usd(g.marginal_with_presumed),
        usd(g.loaded),
        usd(g.hosted_nusd),
    )


def _share(span: Span) -> str:
    value, _, rest = span_share(span).partition(" (")
    return beside(value, rest.rstrip(")"))


def _usd(span: Span) -> str:
    value, _, rest = span_usd(span).partition(" (")
    return with_small(value, rest.rstrip(")"))


def _routes(r: Report) -> str:
    if not r.routes:
        return ""
    named = [(f"{one.route or 'refused'}: {one.reason or 'no reason'}", one) for one in r.routes]
    bars = [(name, one.share, one.route or "") for name, one in named if one.share >= _TINY]
    rows = [
        (
            text(one.route or "refused"),
            text(one.reason or NONE),
            count(one.requests),
            share(one.share),
            share(one.ok_share),
            usd(one.hosted_nusd),
        )
        for _, one in named
    ]
    heads = ("Route", "Reason", "Requests", "Share", "Answered", "Hosted charges")
    return (
        f"<h2>Which way requests went, and why</h2><p class='note'>{count(r.requests)} requests made in the month, by"
        " the route that answered (or was tried last) and the reason for it.</p>"
        f"{figure(charts.routes(bars))}{table(heads, rows, words=(0, 1))}"
    )


def _latency(r: Report) -> str:
    if not r.latency:
        return ""
    shown = [row for row in r.latency if row.ttft_p50 is not None][:_MOST_IN_A_CHART]
    bars = [(row.label, row.ttft_p50, row.ttft_p95, row.slo_ttft_p95) for row in shown]
    sample = (
        "Of all answered requests."
        if r.latency_one_in == 1
        else f"Of one answer in {r.latency_one_in}, chosen by the random end of its id."
    )
    unset = "no SLO set"
    rows = [
        (
            text(row.label),
            count(row.answers),
            milliseconds(row.ttft_p50),
            milliseconds(row.ttft_p95),
            milliseconds(row.slo_ttft_p95) if row.slo_ttft_p95 else unset,
            milliseconds(row.total_p50),
            milliseconds(row.total_p95),
            milliseconds(row.slo_total_p95) if row.slo_total_p95 else unset,
        )
        for row in r.latency
    ]
    heads = ("Intent", "Answers looked at", "TTFT p50", "TTFT p95", "its SLO", "Total p50", "Total p95", "its SLO")
    chart = figure(charts.latencies(bars)) if bars else ""
    return f'<h2>How long answers took</h2><p class="note">{sample}</p>{chart}{table(heads, rows)}'


def _escalation(r: Report) -> str:
    if not r.escalation:
        return "<h2>Escalation</h2><p>No answer was escalated.</p>"
    told = not r.facts_repeated_why_not
    rows = [
        (
            text(one.label),
            count(one.escalated),
            _share(one.reported_share),
            _share(one.otherwise_share),
            usd(one.added_nusd),
            *((_facts(one),) if told else ()),
        )
        for one in r.escalation
    ]
    heads = (
        "Intent",
        "Escalated conversations",
        "Resolved",
        "Resolved without escalation",
        "Hosted charges added, each",
        *(("Facts repeated, each",) if told else ()),
    )
    reasons = [
        (text(one.reason), count(one.answers), usd(one.hosted_nusd), usd(one.hosted_nusd / one.answers))
        for one in r.escalation_reasons
    ]
    more = table(("Reason", "Answers replaced", "Cost added", "each"), reasons)
    return (
        "<h2>Escalation</h2><p class='note'>Resolved: of those with a reported outcome."
        f" {text(r.facts_repeated_why_not or _FACTS)}</p>{table(heads, rows)}<h3>Why answers were replaced</h3>{more}"
    )


def _facts(one: Escalated) -> str:
    if one.facts_repeated is None:
        return NONE
    return with_small(f"{one.facts_repeated:.2f}", f"of {count(one.read)} read")


def _inputs(r: Report) -> str:
    items = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in r.inputs.items())
    quotes = [
        (
            text(f"{q.provider}/{q.model}"),
            "batch" if q.batch else "standard",
            usd(q.total_nusd),
            usd(q.per_confirmed_nusd),
            text(q.why),
        )
        for q in r.hosted.quotes
    ]
    heads = ("Model", "Tier", "Month’s traffic", "a confirmed resolved one", "")
    hosted = f"<h3>The same traffic, all-hosted</h3>{table(heads, quotes, words=(0, 1, 4))}" if quotes else ""
    return (
        f"<h2>What it is computed from</h2>{_server(r)}{hosted}<h3>Set by operators</h3>"
        f'<dl class="inputs">{items}</dl>'
        f'<p class="note">{month_title(r.month)}. {_reconciled(r)} Intervals: 95 %, bootstrap over conversations. What'
        " every figure means is in docs/report.md.</p>"
    )


def _server(r: Report) -> str:
    if r.server is None:
        return ""
    s = r.server
    rows = [
        ("Purchase by lifetime, and upkeep", money(s.fixed_nusd, r)),
        ("Electricity, busy", money(s.busy_energy_nusd, r)),
        ("Electricity, idle", money(s.idle_energy_nusd, r)),
        ("Share of it charged here", share(s.share)),
        ("Server", money(s.total_nusd, r)),
        ("Hosted charges", money(r.cost.hosted_nusd, r)),
        ("Fully loaded", money(r.cost.loaded_nusd, r)),
    ]
    return f"<h3>The fully loaded month</h3>{table(('', 'USD (INR)'), rows)}"


def _reconciled(r: Report) -> str:
    if r.reconciled_until_ms is None:
        return "Nothing is reconciled; electricity is as the coefficients booked it."
    measured = share(r.cost.energy_measured_share)
    return (
        f"Reconciled until {moment(r.reconciled_until_ms, r.timezone)}; {measured} of the electricity is shared out"
        " from measured time."
    )
