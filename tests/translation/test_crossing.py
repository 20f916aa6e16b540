"""What is lost between languages: counted both ways, units and ordinals left to the language."""

from __future__ import annotations

import pytest

from appliance.translation.crossing import Crossing, lost


@pytest.mark.parametrize(
    ("text", "made", "gone"),
    [
        ("Order ORD-1234 costs ₹1,234", "ऑर्डर ORD-1234 की कीमत ₹१२३४ है", []),
        ("Order ORD-1234 costs ₹1,234", "ऑर्डर की कीमत ₹1234 है", ["ORD-1234"]),
        ("call 98450 12345", "98450 पर कॉल करें", ["12345"]),
        ("come at 5pm", "शाम 5 बजे आएँ", []),
        ("come at 5pm", "शाम को आएँ", ["5pm"]),
        ("take 500ml, not 50ml", "500 मिली लें", ["50ml"]),
        ("the 2nd try", "दूसरी कोशिश", []),
        ("see {{name}} and {{name}}", "{{name}} को देखें", ["{{name}}"]),
        ("nothing here", "कुछ नहीं", []),
    ],
)
def test_lost(text: str, made: str, gone: list[str]) -> None:
    assert lost(text, made) == gone


def test_shares_of_all_that_had_to_come_through() -> None:
    crossing = Crossing()
    assert crossing.share == 0.0
    crossing.saw("order 12 and 34", "ऑर्डर 12 और 34")
    assert (crossing.wanted, crossing.share) == (2, 0.0)
    crossing.saw("see 56", "देखें")
    assert crossing.lost == ["56"] and crossing.share == pytest.approx(1 / 3)
    crossing.saw("Acme is here", "वह यहाँ है", lost_terms=("Acme",))
    assert crossing.lost == ["56", "Acme"] and crossing.share == pytest.approx(2 / 4)
