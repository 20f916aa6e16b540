"""The search on servers whose optimum is known, with noise, cliffs and drift; and its refusals."""

from __future__ import annotations

import os

import pytest
from synthetic_server import OWN, SHIPPED, SPACE, Synthetic

from appliance_bench import slo
from appliance_bench.sample import Sample, broken
from appliance_bench.search import OWN as OWN_NAME
from appliance_bench.search import SHIPPED as SHIPPED_NAME
from appliance_bench.search import Budget, Config, Found, Gate, Search, Unmeetable, config

TARGETS = slo.parse("e2e_p95_ms=400")
SEEDS = range(20 if os.environ.get("SEARCH_SEEDS") == "20" else 3)
GATE = Gate("chrf", 0.5)
BUDGET = Budget(3600.0, configurations=24, rungs=(100, 300), requests=300, repeats=5)


def searched(server: Synthetic, seed: int, budget: Budget = BUDGET) -> Found:
    return Search(
        SPACE, SHIPPED, OWN, server, TARGETS, budget, gates=[GATE], seed=seed, start_rate=10.0,
        hints=[config(batch=16, wait_ms=5, threads=2, beam=5)],
    ).run()  # fmt: skip


KINDS = {
    "plain": {},
    "noisy": {"noise": 0.05},
    "cliff": {"noise": 0.03, "cliff": True},
    "drift": {"noise": 0.03, "drift": 0.25},
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_finds_the_optimum_within_budget(kind: str, seed: int) -> None:
    server = Synthetic(TARGETS, seed, **KINDS[kind])  # type: ignore[arg-type]
    found = searched(server, seed)
    assert server.best_load(found.chosen.which) >= 0.95 * server.best()
    assert server.now_s <= BUDGET.seconds
    assert found.spent_s == pytest.approx(server.now_s)


def test_both_defaults_are_measured_and_compared() -> None:
    found = searched(Synthetic(TARGETS, 1, noise=0.03), 1)
    assert [t.name for t in found.tried[:2]] == [SHIPPED_NAME, OWN_NAME]
    assert found.against[SHIPPED_NAME].low > 1
    assert found.against[OWN_NAME].low <= found.against[OWN_NAME].value <= found.against[OWN_NAME].high


def test_out_of_memory_is_a_result() -> None:
    server = Synthetic(TARGETS, 0, cliff=True)
    hints = [config(batch=64, wait_ms=5, threads=4, beam=5)]
    found = Search(SPACE, SHIPPED, OWN, server, TARGETS, BUDGET, hints=hints, start_rate=10.0).run()
    assert found.tried[2].dropped == "out_of_memory"
    assert found.chosen is not found.tried[2]


def test_what_lowers_the_quality_is_not_chosen() -> None:
    server = Synthetic(TARGETS, 0)
    ungated = Search(SPACE, SHIPPED, OWN, server, TARGETS, BUDGET, start_rate=10.0).run()
    assert dict(ungated.chosen.which)["beam"] == 1
    found = searched(Synthetic(TARGETS, 0), 0)
    assert dict(found.chosen.which)["beam"] != 1
    assert any(t.dropped.startswith("chrf 41.00 against 45.00") for t in found.tried)


def test_what_cannot_be_told_from_the_default_does_not_replace_it() -> None:
    calls = {"n": 0}

    def equal(which: Config, rate: float, requests: int, *, held_out: bool = False) -> Sample:
        # rounds alternate: whoever is measured is good for 10/s or for 4/s
        calls["n"] += 1
        top = 10.0 if not held_out or (calls["n"] // 3) % 2 else 4.0
        ok = rate <= top
        bad = 0 if ok else requests
        return Sample(
            rate, requests, 0, requests - bad, {"e2e_p95_ms": bad}, {"e2e_p95_ms": 10.0}, requests / rate, 1.0
        )

    found = Search(SPACE, SHIPPED, OWN, equal, TARGETS, Budget(500.0, configurations=4), start_rate=8.0).run()
    if found.chosen.name != SHIPPED_NAME:
        assert found.against[SHIPPED_NAME].low >= 0.95
    else:
        assert found.why_chosen


def test_a_target_nothing_meets_names_the_nearest() -> None:
    targets = slo.parse("e2e_p95_ms=20")
    with pytest.raises(Unmeetable, match=r"no configuration meets e2e_p95_ms=20 .* can be met is e2e_p95_ms=\d+"):
        Search(SPACE, SHIPPED, OWN, Synthetic(targets, 0), targets, Budget(600.0, configurations=4)).run()


def test_the_nearest_can_be_met() -> None:
    targets = slo.parse("e2e_p95_ms=20")
    with pytest.raises(Unmeetable) as raised:
        Search(SPACE, SHIPPED, OWN, Synthetic(targets, 0), targets, Budget(600.0, configurations=4)).run()
    nearest = slo.parse(str(raised.value).rpartition(" ")[2])
    Search(SPACE, SHIPPED, OWN, Synthetic(nearest, 0), nearest, Budget(600.0, configurations=4)).run()


def test_engines_that_never_serve() -> None:
    def dead(which: Config, rate: float, requests: int, *, held_out: bool = False) -> Sample:
        return broken("never_ready", 5.0, rate)

    with pytest.raises(Unmeetable, match="no configuration served at all \\(never_ready\\)"):
        Search(SPACE, SHIPPED, OWN, dead, TARGETS, Budget(600.0, configurations=4)).run()


def test_the_budget_ends_the_search_with_the_defaults_measured() -> None:
    found = searched(Synthetic(TARGETS, 0), 0, Budget(60.0, configurations=24))
    assert found.why_stopped == "budget"
    assert len(found.tried) < 6 and {t.name for t in found.tried} >= {SHIPPED_NAME, OWN_NAME}
