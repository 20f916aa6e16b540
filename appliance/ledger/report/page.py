"""The report as one HTML page that needs nothing else: page one, then everything behind it.

What it is: ``render``. Sections are functions that return HTML; page one fits one A4 sheet.
What it refuses to be: silent about a gap, or able to pass a simulated month for a real one.
"""

from __future__ import annotations

from appliance.ledger.report import charts
from appliance.ledger.report.details import sections
from appliance.ledger.report.html import figure, text
from appliance.ledger.report.style import CSS
from appliance.ledger.report.text import NONE, count, moment, money, month_title, rupees, share, span_usd, usd
from appliance.ledger.report.values import Quote, Report

SIMULATED = "SIMULATED DATA"
_BANNER = "SIMULATED DATA. <code>appliance demo</code> invented every conversation, price and measurement below."
# on every sheet of paper
_FOOT = (
    '@page { @bottom-left { content: "{}"; font: 8pt sans-serif; color: #5a6675; }'
    ' @bottom-right { content: counter(page) " / " counter(pages); font: 8pt sans-serif; color: #5a6675; } }\n'
)


def render(report: Report) -> str:
    """The whole page."""
    title = f"Cost per resolved conversation, {month_title(report.month)}"
    if report.simulated:
        title = f"{SIMULATED}: {title}"
    mark = '<div class="mark"><b>SIMULATED</b></div>'
    foot = f"{title}" + (", invented by appliance demo" if report.simulated else "")
    css = CSS + _FOOT.replace("{}", foot.replace("\\", "").replace('"', ""))
    rest = "".join(sections(report))
    banner = f'<div class="simulated">{_BANNER}</div>' if report.simulated else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<style>{css}</style></head><body>{mark if report.simulated else ''}<main>"
        f'<section class="sheet first">{banner}{_page_one(report)}</section>'
        f'<section class="sheet">{banner}{rest}</section></main></body></html>\n'
    )


def _page_one(r: Report) -> str:
    whose = "all tenants" if r.tenant is None else f"tenant {r.tenant}"
    state = "the whole month" if r.complete else "the month so far"
    head = (
        "<h1>Cost per resolved conversation</h1>"
        f'<p class="under">{month_title(r.month)}, {text(whose)}. Ledger as of {moment(r.as_of_ms, r.timezone)}'
        f" ({text(r.timezone)}), {state}.</p>"
    )
    if not r.counts.conversations:
        return f"{head}{_missing(r)}<p>No conversation was opened in this month.</p>"
    return (
        head
        + _missing(r)
        + _cards(r)
        + _outcomes(r)
        + f'<div class="two wide"><div>{_figures(r)}</div><div>{_break_even(r)}</div></div>'
        + _utilisation(r)
        + _footnote(r)
    )


def _missing(r: Report) -> str:
    if not r.missing:
        return ""
    items = "".join(
        f"<li>{text(one.what)} It leaves open: {text(one.leaves_open)}."
        + (f"<br><code>{text(one.command)}</code>" if one.command else "")
        + "</li>"
        for one in r.missing
    )
    return f'<div class="missing"><p>Not everything can be said</p><ul>{items}</ul></div>'


def _cards(r: Report) -> str:
    c = r.cost
    interval = span_usd(c.marginal).partition("(")[2].rstrip(")") or NONE
    marginal = _card(
        r,
        "marginal",
        "Marginal",
        "energy and hosted charges",
        c.marginal.value,
        [("95 % interval", interval), ("incl. presumed", usd(c.marginal_with_presumed))],
    )
    loaded = _card(
        r,
        "loaded",
        "Fully loaded",
        "with the server, its idle time included",
        c.loaded,
        [("the month", usd(c.loaded_nusd)), ("incl. presumed", usd(c.loaded_with_presumed))],
    )
    standard, batch = r.hosted.quote(False), r.hosted.quote(True)
    rows = [("the month", usd(_total(standard))), ("at batch price", usd(_each(batch)))]
    model = f"the same traffic on {standard.model}" if standard else "the same traffic, standard price"
    hosted = _card(r, "hosted", "All-hosted", model, _each(standard), rows)
    return f'<div class="cards">{marginal}{loaded}{hosted}</div>'


