"""Recommendations appear with their numbers, and only where the numbers call for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledger.report.conftest import MONTH, NOW_MS, Book
from msgspec.structs import replace

from appliance.ledger.report import Report, build
from appliance.ledger.report.advice import advise
from appliance.ledger.report.values import BreakEven, EscalationReason, RouteShare


@pytest.fixture(scope="module")
def simulated(demo_path: Path) -> Report:
    return build(demo_path, MONTH, NOW_MS)


def titles(report: Report) -> str:
    return " | ".join(one.title for one in advise(report).advice)


@pytest.mark.parametrize(
    ("standard", "now", "capacity", "says"),
    [
        (100.0, 40.0, 1000.0, "Bring more of the traffic"),
        (100.0, 200.0, 1000.0, "The server pays for itself"),
        (5000.0, 40.0, 1000.0, "cannot reach break-even"),
        (None, 40.0, 1000.0, "before adding volume"),
    ],
)
def test_volume(simulated: Report, standard: float | None, now: float, capacity: float, says: str) -> None:
    even = BreakEven(1, 2e6, 3e6, None, standard, None, now, capacity)
    assert says in titles(replace(simulated, break_even=even))


def test_a_full_server(simulated: Report) -> None:
    full = RouteShare("hosted", "capacity_overflow", simulated.requests // 10, 0.1, 1.0, 5_000_000_000)
    report = replace(simulated, routes=(full,))
    (advice,) = [one for one in advise(report).advice if "busiest hours" in one.title]
    assert f"{simulated.requests // 10:,} requests" in advice.why and "$5.00" in advice.why
    assert "busiest hours" not in titles(replace(simulated, routes=()))


def test_the_dearest_escalation(simulated: Report) -> None:
    reasons = (EscalationReason("schema_failed", 7, 900), EscalationReason("truncated", 50, 100))
    (advice,) = [one for one in advise(replace(simulated, escalation_reasons=reasons)).advice if "dearest" in one.title]
    assert "schema_failed" in advice.title and "90.0 % of what escalated answers cost" in advice.why


def test_a_weak_language_is_named_when_it_is_surely_weaker(book: Book) -> None:
    for n in range(400):
        book_language = "ory_Orya" if n % 4 == 0 else "hin_Deva"
        good = n % 20 < (8 if book_language == "ory_Orya" else 17)
        book.talk("resolved" if good else "unresolved", language=book_language)
    report = build(book.where, MONTH, NOW_MS)
    assert "Improve the answers in Odia" in titles(report)
    assert "Hindi is" not in titles(report)


def test_outcomes_that_nobody_tells(book: Book) -> None:
    for state in ("resolved", "presumed_resolved", "presumed_resolved"):
        book.talk(state)
    (advice,) = [one for one in build(book.where, MONTH, NOW_MS).advice if "outcomes reported" in one.title]
    assert "66.7 %" in advice.why


def test_nothing_to_say_of_a_quiet_month(book: Book) -> None:
    book.talk("resolved")
    assert build(book.where, MONTH, NOW_MS).advice == ()
