"""What the detector finds, what it leaves alone, and how much of each on generated corpora."""

from __future__ import annotations

import random
import re
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy import heldout
from policy import lookalikes as numbers

from appliance.policy.digits import plain
from appliance.policy.personal import Kind, find


def found(text: str, **more: object) -> list[tuple[str, str]]:
    return [(one.kind.value, text[one.start : one.end]) for one in find(text, **more)]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", list(Kind))
def test_recall_is_at_least_99_in_100_for_every_kind(kind: Kind) -> None:
    rng = random.Random(f"recall {kind}")
    missed = []
    for _ in range(2000):
        text, value = numbers.personal(rng, kind)
        # as part of a larger find is found too: +91 belongs to the number
        if not any(value in shown for _, shown in found(text)):
            missed.append(text)
    assert len(missed) <= 20, missed[:10]


@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_found_is_called_what_it_is(kind: Kind) -> None:
    rng = random.Random(f"kind {kind}")
    called: Counter[str] = Counter()
    for _ in range(500):
        text, value = numbers.personal(rng, kind)
        called.update(name for name, shown in found(text) if value in shown)
    assert called[kind.value] >= 0.98 * sum(called.values()), called


def test_false_hits_on_waybills_and_orders_are_at_most_one_in_a_thousand() -> None:
    """100,000 numbers: nine in ten named by a word, one in ten bare and of the tenant's own formats."""
    rng = random.Random("waybills")
    false: Counter[str] = Counter()
    shown = []
    for n in range(100_000):
        number = rng.choice(numbers.SHAPES)(rng)
        text = number if n % 10 == 0 else rng.choice(numbers.ORDERED).format(number)
        hits = found(text, formats=numbers.FORMATS)
        if hits:
            false.update(name for name, _ in hits)
            shown.append(text)
    assert len(shown) <= 100, (false, shown[:20])


