"""Numbers as people read them: money in USD and rupees, shares, spans, counts, hours."""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from appliance.ledger.report.values import Report, Span

NONE = "–"


def usd(nusd: float | None) -> str:
    """``$1,234.50``; three digits where cents say nothing: ``$0.00232``."""
    if nusd is None:
        return NONE
    return _amount("$", nusd / 1e9, f"{nusd / 1e9:,.2f}")


def rupees(nusd: float | None, inr_per_usd: str | None) -> str:
    """``₹1,04,350`` in Indian grouping; with paise below ₹1,000; "" without a rate."""
    if nusd is None or inr_per_usd is None:
        return ""
    value = float(Decimal(inr_per_usd)) * nusd / 1e9
    return _amount("₹", value, f"{value:,.2f}" if abs(value) < 1000 else _indian(round(value)))


def money(nusd: float | None, report: Report) -> str:
    """Both, where there is a rate."""
    inr = rupees(nusd, report.inr_per_usd)
    return f"{usd(nusd)} ({inr})" if inr else usd(nusd)


def share(value: float | None) -> str:
    """``12.3 %``."""
    return NONE if value is None else f"{100 * value:.1f} %"


def span_share(span: Span) -> str:
    """``71.2 % (69.8–72.5)``."""
    if span.value is None or span.low is None or span.high is None:
        return share(span.value)
    return f"{share(span.value)} ({100 * span.low:.1f}–{100 * span.high:.1f})"


def span_usd(span: Span) -> str:
    """``$0.0123 (0.0119–0.0128)``."""
    if span.value is None or span.low is None or span.high is None:
        return usd(span.value)
    return f"{usd(span.value)} ({usd(span.low)}–{usd(span.high)})"


def count(value: float) -> str:
    """``12,345``."""
    return f"{round(value):,}"


def milliseconds(value: float | None) -> str:
    """``850 ms`` or ``1.9 s``."""
    if value is None:
        return NONE
    return f"{value:,.0f} ms" if value < 1000 else f"{value / 1000:,.1f} s"


def moment(unix_ms: int, timezone: str) -> str:
    """``25 November 2026, 19:30``, in the site's time."""
    when = datetime.fromtimestamp(unix_ms / 1000, ZoneInfo(timezone))
    return f"{when.day} {when:%B %Y, %H:%M}"


def month_title(month: str) -> str:
    """``2026-11`` as ``November 2026``."""
    return datetime.strptime(month, "%Y-%m").strftime("%B %Y")


def _amount(sign: str, value: float, plain: str) -> str:
    if value and abs(value) < 0.1:
        places = min(9, 2 - math.floor(math.log10(abs(value))))
        plain = f"{value:.{places}f}"
    return f"-{sign}{plain[1:]}" if plain.startswith("-") else f"{sign}{plain}"


def _indian(value: int) -> str:
    """1234567 as ``12,34,567``."""
    sign, digits = ("-", str(-value)) if value < 0 else ("", str(value))
    head, tail = digits[:-3], digits[-3:]
    pairs = []
    while head:
        pairs.append(head[-2:])
        head = head[:-2]
    return sign + ",".join([*reversed(pairs), tail])
