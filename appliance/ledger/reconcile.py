"""Makes what calls are charged for agree with what the engines were busy.

What it is: an hour after it has ended: each engine's measured busy time is shared out over the calls that ran in it,
by what the coefficients say each took of it (by its share of time where they say nothing). The parts sum to the busy
time, to the nanosecond; a call that ran over the full hour gets a part of both. Busy time in which no call ended up
in the ledger (its requests were lost) stays unshared: it is idle time to a report's conversations, and busy in its
utilisation. What several gateways measured of one hour is put together by ``hours.together``.
What it refuses to be: a correction of budgets. What was charged to a cap stays; reports use what is measured here.
What it costs: about 20 µs a call, once, in a transaction an engine's hour.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Engine, select, text, update

from appliance.ledger.core import reading, transaction
from appliance.ledger.hours import together
from appliance.ledger.months import HOUR_MS
from appliance.ledger.schema import calls, engine_hours, requests

# An hour is taken up when everything that ran in it has surely been recorded: the longest deadline an operator is
# likely to set, and as far as a request of it may have begun before.
_SETTLED_AFTER_MS = HOUR_MS

_SHARE = text("UPDATE requests SET busy_ns = coalesce(busy_ns, 0) + :ns WHERE id = :id")
_SHARE_CONVERSATION = text(
    "UPDATE conversations SET busy_ns = busy_ns + :ns WHERE tenant_id = :tenant_id AND id = :conversation_id"
)


def reconcile(engine: Engine, now_ms: int, most_hours: int = 1000) -> int:
    """Share out every hour that is over and not yet shared. Returns how many engine-hours were."""
    h = engine_hours.c
    due = (
        select(h.engine, h.hour_ms)
        .where(h.work_ns.is_(None), h.hour_ms < now_ms - HOUR_MS - _SETTLED_AFTER_MS)
        .distinct()
        .order_by(h.hour_ms, h.engine)
        .limit(most_hours)
    )
    with reading(engine) as connection:
        hours = connection.execute(due).all()
    count = 0
    for name, hour_ms in hours:
        with transaction(engine) as connection:
            measured = _claimed(connection, name, hour_ms)
            if measured:
                _share_out(connection, name, hour_ms, together(measured))
                count += 1
    return count


def shares(busy_ns: int, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """``busy_ns`` in whole nanoseconds by ``weights``; they sum to it exactly. All zero: equal parts."""
    if len(weights) == 0:
        return np.zeros(0, np.int64)
    if not weights.sum() > 0:
        weights = np.ones(len(weights))
    # rounding the running sum instead of each part leaves no remainder
    edges = np.rint(np.cumsum(weights) / weights.sum() * busy_ns).astype(np.int64)
    edges[-1] = busy_ns
    return np.diff(edges, prepend=0)


def _claimed(connection: Connection, name: str, hour_ms: int) -> list[tuple[int, int]]:
    """Busy and up time of the hour's gateways, which from now on are nobody else's to share out; none: they were."""
    h = engine_hours.c
    mine = (
        update(engine_hours)
        .where(h.engine == name, h.hour_ms == hour_ms, h.work_ns.is_(None))
        .values(work_ns=0)
        .returning(h.busy_ns, h.up_ns)
    )
    return [(row.busy_ns, row.up_ns) for row in connection.execute(mine)]


def _share_out(connection: Connection, name: str, hour_ms: int, busy_ns: int) -> None:
    found = connection.execute(_calls_of(name, hour_ms)).all()
    columns = list(zip(*found, strict=True)) if found else [()] * 6
    finished, lasted, work = (np.array(column, np.float64) for column in columns[3:6])
    began = finished - lasted
    inside = np.minimum(finished, hour_ms + HOUR_MS) - np.maximum(began, hour_ms)
    part = np.clip(inside, 0, None) / np.maximum(lasted, 1e-9)
    weights = part * work if (part * work).sum() > 0 else np.clip(inside, 0, None)
    got = shares(busy_ns, weights)
    rows: list[dict[str, Any]] = [
        {"ns": int(ns), "id": row[0], "tenant_id": row[1], "conversation_id": row[2]}
        for ns, row in zip(got, found, strict=True)
        if ns
    ]
    if rows:
        connection.execute(_SHARE, rows)
        connection.execute(_SHARE_CONVERSATION, [row for row in rows if row["conversation_id"] is not None])
    connection.execute(
        update(engine_hours)
        .where(engine_hours.c.engine == name, engine_hours.c.hour_ms == hour_ms)
        .values(work_ns=int(weights.sum()) if found else 0)
    )


def _calls_of(name: str, hour_ms: int) -> Any:
    """Calls that ran in the hour. Ids sort by the time they were made, so no index on times is needed."""
    earliest, latest = hour_ms - _SETTLED_AFTER_MS, hour_ms + HOUR_MS
    return (
        select(
            requests.c.id,
            requests.c.tenant_id,
            requests.c.conversation_id,
            requests.c.finished_ms,
            calls.c.total_ms,
            calls.c.work_ns,
        )
        .join(calls, calls.c.request_id == requests.c.id)
        .where(
            requests.c.id >= f"req_{earliest:012x}",
            requests.c.id < f"req_{latest:012x}",
            requests.c.finished_ms > hour_ms,
            calls.c.engine == name,
            requests.c.finished_ms - calls.c.total_ms < latest,
        )
    )