def test_without_formats_a_bare_number_may_look_like_a_phone_and_nothing_else_but_a_card() -> None:
    rng = random.Random("bare")
    false: Counter[str] = Counter()
    for _ in range(20_000):
        false.update(name for name, _ in found(rng.choice(numbers.SHAPES)(rng)))
    assert set(false) <= {"phone", "card"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("no numbers here", []),
        ("@handle and #tag", []),
        ("price ₹1,234.50 for 3 items", []),
        ("https://shop.example/orders/987654321012", []),
        ("12:30 on 25-11-2026", []),
        ("version 1.2.3.4", []),
        ("call 1800 123 4567 toll free", []),
        ("987654321012", []),  # passes nothing, and a checksum alone would not do either
        ("my order 234123412346", []),  # passes Verhoeff; it is an order
        ("order 7654321098, call 9876543210", [("phone", "9876543210")]),
        ("order +91 98765-43210", [("phone", "+91 98765-43210")]),
        ("aadhaar २३४१ २३४१ २३४६", [("aadhaar", "२३४१ २३४१ २३४६")]),
        ("aadhaar 2341\u200b2341\u200b2346", [("aadhaar", "2341\u200b2341\u200b2346")]),
        ("Aadhaar 234123412345", [("aadhaar", "234123412345")]),  # mistyped, and still one
        ("ＰＡＮ ＡＢＣＰＫ１２３４Ｆ", [("pan", "ＡＢＣＰＫ１２３４Ｆ")]),
        ("order ABCPK1234F", []),
        ("ram.k@okaxis, ram@example.com", [("upi", "ram.k@okaxis"), ("email", "ram@example.com")]),
        ("meet @ 5pm", []),
        ("upi ram@newbank", [("upi", "ram@newbank")]),
        ("ram@newbank", []),
        ("4111111111111111", [("card", "4111111111111111")]),
        ("4111111111111112", []),
        ("HDFC0001234", []),  # a branch is nobody
        ("HDFC0001234 50100123456789", [("bank_account", "50100123456789")]),
        ("M1234567", []),
        ("passport M1234567", [("passport", "M1234567")]),
        ("IMEI 490154203237518", []),
    ],
)
def test_cases(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


def test_the_question_before_is_a_label() -> None:
    assert found("234123412346") == []
    assert found("234123412346", asked="Please send your Aadhaar number.") == [("aadhaar", "234123412346")]
    assert found("M1234567", asked="पासपोर्ट नंबर बताइए") == [("passport", "M1234567")]
    assert found("9876543210", asked="What is your order number?") == []


def test_own_formats_speak_for_bare_numbers_and_not_against_labels() -> None:
    own = (re.compile("[0-9]{10}"),)
    assert found("9876543210", formats=own) == []
    assert found("phone 9876543210", formats=own) == [("phone", "9876543210")]
    assert found("refund to HDFC0001234 5010012345", formats=own) == [("bank_account", "5010012345")]


BROAD = (re.compile("[0-9]{8,16}"),)


@pytest.mark.parametrize(
    ("text", "asked", "expected"),
    [
        # a format that says no more than a length is no evidence against what says more
        ("4111111111111111", "", "card"),
        ("919876543210", "", "phone"),
        ("09876543210", "", "phone"),
        ("my number is 9876543210", "", "phone"),
        ("9876543210 mera number hai", "", "phone"),
        ("मेरा नंबर 9876543210 है", "", "phone"),
        ("என் எண் 9876543210", "", "phone"),
        ("9876543210", "Which number may we call?", "phone"),
        # and it is against what says nothing
        ("9876543210", "", None),
        ("9876543210", "What is your order number?", None),
        ("my number is 9876543210", "What is your order number?", None),
        ("my order number is 9876543210", "", None),
        ("my number is 5876543210", "", None),
        ("4111111111111112", "", None),
    ],
)
def test_a_format_of_nothing_but_a_length_gives_way_to_evidence(text: str, asked: str, expected: str | None) -> None:
    assert [kind for kind, _ in found(text, asked=asked, formats=BROAD)] == ([] if expected is None else [expected])
    narrow = (re.compile("(41|9|09|5)[0-9]{9,15}"),)
    if "number" not in text and not asked:
        assert found(text, formats=narrow) == []


def test_of_two_labels_the_nearest_that_fits_decides() -> None:
    assert found("please credit 501001234567") == []  # a card it is not, and nothing says what it is
    assert found("my account to credit 501001234567") == [("bank_account", "501001234567")]
    asked = "Which bank account should we credit?"
    assert found("501001234567", asked=asked) == [("bank_account", "501001234567")]
    assert found("account of order 501001234567") == []
    assert found("order ABCPK1234F, pan pending") == []


def test_labels_are_looked_for_no_further_than_they_count() -> None:
    far = "phone " + "and so on " * 30
    assert found(far + "5876543210 " + "and so on " * 30 + "phone") == []
    assert found("and so on " * 30 + "aadhaar 234123412345 " + "and so on " * 30) == [("aadhaar", "234123412345")]


def test_both_goals_hold_together_on_what_the_rules_were_not_developed_with() -> None:
    """As ``make measure-policy`` scores, with other seeds and fewer of them."""
    for kind in Kind:
        rng = random.Random(f"suite {kind}")
        missed = 0
        for _ in range(800):
            text, asked, value = heldout.personal(rng, kind)
            missed += not any(value in shown for _, shown in found(text, asked=asked))
        assert missed <= 8, kind
    rng = random.Random("suite numbers")
    wrong = sum(bool(find(text, asked=asked)) for text, asked, _ in (heldout.number(rng) for _ in range(20_000)))
    assert wrong <= 20


@given(st.text(max_size=300))
def test_any_text_gives_ordered_finds_inside_it(text: str) -> None:
    last = 0
    for one in find(text):
        assert last <= one.start < one.end <= len(text)
        last = one.end
    assert len(plain(text)) == len(text)


@pytest.mark.parametrize(
    "text", ["1" * 200_000, "a@" * 100_000, "1 " * 100_000, "ab1" * 70_000, "@" * 200_000, "(" * 200_000]
)
def test_long_texts_take_linear_time(text: str) -> None:
    """Not a speed: quadratic time would take hours."""
    began = time.process_time()
    find(text)
    assert time.process_time() - began < 20
