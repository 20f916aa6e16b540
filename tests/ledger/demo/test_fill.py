"""A demo ledger adds up like a real one, and is never one."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledger.conftest import Look, Where
from ledger.postgres_server import PostgresServer

from appliance.errors import LedgerUnavailable
from appliance.ledger import Ledger
from appliance.ledger.demo import fill, simulate
from appliance.ledger.sqlite import connect

MONTH = 202610


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Where:
    """Where there is no ledger yet."""
    if request.param == "sqlite":
        return tmp_path / "home-demo" / "ledger.db"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.create()


def test_it_adds_up(place: Where) -> None:
    filled = fill(place, MONTH, 500)
    look = Look(place)
    assert filled.months == ("2026-09", "2026-10") and filled.rows["conversations"] == 860
    assert look("SELECT value FROM meta WHERE name = 'kind'") == [("simulated",)]
    assert look.totals() == tuple(filled.rows[name] for name in ("requests", "attempts", "calls"))
    for table, key in (("requests", "conversation_id"),):
        for field in ("hosted_nusd", "work_ns", "energy_nusd", "busy_ns"):
            sums = look.column(f"SELECT sum({field}) FROM {table}") + look.column(
                f"SELECT sum({field}) FROM conversations"
            )
            assert int(sums[0]) == int(sums[1]) > 0, (key, field)
    calls = look("SELECT sum(prompt_tokens), sum(completion_tokens), sum(hosted_nusd), sum(work_ns) FROM calls")
    assert calls == look(
        "SELECT sum(prompt_tokens), sum(completion_tokens), sum(hosted_nusd), sum(work_ns) FROM requests"
    )
    assert look.column("SELECT sum(busy_ns) FROM engine_hours") == look.column("SELECT sum(busy_ns) FROM requests")
    assert look.column("SELECT sum(spent_nusd) FROM budgets WHERE scope = 'tenant'") == look.column(
        "SELECT sum(hosted_nusd + energy_nusd) FROM requests"
    )
    look.db.close()


def test_every_row_belongs_to_another(tmp_path: Path) -> None:
    fill(tmp_path / "ledger.db", MONTH, 200)
    connection = connect(tmp_path / "ledger.db")
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    connection.close()


def test_a_seed_is_a_month(tmp_path: Path) -> None:
    sums = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        fill(tmp_path / name / "ledger.db", MONTH, 200, seed=seed)
        look = Look(tmp_path / name / "ledger.db")
        sums.append(look("SELECT max(id), sum(hosted_nusd), count(*) FROM requests"))
        look.db.close()
    assert sums[0] == sums[1] != sums[2]


def test_a_gateway_does_not_start_on_it(place: Where) -> None:
    fill(place, MONTH, 50, months=1)
    with pytest.raises(LedgerUnavailable, match="simulated conversations"):
        Ledger.open(place)


def test_a_real_ledger_is_refused_and_left_alone(where: Where, look: Look) -> None:
    with pytest.raises(LedgerUnavailable, match="real ledger"):
        fill(where, MONTH, 50)
    assert look("SELECT value FROM meta WHERE name = 'kind'") == [("real",)]
    assert look.column("SELECT name FROM keys") == ["web"]


def test_an_earlier_demo_is_replaced(place: Where) -> None:
    fill(place, MONTH, 300, months=1)
    fill(place, MONTH, 100, months=1)
    look = Look(place)
    assert look.column("SELECT count(*) FROM conversations") == [100]
    look.db.close()


def test_one_that_is_cut_off_leaves_nothing(place: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(simulate.Simulation, "rest", cut)
    with pytest.raises(KeyboardInterrupt):
        fill(place, MONTH, 50, months=1)
    if isinstance(place, Path):
        assert not place.exists()
    monkeypatch.undo()
    assert fill(place, MONTH, 50, months=1).rows["conversations"] == 50
