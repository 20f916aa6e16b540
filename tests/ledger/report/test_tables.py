"""CSV and JSON: every line says what it is of."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from ledger.report.conftest import MONTH, NOW_MS, Book

from appliance.ledger.report import build
from appliance.ledger.report.tables import to_csv, to_json


def test_every_line_is_labelled(demo_path: Path) -> None:
    report = build(demo_path, MONTH, NOW_MS, tenant="demo-bank")
    lines = list(csv.DictReader(io.StringIO(to_csv(report))))
    assert {(line["ledger"], line["month"], line["tenant"]) for line in lines} == {
        ("simulated", "2026-10", "demo-bank")
    }
    found = {(line["section"], line["name"], line["measure"]): line for line in lines}
    assert len(found) == len(lines)
    assert int(found["counts", "all", "confirmed"]["value"]) == report.counts.confirmed
    marginal = found["cost", "all", "marginal_per_confirmed"]
    assert float(marginal["low"]) < float(marginal["value"]) < float(marginal["high"])
    assert ("intent", "खाता शेष", "confirmed") in found


def test_a_name_that_is_a_formula_is_text(book: Book) -> None:
    book.talk("resolved", intent='=HYPERLINK("x")')
    lines = list(csv.DictReader(io.StringIO(to_csv(build(book.where, MONTH, NOW_MS)))))
    assert {line["name"] for line in lines if line["section"] == "intent"} == {'\'=HYPERLINK("x")'}


def test_json_holds_the_report(demo_path: Path) -> None:
    report = build(demo_path, MONTH, NOW_MS)
    data = json.loads(to_json(report))
    assert data["simulated"] is True and data["month"] == "2026-10"
    assert data["counts"]["confirmed"] == report.counts.confirmed
    assert data["cost"]["hosted_nusd"] == report.cost.hosted_nusd
