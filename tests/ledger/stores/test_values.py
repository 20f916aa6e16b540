"""What people may type: what passes comes out as both databases can hold it, the rest is one sentence."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from appliance.ledger.money import parse_amount
from appliance.ledger.stores import values

KOLKATA = ZoneInfo("Asia/Kolkata")


@pytest.mark.parametrize(
    ("text", "amount"),
    [("0", "0"), ("1,250.50", "1250.50"), ("1_000", "1000"), ("0.000000001", "1E-9"), ("1e9", "1E+9"), (" 7 ", "7")],
)
def test_an_amount(text: str, amount: str) -> None:
    assert parse_amount(text, "the price") == Decimal(amount)


@pytest.mark.parametrize(
    "text",
    ["", "-1", "nan", "inf", "1e10", "1e999999999", "1e-999999999", "0.0000000001", "1" * 41, "0." + "0" * 99_999,
     "a\0", "\ud800", "1;DROP"],
)  # fmt: skip
def test_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="give") as caught:
        parse_amount(text, "the price")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["", " ", "x" * 65, "a\0", "\ud800", "a\nb", "\u202ea", "\x7f"])
def test_no_name(text: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 printable"):
        values.name(text, "a name")


@pytest.mark.parametrize("text", ["", "-a", "_a", "A", "a b", "é", "a" * 65, "a'", "a\0", "a/b", "٣"])
def test_no_identifier(text: str) -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        values.identifier(text, "an id")


def test_free_text() -> None:
    assert values.free("ठीक है 🙂\n'; --", "a note", 20) == "ठीक है 🙂\n'; --"
    for bad in ("x" * 21, "a\0", "\ud800"):
        with pytest.raises(ValueError, match="at most 20 characters"):
            values.free(bad, "a note", 20)


@pytest.mark.parametrize(
    ("text", "unix_ms"),
    [
        ("2027-01-01", 1_798_741_800_000),
        ("2027-01-01T05:30", 1_798_761_600_000),
        ("2027-01-01T00:00Z", 1_798_761_600_000),
    ],
)
def test_a_moment_is_the_sites(text: str, unix_ms: int) -> None:
    assert values.moment(text, KOLKATA) == unix_ms


@pytest.mark.parametrize("text", ["", "tomorrow", "0001-01-01", "1969-12-31", "99999-01-01", "2027-13-01", "\0"])
def test_no_moment(text: str) -> None:
    with pytest.raises(ValueError):
        values.moment(text, KOLKATA)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (values.nusd, (None, 0, 10**18), (-1, 10**18 + 1, 2**63)),
        (values.limit, (None, 1, 10**9), (0, -1, 2**31)),
        (values.unix_ms, (0, 253_402_300_799_999), (-1, 2**63)),
    ],
)
def test_ranges(check: Any, good: tuple[Any, ...], bad: tuple[Any, ...]) -> None:
    for value in good:
        assert check(value, "it") == value
    for value in bad:
        with pytest.raises(ValueError, match="give"):
            check(value, "it")


def test_a_cap_in_rupees_needs_a_rate() -> None:
    assert values.cap("₹8450", Decimal("84.5")) == 100_000_000_000
    assert values.cap("none") is None
    with pytest.raises(ValueError, match="server-cost set"):
        values.cap("₹1")
