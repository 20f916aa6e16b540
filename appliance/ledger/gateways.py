"""Which gateways are alive, and what becomes of requests whose gateway is not.

What it is: a row a gateway with a beat, and ``reap``: requests left open by a gateway whose beat stopped are settled
as lost and what was held back for them is released, once, by whichever gateway looks first.
What it refuses to be: a judge by its own clock. On PostgreSQL a beat is old by the server's clock; a SQLite file has
one gateway, so whatever is open when it starts was left by a dead one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from appliance.ledger.db import Db, Row
from appliance.types import SHADOW

DEAD_AFTER_MS = 15_000

_NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_REGISTER = "INSERT INTO gateways (id, host, pid, started_ms, beat_ms) VALUES (?, ?, ?, ?, {})"
# a gateway that was taken for dead and lives takes its row back
_BEAT = f"UPDATE gateways SET beat_ms = {_NOW}, ended_ms = NULL WHERE id = ? RETURNING beat_ms"
_RETIRE = "UPDATE gateways SET ended_ms = ? WHERE id = ?"
# also one that ended and could not settle everything, or was taken for dead, lived and died before its next beat
_DEAD = (
    f"UPDATE gateways SET ended_ms = {_NOW} WHERE beat_ms < {_NOW} - {DEAD_AFTER_MS} AND (ended_ms IS NULL"
    " OR id IN (SELECT gateway_id FROM requests WHERE status = 'open')) RETURNING id"
)
_LEFT_OPEN = "SELECT id, tenant_id, key_id, month, reserved_nusd, endpoint FROM requests WHERE status = 'open'"
_LOSE = "UPDATE requests SET status = 'lost', finished_ms = ?, reserved_nusd = 0 WHERE id = ? AND status = 'open'"
_RELEASE = "UPDATE budgets SET reserved_nusd = reserved_nusd - ? WHERE scope = ? AND scope_id = ? AND month = ?"
_FORGET = "DELETE FROM idempotency WHERE http_status IS NULL AND request_id = ?"


def register(db: Db, gateway_id: str, host: str, pid: int, now_ms: int) -> None:
    """A row for a gateway that starts."""
    beat = _NOW if db.dialect == "postgresql" else str(int(now_ms))
    db.run(_REGISTER.format(beat), [(gateway_id, host, pid, now_ms)])


def beat(db: Db, gateway_id: str) -> int:
    """Say that this gateway lives. Returns the server's clock, Unix milliseconds. PostgreSQL only."""
    ((now_ms,),) = db.query(_BEAT, (gateway_id,))
    return int(now_ms)


def retire(db: Db, gateway_id: str, now_ms: int) -> None:
    """This gateway ends in order. What it could not settle, because the store failed it, is reaped like the dead's."""
    db.run(_RETIRE, [(now_ms, gateway_id)])


def reap_all(db: Db, now_ms: int) -> int:
    """Settle every open request as lost, for a file that no other gateway has. Returns how many there were."""
    with _whole(db):
        db.run("UPDATE gateways SET ended_ms = ? WHERE ended_ms IS NULL", [(now_ms,)])
        return _lose(db, db.query(_LEFT_OPEN), now_ms)


def reap_dead(db: Db, now_ms: int) -> int:
    """Settle as lost what gateways left open whose beat is older than ``DEAD_AFTER_MS``. PostgreSQL only."""
    count = 0
    with _whole(db):
        for (gateway_id,) in db.query(_DEAD):  # its row is locked now: nobody else reaps it
            count += _lose(db, db.query(_LEFT_OPEN + " AND gateway_id = ? FOR UPDATE", (gateway_id,)), now_ms)
    return count


@contextmanager
def _whole(db: Db) -> Iterator[None]:
    db.begin()
    try:
        yield
        db.commit()
    except BaseException:
        db.rollback()
        raise


def _lose(db: Db, left: list[Row], now_ms: int) -> int:
    released: dict[tuple[str, str, int], int] = {}
    for _, tenant_id, key_id, month, reserved_nusd, endpoint in left:
        if reserved_nusd:
            budgets = [("key", key_id, month), ("tenant", tenant_id, month)]
            if endpoint == SHADOW:
                budgets.append((SHADOW, tenant_id, month))
            for budget in budgets:
                released[budget] = released.get(budget, 0) + reserved_nusd
    ids = [row[0] for row in left]
    if ids:
        db.run(_LOSE, [(now_ms, request_id) for request_id in ids])
        db.run(_FORGET, [(request_id,) for request_id in ids])
    if released:
        db.run(_RELEASE, [(nusd, *budget) for budget, nusd in sorted(released.items())])
    return len(ids)
