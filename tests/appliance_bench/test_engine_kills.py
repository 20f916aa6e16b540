"""Twenty-one random kills under load: what `make soak-engines` does five hundred of."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from appliance_bench import engine_kills
from appliance_bench.engine_kills import Broken, faultless, ledger_check, soak

KILLS = 21  # an odd one: the engines share them


def test_random_kills_lose_nothing() -> None:
    result = soak(KILLS, seed=7, threads=4, say=lambda _: None)
    assert sum(result["kills"].values()) == KILLS
    assert result["requests"]["ok"] > 0
    assert faultless(result), result


def test_what_broke_is_on_record_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise Broken("not within 60 s: one was back")

    monkeypatch.setattr(engine_kills, "soak", broken)
    assert engine_kills.main(["--kills", "5", "--out", str(tmp_path)]) == 1
    (written,) = tmp_path.glob("engine-kills-*.json")
    found = json.loads(written.read_text())
    assert (found["broken"], found["kills_wanted"]) == ("not within 60 s: one was back", 5)
    assert found["at"][:4].isdigit()


def test_a_lost_row_and_a_false_verdict_are_seen(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger, ledger:
        ledger.execute("CREATE TABLE requests (id TEXT, status TEXT)")
        ledger.executemany("INSERT INTO requests VALUES (?, ?)", [("a", "ok"), ("b", "ok"), ("c", "open")])
    found = ledger_check(tmp_path / "ledger.db", {"a": True, "b": False, "d": True})
    assert found == {"rows": 3, "seen_by_callers": 3, "missing": 1, "doubled": 0, "open": 1, "other_verdict": 1}
    assert not faultless({"wrong": [], "orphans": 0, "ledger": found})
