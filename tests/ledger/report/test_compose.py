"""Every figure, against plain SQL on both databases and against sums done by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from ledger.report.conftest import END_MS, HOUR_MS, MONTH, NOW_MS, START_MS, Book, Where
from sqlalchemy import text

from appliance.ledger.core import engine, reading
from appliance.ledger.report import Report, Slo, build

MS_NS = 1_000_000


def rows(where: Where, sql: str) -> list[Any]:
    made = engine(where)
    try:
        with reading(made) as connection:
            return [tuple(row) for row in connection.execute(text(sql))]
    finally:
        made.dispose()


def test_counts_and_money_are_what_sql_says(demo: Where) -> None:
    report = build(demo, MONTH, NOW_MS)
    month = f"opened_ms >= {START_MS} AND opened_ms < {END_MS}"
    states = dict(rows(demo, f"SELECT state, count(*) FROM conversations WHERE {month} GROUP BY state"))
    counts = report.counts
    assert counts.conversations == sum(states.values()) == 800
    assert (counts.confirmed, counts.presumed) == (states["resolved"], states["presumed_resolved"])
    assert (counts.unresolved, counts.handed_to_human, counts.open) == (
        states["unresolved"], states["handed_to_human"], states.get("open", 0),
    )  # fmt: skip
    ((hosted, energy, escalated),) = rows(
        demo,
        "SELECT sum(hosted_nusd), sum(energy_nusd), sum(CASE WHEN escalated THEN 1 END) FROM conversations"
        f" WHERE {month}",
    )
    assert (report.cost.hosted_nusd, counts.escalated) == (int(hosted), int(escalated))
    # measured time is within some percent of what was booked, and nearly all of it is measured
    assert report.cost.energy_nusd == pytest.approx(int(energy), rel=0.05)
    assert report.cost.energy_measured_share is not None and report.cost.energy_measured_share > 0.95
    assert report.cost.marginal.value == pytest.approx(report.cost.marginal_nusd / counts.confirmed)
    ids = f"id >= 'req_{START_MS:012x}' AND id < 'req_{END_MS:012x}'"
    ((requests,),) = rows(demo, f"SELECT count(*) FROM requests WHERE {ids}")
    assert report.requests == requests == sum(row.requests for row in report.routes)
    assert sum(row.share for row in report.routes) == pytest.approx(1)


def test_both_databases_give_the_same_report(demo_path: Path, demo_url: str) -> None:
    one, other = (msgspec.to_builtins(build(where, MONTH, NOW_MS)) for where in (demo_path, demo_url))
    # whose intents are equally many come in the order in which they were read
    assert {k: v for k, v in one.items() if k not in ("groups", "trouble")} == {
        k: v for k, v in other.items() if k not in ("groups", "trouble")
    }
    for dimension in one["groups"]:
        by_name = [
            {g["name"]: (g["counts"], g["hosted_nusd"], g["loaded"]) for g in side["groups"][dimension]}
            for side in (one, other)
        ]
        assert by_name[0] == by_name[1]


def test_two_processes_read_what_one_reads(demo_path: Path) -> None:
    one, two = (build(demo_path, MONTH, NOW_MS, workers=workers) for workers in (1, 2))
    assert one.counts == two.counts and one.requests == two.requests
    assert one.cost.loaded == two.cost.loaded and one.hosted == two.hosted
    assert {row.intent: row.ttft_p95 for row in one.latency} == {row.intent: row.ttft_p95 for row in two.latency}


def test_tenants_add_up_to_the_whole(demo: Where) -> None:
    whole = build(demo, MONTH, NOW_MS)
    parts = [build(demo, MONTH, NOW_MS, tenant=group.name) for group in whole.groups["tenant"]]
    assert len(parts) == 5
    for field in whole.counts.__struct_fields__:
        assert sum(getattr(part.counts, field) for part in parts) == getattr(whole.counts, field)
    assert sum(part.requests for part in parts) == whole.requests
    assert sum(part.cost.loaded_nusd or 0 for part in parts) == pytest.approx(whole.cost.loaded_nusd)
    standard = [quote.total_nusd for report in (*parts, whole) if (quote := report.hosted.quote(False))]
    # the tokens of replaced attempts are taken out by a ratio, each tenant's of its own
    assert sum(standard[:-1]) == pytest.approx(standard[-1], rel=0.01)
    assert {part.break_even.standard for part in parts if part.break_even} == {
        whole.break_even and whole.break_even.standard
    }
    for dimension in ("intent", "language", "channel", "tenant"):
        groups = whole.groups[dimension]
        assert sum(group.counts.conversations for group in groups) == 800
        loaded = sum((group.loaded or 0) * group.counts.confirmed for group in groups)
        assert loaded == pytest.approx(whole.cost.loaded_nusd, rel=0.001)


def test_by_hand(book: Book) -> None:
    """Ten conversations, six of them confirmed, a tenth of the month busy."""
    book.server()
    book.price(prompt_token="1", cached_token="0.5", completion_token="2")
    for n in range(10):
        state = "resolved" if n < 6 else ("presumed_resolved" if n < 8 else "unresolved")
        book.talk(state, tokens=(1_000_000, 400_000, 500_000), hosted_nusd=3_000_000_000, work_ns=5, intent=f"i{n % 2}")
    book.hour(HOUR_MS * MS_NS // 2)
    report = build(book.where, MONTH, NOW_MS)
    cost = report.cost
    assert cost.marginal.value == pytest.approx(30e9 / 6)
    assert cost.marginal_with_presumed == pytest.approx(30e9 / 8)
    assert cost.loaded == pytest.approx((744e9 + 30e9) / 6)
    assert cost.loaded_with_presumed == pytest.approx((744e9 + 30e9) / 8)
    # 0.6 M uncached, 0.4 M cached and 0.5 M completion tokens each
    standard = report.hosted.quote(False)
    assert standard is not None and standard.total_nusd == 10 * 1_800_000_000
    assert report.hosted.quote(True) is None
    assert any("no batch prices" in gap.what for gap in report.missing)
    even = report.break_even
    # here 5 USD a confirmed one, hosted 3: no volume pays for the server
    assert even is not None and even.standard is None
    assert (even.here_each_nusd, even.standard_each_nusd) == (pytest.approx(5e9), pytest.approx(3e9))
    assert report.utilisation.busy_share == pytest.approx(0.5 / 744)
    assert [row.label for row in report.latency] == ["i0", "i1"]
    assert report.latency[0].ttft_p50 == pytest.approx(500)


def test_break_even(book: Book) -> None:
    book.server()
    book.price(prompt_token="10", completion_token="0")
    for _ in range(4):
        book.talk("resolved", tokens=(1_000_000, 0, 0), hosted_nusd=2_000_000_000)
    even = build(book.where, MONTH, NOW_MS).break_even
    assert even is not None
    # 744 a month against 10 − 2 a conversation
    assert (even.standard, even.now, even.capacity) == (pytest.approx(93), 4, None)


def test_the_month_so_far(book: Book) -> None:
    book.server(busy_w=1000, idle_w=100)
    book.talk("resolved")
    half = (START_MS + END_MS) // 2
    report = build(book.where, MONTH, half)
    assert not report.complete and report.server is not None
    assert report.server.fixed_nusd == pytest.approx(372e9)
    # 372 hours at 100 W and ₹10 a kWh: 37.2 kWh, ₹372, 4.65 USD
    assert report.server.idle_energy_nusd == pytest.approx(4.65e9)
    assert report.server.month_fixed_nusd == pytest.approx(744e9 + 9.3e9)


def test_energy_is_measured_where_the_hours_are_shared_out(book: Book) -> None:
    book.server(busy_w=1000, idle_w=0)
    book.hour(20 * MS_NS)
    late_ms = START_MS + 20 * HOUR_MS
    book.talk("resolved", work_ns=10, busy_ns=3_600 * 1_000 * MS_NS, energy_nusd=7)
    book.talk("resolved", at_ms=late_ms, work_ns=10, busy_ns=5, energy_nusd=11)
    report = build(book.where, MONTH, NOW_MS)
    # an hour at 1 kW and ₹10 a kWh is ₹10, an eighth of a USD; the late one is in no reconciled hour
    assert report.cost.energy_nusd == 125_000_000 + 11


def test_nothing_set_is_said_and_nothing_invented(book: Book) -> None:
    book.talk("open", tokens=(10, 0, 10))
    report = build(book.where, MONTH, NOW_MS)
    assert (report.cost.loaded, report.cost.marginal.value, report.break_even, report.server) == (
        None,
        None,
        None,
        None,
    )
    assert report.utilisation.busy_share is None and report.hosted.quotes == () and report.inr_per_usd is None
    assert "what the server costs" in report.break_even_why_not
    commands = " ".join(gap.command for gap in report.missing)
    for command in ("server-cost set", "prices set", "coefficients set", "/v1/conversations/{id}/outcome"):
        assert command in commands
    assert "no conversation of the month before" in report.changes_why_not


def test_a_server_cost_set_late_is_counted_from_then(book: Book) -> None:
    book.server(effective_ms=(START_MS + END_MS) // 2)
    book.talk("resolved")
    report = build(book.where, MONTH, NOW_MS)
    assert report.server is not None and report.server.fixed_nusd == pytest.approx(372e9)
    assert any("last 372 hours" in gap.what for gap in report.missing)


def test_a_price_that_came_too_late(book: Book) -> None:
    from appliance.ledger.stores import prices

    book.server()
    book.talk("resolved", tokens=(10, 0, 10))
    prices.set_price(book.engine, book.actor, "google", "m1", "prompt_token", "1", effective_ms=END_MS)
    report = build(book.where, MONTH, NOW_MS, hosted_model=("google", "m1"))
    standard = report.hosted.quote(False)
    assert standard is not None and standard.total_nusd is None and "has no price for a prompt_token" in standard.why
    assert report.break_even is None


def test_slos_are_shown_where_they_are_given(book: Book) -> None:
    book.talk("resolved")
    report = build(book.where, MONTH, NOW_MS, slos={"refund": Slo(50, None)})
    assert report.latency[0].slo_ttft_p95 == 50 and report.latency[0].slo_total_p95 is None
    assert any("misses its SLO" in advice.title for advice in report.advice)


def test_an_empty_month(book: Book) -> None:
    report: Report = build(book.where, MONTH, NOW_MS)
    assert report.counts.conversations == 0 and report.advice == () and report.routes == ()


def test_refused(book: Book) -> None:
    with pytest.raises(ValueError, match="2026-12 has not begun; name a month up to 2026-11"):
        build(book.where, 202612, NOW_MS)
    with pytest.raises(LookupError, match="there is no tenant 'nobody'"):
        build(book.where, MONTH, NOW_MS, tenant="nobody")


def test_a_months_latencies_are_sampled_above_a_size(demo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = build(demo_path, MONTH, NOW_MS)
    monkeypatch.setattr("appliance.ledger.report.reading._MOST_LOOKED_AT", 400)
    sampled = build(demo_path, MONTH, NOW_MS)
    assert (whole.latency_one_in, sampled.latency_one_in) == (1, 2)
    counts = [sum(row.answers for row in report.latency) for report in (whole, sampled)]
    assert counts[1] == pytest.approx(counts[0] / 2, rel=0.1)
