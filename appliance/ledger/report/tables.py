"""The report as one CSV table: a line a figure, so that any spreadsheet can pivot it.

What it is: section, name, measure, value, low, high, unit, after the ledger's kind, the month and the tenant on every
line, so that no part of it can be taken for another month's, or a simulated one for real.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import msgspec

from appliance.ledger.report.values import Report, Span

_HEAD = ("ledger", "month", "tenant", "section", "name", "measure", "value", "low", "high", "unit")
_Line = tuple[str, str, str, object, object, object, str]
_COSTS = {
    "marginal_per_confirmed_or_presumed": "marginal_with_presumed",
    "loaded_per_confirmed": "loaded",
    "loaded_per_confirmed_or_presumed": "loaded_with_presumed",
    "hosted_total": "hosted_nusd",
    "energy_total": "energy_nusd",
    "marginal_total": "marginal_nusd",
    "loaded_total": "loaded_nusd",
}
_RISKY = ("=", "+", "-", "@", "\t", "\r")


def to_csv(report: Report) -> str:
    """UTF-8 text; what starts like a formula is quoted as text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(_HEAD)
    kind = "simulated" if report.simulated else "real"
    for section, name, measure, *values, unit in _lines(report):
        line = (kind, report.month, report.tenant or "all", section, _safe(name), measure, *values, unit)
        writer.writerow(["" if value is None else value for value in line])
    return out.getvalue()


def _lines(r: Report) -> Iterator[_Line]:
    for field in r.counts.__struct_fields__:
        yield "counts", "all", field, getattr(r.counts, field), None, None, "conversations"
    yield _usd("cost", "all", "marginal_per_confirmed", r.cost.marginal)
    for measure, field in _COSTS.items():
        yield "cost", "all", measure, _dollars(getattr(r.cost, field)), None, None, "USD"
    for quote in r.hosted.quotes:
        name = f"{quote.provider}/{quote.model} {'batch' if quote.batch else 'standard'}"
        yield "all_hosted", name, "total", _dollars(quote.total_nusd), None, None, "USD"
        yield "all_hosted", name, "per_confirmed", _dollars(quote.per_confirmed_nusd), None, None, "USD"
    yield "utilisation", "server", "busy_share", r.utilisation.busy_share, None, None, "share"
    for use in r.utilisation.engines:
        yield "utilisation", use.engine, "busy", use.busy_h, None, None, "hours"
    if r.break_even is not None:
        for field in ("standard", "batch", "now", "capacity"):
            yield "break_even", "server", field, getattr(r.break_even, field), None, None, "conversations a month"
    for dimension, groups in r.groups.items():
        for group in groups:
            for field in group.counts.__struct_fields__:
                yield dimension, group.label, field, getattr(group.counts, field), None, None, "conversations"
            yield dimension, group.label, "confirmed_share", *_parts(group.confirmed_share), "share"
            yield dimension, group.label, "reported_share", *_parts(group.reported_share), "share"
            yield _usd(dimension, group.label, "marginal_per_confirmed", group.marginal)
            yield dimension, group.label, "loaded_per_confirmed", _dollars(group.loaded), None, None, "USD"
    for route in r.routes:
        name = f"{route.route or 'refused'}: {route.reason or ''}"
        yield "routes", name, "requests", route.requests, None, None, "requests"
        yield "routes", name, "hosted", _dollars(route.hosted_nusd), None, None, "USD"
    for row in r.latency:
        for field in ("ttft_p50", "ttft_p95", "total_p50", "total_p95", "slo_ttft_p95", "slo_total_p95"):
            yield "latency", row.label, field, getattr(row, field), None, None, "ms"
    for one in r.escalation:
        yield "escalation", one.label, "conversations", one.escalated, None, None, "conversations"
        yield "escalation", one.label, "reported_share", *_parts(one.reported_share), "share"
        yield "escalation", one.label, "added", _dollars(one.added_nusd), None, None, "USD"
        yield "escalation", one.label, "facts_repeated", one.facts_repeated, None, None, "facts"
    for change in r.changes:
        now = _dollars(change.now) if change.unit == "nusd" else change.now
        was = _dollars(change.before) if change.unit == "nusd" else change.before
        unit = "USD" if change.unit == "nusd" else change.unit
        yield "changes", change.name, "last_month", was, None, None, unit
        yield "changes", change.name, "this_month", now, None, None, unit
    for gap in r.missing:
        yield "missing", gap.what, gap.leaves_open, gap.command, None, None, ""


def to_json(report: Report) -> bytes:
    """For programs: the report's own fields, money in nano-USD."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1)


def _usd(section: str, name: str, measure: str, span: Span) -> _Line:
    return section, name, measure, _dollars(span.value), _dollars(span.low), _dollars(span.high), "USD"


def _parts(span: Span) -> tuple[float | None, float | None, float | None]:
    return span.value, span.low, span.high


def _dollars(nusd: float | None) -> float | None:
    return None if nusd is None else nusd / 1e9


def _safe(name: str) -> str:
    """Names come from callers; a spreadsheet would run one that begins like a formula."""
    return f"'{name}" if name.startswith(_RISKY) else name
