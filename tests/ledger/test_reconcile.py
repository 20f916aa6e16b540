"""A simulated day's busy hours, shared out over its calls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger.postgres_server import PostgresServer
from sqlalchemy import Engine, text

from appliance.ledger.core import engine, reading, transaction
from appliance.ledger.demo import fill
from appliance.ledger.reconcile import reconcile

DAY_MS = 86_400_000
DAY = 1_790_793_000_000 - 1_800_000 + 9 * DAY_MS  # a whole hour in UTC, 2026-10-09 23:30 in Kolkata
LATER = DAY + 3 * DAY_MS


@pytest.fixture(params=["sqlite", "postgresql"])
def day(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A simulated month of which one day is not reconciled, and nothing is shared out."""
    where: Path | str = tmp_path / "ledger.db"
    server: PostgresServer | None = None
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres_server")
        where = server.create()
    fill(where, 202610, 3000, months=1)
    made = engine(where)
    with transaction(made) as connection:
        connection.execute(text("UPDATE requests SET busy_ns = NULL"))
        connection.execute(text("UPDATE conversations SET busy_ns = 0"))
        within = f"hour_ms >= {DAY} AND hour_ms < {DAY + DAY_MS}"
        connection.execute(text(f"UPDATE engine_hours SET work_ns = NULL WHERE {within}"))
    yield made
    made.dispose()
    if server is not None:
        server.drop(str(where))


def total(made: Engine, sql: str) -> int:
    with reading(made) as connection:
        return int(connection.execute(text(sql)).scalar() or 0)


def test_a_days_shares_sum_to_its_busy_hours(day: Engine) -> None:
    busy = total(day, f"SELECT sum(busy_ns) FROM engine_hours WHERE hour_ms >= {DAY} AND hour_ms < {DAY + DAY_MS}")
    assert reconcile(day, LATER) == 72
    shared = total(day, "SELECT sum(busy_ns) FROM requests")
    assert busy > 0 and shared == pytest.approx(busy, rel=0.02)
    assert total(day, "SELECT sum(busy_ns) FROM conversations") == shared
    assert reconcile(day, LATER) == 0
    assert total(day, "SELECT sum(busy_ns) FROM requests") == shared


def test_shares_follow_the_tokens_computed(day: Engine) -> None:
    """Where coefficients are right but for a factor an hour, each request's share is near its own measured one."""
    reconcile(day, LATER)
    ratio = (
        "SELECT count(*) FROM requests WHERE busy_ns IS NOT NULL AND work_ns > 100000000"
        " AND (busy_ns < work_ns * 0.8 OR busy_ns > work_ns * 1.25)"
    )
    shared = total(day, "SELECT count(*) FROM requests WHERE busy_ns IS NOT NULL AND work_ns > 100000000")
    assert shared > 100
    # those over an hour's edge get parts of two hours, of which one may not be reconciled
    assert total(day, ratio) <= 0.05 * shared


def test_two_gateways_of_one_hour_are_put_together(day: Engine) -> None:
    hour = DAY + 12 * 3_600_000
    with transaction(day) as connection:
        connection.execute(text(f"UPDATE engine_hours SET work_ns = 1 WHERE hour_ms <> {hour} OR engine <> 'chat'"))
        # it restarted at half past: ten minutes busy before, five after
        connection.execute(
            text(
                "UPDATE engine_hours SET busy_ns = 600000000000, up_ns = 1800000000000"
                f" WHERE hour_ms = {hour} AND engine = 'chat'"
            )
        )
        connection.execute(
            text(f"INSERT INTO engine_hours VALUES ('chat', {hour}, 'gw_2', 300000000000, 1800000000000, NULL)")
        )
    assert reconcile(day, LATER) == 1
    assert total(day, "SELECT sum(busy_ns) FROM requests") == 900_000_000_000


def test_an_hour_is_left_until_everything_in_it_has_surely_ended(day: Engine) -> None:
    assert reconcile(day, DAY + 3_600_000) == 0