def _card(r: Report, kind: str, title: str, what: str, nusd: float | None, rows: list[tuple[str, str]]) -> str:
    value = f'<p class="big">{usd(nusd)}</p>' if nusd is not None else '<p class="big none">not known</p>'
    more = "".join(f"<dt>{name}</dt><dd>{number}</dd>" for name, number in rows)
    return (
        f'<div class="card {kind}"><h3>{title}</h3><p class="what">{text(what)}</p>{value}'
        f'<p class="inr">{rupees(nusd, r.inr_per_usd)}</p><dl>{more}</dl></div>'
    )


def _each(quote: Quote | None) -> float | None:
    return None if quote is None else quote.per_confirmed_nusd


def _total(quote: Quote | None) -> int | None:
    return None if quote is None else quote.total_nusd


def _outcomes(r: Report) -> str:
    return (
        f"<h3>{count(r.counts.conversations)} conversations were opened; {count(r.counts.confirmed)} are confirmed"
        f" resolved</h3>{figure(charts.outcomes(r.counts))}"
    )


def _figures(r: Report) -> str:
    return f"<h3>USD a confirmed resolved conversation</h3>{figure(charts.figures(r))}"


def _break_even(r: Report) -> str:
    even = r.break_even
    whole = " (whole server)" if r.tenant is not None else ""
    if even is None:
        return f"<h3>Break-even volume{whole}: not known</h3><p>{text(r.break_even_why_not.capitalize())}.</p>"
    if even.standard is None:
        title = f"Break-even volume{whole}: none"
        said = (
            f"Each confirmed resolved conversation costs {money(even.here_each_nusd, r)} here beside the server, and"
            f" {money(even.standard_each_nusd, r)} all-hosted: no volume pays for the server."
        )
    else:
        title = f"Break-even volume{whole}: {count(even.standard)} a month"
        pace = "this month" if r.complete else "this month's pace"
        said = f"Confirmed resolved conversations; {pace}: {count(even.now)}, {share(even.now / even.standard)} of it."
        if even.batch is not None:
            said += f" Against batch prices: {count(even.batch)}."
        if even.capacity is not None:
            said += f" At 70 % utilisation the server reaches some {count(even.capacity)}."
    return f'<h3>{title}</h3>{figure(charts.break_even(even))}<p class="note">{said}</p>'


def _utilisation(r: Report) -> str:
    used = r.utilisation
    if used.busy_share is None:
        return "<h3>Utilisation: not measured</h3>"
    engines = "; ".join(
        f"{text(one.engine)} {share(one.busy_h / used.elapsed_h)}" for one in used.engines if used.elapsed_h
    )
    said = (
        f"Measured: {used.busy_share * used.elapsed_h:,.1f} of {used.elapsed_h:,.0f} hours something ran on the"
        f" server; {share(used.busiest_hour)} of its busiest hour. By engine: {engines}."
    )
    return (
        f'<div class="two wide"><div><h3>Utilisation: {share(used.busy_share)}</h3><p class="note">{said}</p></div>'
        f"<div>{figure(charts.by_hour(used.by_hour))}</div></div>"
    )


def _footnote(r: Report) -> str:
    reasons = f"All-hosted: {text(r.hosted.chosen)}; {text('; '.join(r.hosted.notes))}." if r.hosted.quotes else ""
    return (
        '<p class="note">All figures divide the whole month’s cost, unresolved conversations included, by what'
        " <b>confirmed</b> resolved means: the business said so. Conversations that merely fell silent are presumed"
        f" resolved and kept apart. {reasons}</p>"
    )
