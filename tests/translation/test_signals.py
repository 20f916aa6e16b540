from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.translation.signals import distance, entities, measure, script_share


@pytest.mark.parametrize(
    ("text", "translation", "lost"),
    [
        ("Pay ₹1,234.50 by 12/05", "12/05 तक ₹1234.50 दें", ()),
        ("Pay 500 now", "अभी ५०० दें", ()),
        ("Call +91 98765-43210", "+91 98765-43210 पर कॉल करें", ()),
        ("Order ORD-1234 of a@x.in", "ऑर्डर ORD-1235", ("ORD-1234", "a@x.in")),
        ("See https://x.in/a.", "https://x.in/a देखें।", ()),
        ("5 and 5", "केवल 5", ("5",)),
        ("{{1}} is due", "देय है", ("{{1}}",)),
        ("no figures", "7 अंक", ()),
    ],
)
def test_what_was_lost_is_named(text: str, translation: str, lost: tuple[str, ...]) -> None:
    found = measure(text, translation, "Deva")
    assert found.lost == lost and found.kept == 1 - len(lost) / max(1, entities(text).total())


def test_script_and_length() -> None:
    found = measure("Hello there", "नमस्ते dear", "Deva", "Hello there")
    assert 0.4 < found.script_share < 0.6 and found.length_ratio == 1.0 and found.round_trip == 0.0
    assert (script_share("ORD-1 https://x.in 12", "Taml"), script_share("abc", "Nope")) == (1.0, 0.0)
    empty = measure("", "", "Deva")
    assert (empty.kept, empty.length_ratio, empty.script_share, empty.round_trip) == (1.0, 1.0, 1.0, None)


def test_distance_grows_with_what_differs() -> None:
    near, far = distance("Open the file menu", "Open the files menu"), distance("Open the file menu", "Close a window")
    assert 0 < near < 0.2 < 0.5 < far < 1 == distance("abc", "xyz")
    assert distance("A b", "ab") == distance("", " ") == 0.0 and distance("", "x") == 1.0


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_signals_stay_in_range(text: str, other: str) -> None:
    found = measure(text, other, "Deva", other)
    assert 0 <= found.kept <= 1 and 0 <= found.script_share <= 1 and found.length_ratio >= 0
    assert found.round_trip is not None and 0 <= found.round_trip <= 1
    assert distance(text, other) == pytest.approx(distance(other, text)) and measure(text, text, "Deva").kept == 1.0


@pytest.mark.parametrize("unit", ["1", "a1-", "a.", "{{", "a@", "1,", "http://"])
def test_no_text_is_slow(unit: str) -> None:
    text = unit * (20_000 // len(unit))
    began = time.process_time()
    measure(text, text, "Deva", text)
    # under 0.1 s here
    assert time.process_time() - began < 5
