from __future__ import annotations

import pytest

from appliance.translation.memory import fitted, keys

EN, HI = "eng_Latn", "hin_Deva"


@pytest.mark.parametrize(
    ("left", "right", "exact", "alike"),
    [
        ("Hello", " Hello\n", True, True),
        ("Hello", "hello", False, True),
        ("don't go - now", "Don’t  go – now", False, True),
        ("क्\u200dष", "क्ष", False, True),
        ("\u0958", "\u0915\u093c", False, True),
        ("Pay 500", "Pay 600", False, False),
        ("Paid.", "Paid?", False, False),
        ("a\nb", "a b", False, False),
        ("", " ", True, True),
        ("\ud800", "\ud800", True, True),
    ],
)
def test_what_is_the_same_and_what_reads_alike(left: str, right: str, exact: bool, alike: bool) -> None:
    one, two = keys(left, EN, HI), keys(right, EN, HI)
    assert (one.exact == two.exact, one.alike == two.alike) == (exact, alike)


def test_languages_and_variant_are_part_of_it() -> None:
    assert len({keys("a", EN, HI), keys("a", HI, EN), keys("a", EN, HI, "x"), keys("aeng_Latn", "", HI)}) == 4


@pytest.mark.parametrize(
    ("translation", "text", "expected"), [(" नमस्ते ", "\tHi \n", "\tनमस्ते \n"), ("x", "  ", "  "), ("x", "a", "x")]
)
def test_blank_space_is_the_texts_own(translation: str, text: str, expected: str) -> None:
    assert fitted(translation, text) == expected
