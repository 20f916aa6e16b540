"""The machine's month: what it cost, and how busy it was.

What it is: hours of ``engine_hours`` put together over gateways and engines (``hours.py`` says how), and what
``server_costs`` make of the month, each row for the part of the month it was in force.
What it refuses to be: an estimate of what was not measured. Without a server cost there is none; without busy hours
utilisation is None.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from sqlalchemy import Connection, func, select

from appliance.ledger.hours import together
from appliance.ledger.money import to_nusd
from appliance.ledger.months import HOUR_MS
from appliance.ledger.report.values import EngineUse, Utilisation
from appliance.ledger.schema import engine_hours
from appliance.ledger.stores.prices import ServerCost

_HOUR_NS = HOUR_MS * 1_000_000


class Hours(Struct, frozen=True):
    """Measured hours of a month: by engine, and of the machine (one entry an hour that passed)."""

    start_ms: int
    busy_ns: dict[str, int]
    up_ns: dict[str, int]
    machine_ns: npt.NDArray[np.int64]


class ServerMonth(Struct, frozen=True):
    """What the server cost from ``from_ms`` to ``until_ms``, and what a whole month of it costs."""

    from_ms: int
    until_ms: int
    fixed_nusd: int
    busy_energy_nusd: int
    idle_energy_nusd: int
    month_fixed_nusd: int


def measured(connection: Connection, start_ms: int, until_ms: int) -> Hours:
    """The hours from ``start_ms`` to before ``until_ms``."""
    h = engine_hours.c
    query = select(h.engine, h.hour_ms, h.busy_ns, h.up_ns).where(h.hour_ms > start_ms - HOUR_MS, h.hour_ms < until_ms)
    by_hour: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for name, hour_ms, busy_ns, up_ns in connection.execute(query):
        by_hour.setdefault((name, hour_ms), []).append((busy_ns, up_ns))
    count = max(0, -(-(until_ms - start_ms) // HOUR_MS))
    machine = np.zeros(count, np.int64)
    busy: dict[str, int] = {}
    up: dict[str, int] = {}
    for (name, hour_ms), parts in sorted(by_hour.items()):
        was_busy = together(parts)
        busy[name] = busy.get(name, 0) + was_busy
        up[name] = up.get(name, 0) + min(_HOUR_NS, sum(part[1] for part in parts))
        # hours of a zone that is not whole hours from UTC begin in the hour before
        machine[max(0, (hour_ms - start_ms) // HOUR_MS)] += was_busy
    return Hours(start_ms, busy, up, np.minimum(machine, _HOUR_NS))


def reconciled_until(connection: Connection) -> int | None:
    """The end of the last hour before which every measured hour is shared out; None where none is."""
    h = engine_hours.c
    waiting = connection.execute(select(func.min(h.hour_ms)).where(h.work_ns.is_(None))).scalar()
    last = connection.execute(select(func.max(h.hour_ms)).where(h.work_ns.is_not(None))).scalar()
    if last is None:
        return None
    return int(last) + HOUR_MS if waiting is None else min(int(waiting), int(last) + HOUR_MS)


def utilisation(hours: Hours, until_ms: int, offset_ms: int) -> Utilisation:
    """Shares of the time that passed; ``offset_ms`` is how far the site's clock is ahead of UTC."""
    elapsed_h = max(0, until_ms - hours.start_ms) / HOUR_MS
    engines = tuple(
        EngineUse(name, busy / _HOUR_NS, hours.up_ns[name] / _HOUR_NS) for name, busy in sorted(hours.busy_ns.items())
    )
    if not engines or not elapsed_h:
        return Utilisation(elapsed_h, None, None, engines, ())
    shares = hours.machine_ns / _HOUR_NS
    first = (hours.start_ms + offset_ms) // HOUR_MS
    of_day = (first + np.arange(len(shares))) % 24
    by_hour = tuple(float(shares[of_day == hour].mean()) if (of_day == hour).any() else 0.0 for hour in range(24))
    return Utilisation(elapsed_h, float(shares.sum()) / elapsed_h, float(shares.max()), engines, by_hour)


def month_of(rows: list[ServerCost], hours: Hours, start_ms: int, until_ms: int, end_ms: int) -> ServerMonth | None:
    """What the rows in force between ``start_ms`` and ``until_ms`` come to; None where none was."""
    fixed = busy = idle = Decimal(0)
    covered_from: int | None = None
    for n, row in enumerate(rows):
        begins = max(start_ms, row.effective_ms)
        ends = min(until_ms, rows[n + 1].effective_ms if n + 1 < len(rows) else until_ms)
        if begins >= ends:
            continue
        covered_from = begins if covered_from is None else covered_from
        busy_h = _busy_h(hours, begins, ends)
        passed_h = Decimal(ends - begins) / HOUR_MS
        fixed += _fixed_a_month(row) * (ends - begins) / (end_ms - start_ms)
        busy += busy_h * row.busy_w * _usd_per_wh(row)
        idle += (passed_h - busy_h) * row.idle_w * _usd_per_wh(row)
    if covered_from is None:
        return None
    newest = [row for row in rows if row.effective_ms < until_ms][-1]
    whole_h = Decimal(end_ms - start_ms) / HOUR_MS
    whole = _fixed_a_month(newest) + whole_h * newest.idle_w * _usd_per_wh(newest)
    return ServerMonth(covered_from, until_ms, to_nusd(fixed), to_nusd(busy), to_nusd(idle), to_nusd(whole))


def energy_rates(rows: list[ServerCost]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """From when on, and nano-USD a nanosecond of busy time."""
    rates = [float(row.busy_w * _usd_per_wh(row)) * 1e9 / _HOUR_NS for row in rows]
    return np.array([row.effective_ms for row in rows], np.int64), np.array([0.0, *rates])


def _fixed_a_month(row: ServerCost) -> Decimal:
    return Decimal(row.purchase_usd) / row.lifetime_months + Decimal(row.upkeep_usd_per_month)


def _usd_per_wh(row: ServerCost) -> Decimal:
    return Decimal(row.tariff_inr_per_kwh) / Decimal(row.inr_per_usd) / 1000


def _busy_h(hours: Hours, begins: int, ends: int) -> Decimal:
    first, last = (begins - hours.start_ms) // HOUR_MS, -(-(ends - hours.start_ms) // HOUR_MS)
    return Decimal(int(hours.machine_ns[first:last].sum())) / _HOUR_NS
