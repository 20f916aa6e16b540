"""The gateway bench's figures: what "added" means, what is met, what is written down."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from appliance_bench.gateway_cases import CASES, GOALS, errors, goal_figure, met
from appliance_bench.gateway_report import figures, machine, show, write
from appliance_bench.gateway_rig import Measured
from appliance_bench.load import LoadReport
from appliance_bench.load_stats import Spread, figure


def _measured(rate: float = 0.0, p50: float = 0.0, **errors_: int) -> Measured:
    latency = Spread(n=10, p50=p50, p99=p50 * 2, max=p50 * 3)
    report = LoadReport(10, 10, rate, errors_, latency, latency, latency, 0, 0.0, 0, 1.0, Spread(), 0.1)
    return Measured(report, 100.0, 0.0)


_ADDED_P50 = next(g for g in GOALS if g.title == "added p50 at 1 connection")
_RATE = next(g for g in GOALS if g.limit == 3000)


def test_added_is_taken_repeat_by_repeat() -> None:
    repeats = [
        {"direct": _measured(p50=0.1), "gateway": _measured(p50=0.5)},
        {"direct": _measured(p50=1.0), "gateway": _measured(p50=1.2)},
        {"direct": _measured(p50=0.1), "gateway": _measured(p50=0.4)},
    ]
    found = goal_figure(_ADDED_P50, repeats, "gateway")
    assert found is not None
    assert (found.median, found.low, found.high) == pytest.approx((0.3, 0.2, 0.4))


def test_a_target_that_did_not_run_has_no_figure() -> None:
    assert goal_figure(_RATE, [{"direct": _measured()}], "litellm") is None


def test_met_looks_at_the_median_in_the_right_direction() -> None:
    assert met(_RATE, figure([2000.0, 3100.0, 3200.0]))
    assert not met(_RATE, figure([2999.0]))
    assert met(_ADDED_P50, figure([0.6]))
    assert not met(_ADDED_P50, figure([0.61]))
    assert met(next(g for g in GOALS if g.limit is None), figure([1.0])) is None


def test_postgresql_has_a_target_of_its_own_for_requests_a_second_only() -> None:
    assert met(_RATE, figure([1600.0]), "postgres") and met(_RATE, figure([1600.0]), "postgres+4ms")
    assert not met(_RATE, figure([1600.0]), "gateway")
    assert not met(_ADDED_P50, figure([0.61]), "postgres")


def test_every_goal_belongs_to_a_case() -> None:
    assert {goal.case for goal in GOALS} == {case.name for case in CASES}


def test_errors_add_up_by_target() -> None:
    repeats = [{"direct": _measured(), "gateway": _measured(cut=2)}, {"gateway": _measured(cut=1, late=1)}]
    assert errors(repeats) == {"gateway": {"cut": 3, "late": 1}}


def test_figures_and_table_say_what_was_missed() -> None:
    measured = {"rate16": [{"direct": _measured(20000), "gateway": _measured(2500)}]}
    rows = figures(measured, ["direct", "gateway"])
    rate = next(r for r in rows if r["figure"] == _RATE.title and r["target"] == "gateway")
    assert (rate["median"], rate["limit"], rate["met"]) == (2500, "≥ 3000", False)
    out = io.StringIO()
    show(Console(file=out, width=150), rows, ["direct", "gateway"])
    line = next(line for line in out.getvalue().splitlines() if _RATE.title in line)
    assert "2,500/s" in line and "20,000/s" in line and "NO" in line


def test_results_are_dated_and_name_no_machine(tmp_path: Path) -> None:
    path = write(tmp_path / "results", "gateway", {"machine": machine(), "cases": [_measured(1.0)]})
    assert path.name.startswith("gateway-2")
    found = json.loads(path.read_text())
    assert found["cases"][0]["load"]["requests_per_s"] == 1.0
    assert set(found["machine"]) == {"cpu", "cores", "memory_gb", "kernel", "python", "load_average_before"}
    assert msgspec.json.decode(path.read_bytes()) == found
