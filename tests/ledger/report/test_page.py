"""The page: whole in itself, honest about what it is, and safe with names that callers choose."""

from __future__ import annotations

import html
import re
from pathlib import Path

import msgspec
import pytest
from ledger.report.conftest import MONTH, NOW_MS, Book

from appliance.ledger.report import Report, Slo, build
from appliance.ledger.report.page import render
from appliance.ledger.report.text import rupees, span_usd, usd
from appliance.ledger.report.values import Span


@pytest.fixture(scope="module")
def simulated(demo_path: Path) -> Report:
    return build(demo_path, MONTH, NOW_MS)


def test_it_needs_nothing_from_anywhere(simulated: Report) -> None:
    page = render(simulated)
    assert not re.search(r"<(script|link|img|iframe|object)\b|@import|url\((?!#)", page)
    # names of namespaces are the only addresses in it
    assert set(re.findall(r"https?://[^\"' )<]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_a_simulated_month_says_so_everywhere(simulated: Report) -> None:
    page = render(simulated)
    assert "<title>SIMULATED DATA" in page
    assert page.count('<div class="simulated">') == 2
    assert '<div class="mark"><b>SIMULATED</b></div>' in page and 'content: "SIMULATED DATA' in page


def test_a_real_month_does_not(book: Book) -> None:
    book.talk("resolved")
    page = render(build(book.where, MONTH, NOW_MS))
    assert "SIMULATED" not in page


def test_every_figure_of_page_one_is_there(simulated: Report) -> None:
    first = render(simulated).split('<section class="sheet">')[0]
    even = simulated.break_even
    standard = simulated.hosted.quote(False)
    assert even is not None and even.standard is not None and standard is not None
    for value in (
        usd(simulated.cost.marginal.value),
        usd(simulated.cost.loaded),
        usd(standard.per_confirmed_nusd),
        rupees(simulated.cost.loaded, simulated.inr_per_usd),
        f"Break-even volume: {even.standard:,.0f} a month",
        f"Utilisation: {100 * (simulated.utilisation.busy_share or 0):.1f} %",
        "Presumed resolved",
    ):
        assert value in first


def test_indic_names_stay_text(simulated: Report) -> None:
    page = render(simulated)
    for name in ("खाता शेष", "ரீசார்ஜ்", "ലാബ് റിപ്പോർട്ട്", "বিদ্যুৎ বিভ্রাট"):
        assert page.count(name) >= 3  # in charts and tables


def test_names_hold_no_markup(book: Book) -> None:
    hostile = '<script>alert("x")</script>&amp;'
    for _ in range(30):
        book.talk("unresolved", intent=hostile, language="x<b>")
    page = render(build(book.where, MONTH, NOW_MS))
    assert "<script>" not in page and "x<b>" not in page
    assert html.escape(hostile, quote=False) in page or html.escape(hostile) in page


def test_what_is_missing_stands_on_page_one(book: Book) -> None:
    book.talk("open", tokens=(10, 0, 10))
    first = render(build(book.where, MONTH, NOW_MS)).split('<section class="sheet">')[0]
    assert first.count("not known") >= 3
    assert "appliance server-cost set" in first and "appliance coefficients set" in first


def test_no_slo_is_said_and_none_invented(simulated: Report, book: Book) -> None:
    assert "no SLO set" in render(simulated)
    book.talk("resolved")
    page = render(build(book.where, MONTH, NOW_MS, slos={"refund": Slo(75, 5000)}))
    assert "75 ms" in page and "5.0 s" in page and "no SLO set" not in page


def test_an_empty_month_is_a_page(book: Book) -> None:
    assert "No conversation was opened in this month." in render(build(book.where, MONTH, NOW_MS))


def test_the_same_report_gives_the_same_page(simulated: Report) -> None:
    again = msgspec.json.decode(msgspec.json.encode(simulated), type=Report)
    assert render(again) == render(simulated)


@pytest.mark.parametrize(
    ("nusd", "shown"),
    [(None, "–"), (0, "$0.00"), (1_234_567_890_000, "$1,234.57"), (2_316_927, "$0.00232"), (38_412, "$0.0000384"),
     (-2_316_927, "-$0.00232"), (99_999_999, "$0.1000")],
)  # fmt: skip
def test_dollars(nusd: float | None, shown: str) -> None:
    assert usd(nusd) == shown


def test_rupees() -> None:
    assert rupees(1_500_000_000_000, "88.4") == "₹1,32,600"
    assert rupees(2_316_927, "88.4") == "₹0.20"
    assert rupees(5, None) == "" and rupees(None, "88.4") == ""
    assert span_usd(Span(2e6, 1e6, 3e6)) == "$0.00200 ($0.00100–$0.00300)"
