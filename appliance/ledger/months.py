"""Calendar months and hours of the site's time zone, from Unix milliseconds and back.

What it is: ``Calendar``; a month is an integer such as 202611, so that it sorts and compares.
What it costs: 0.1 µs for a moment in the month of the last one, which on the hot path it always is.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

HOUR_MS = 3_600_000


class Calendar:
    """Months as people at the site count them. Raises ZoneInfoNotFoundError for an unknown zone."""

    def __init__(self, timezone: str) -> None:
        self.zone = ZoneInfo(timezone)
        self._last = (0, 0, 0)

    def month_of(self, at_ms: int) -> int:
        """The month that ``at_ms`` falls in."""
        start, end, month = self._last
        if start <= at_ms < end:
            return month
        when = datetime.fromtimestamp(at_ms / 1000, self.zone)
        month = when.year * 100 + when.month
        self._last = (*self.range_of(month), month)
        return month

    def range_of(self, month: int) -> tuple[int, int]:
        """Its first millisecond, and the first of the next."""
        return self._start(month), self._start(after(month))

    def _start(self, month: int) -> int:
        return round(datetime(month // 100, month % 100, 1, tzinfo=self.zone).timestamp() * 1000)


def after(month: int) -> int:
    """The next month."""
    return month + 89 if month % 100 == 12 else month + 1


def before(month: int) -> int:
    """The month before."""
    return month - 89 if month % 100 == 1 else month - 1


def parse_month(text: str) -> int:
    """``2026-11`` as 202611. Raises ValueError with a sentence."""
    year, dash, number = text.partition("-")
    if dash and year.isdigit() and len(year) == 4 and number.isdigit() and 1 <= int(number) <= 12 and int(year) >= 1970:
        return int(year) * 100 + int(number)
    raise ValueError(f"{text[:40]!r} is not a month; write it as 2026-11")


def month_name(month: int) -> str:
    """202611 as ``2026-11``."""
    return f"{month // 100:04d}-{month % 100:02d}"


def days_of(month: int) -> int:
    """How many days it has."""
    first = datetime(month // 100, month % 100, 1)
    following = after(month)
    return (datetime(following // 100, following % 100, 1) - first) // timedelta(days=1)
