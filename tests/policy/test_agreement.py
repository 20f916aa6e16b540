"""How far two answers agree."""

from __future__ import annotations

from appliance.policy.agreement import agreement


def test_same_and_nothing() -> None:
    assert agreement("आपका रिफंड आज आएगा", "आपका  रिफंड आज आएगा\n") == 1.0
    assert agreement("", "  ") == 1.0
    assert agreement("yes", "") == 0.0


def test_another_wording_agrees_more_than_another_answer() -> None:
    one = "Your refund of ₹4,500 will arrive by 5 March."
    again = "The refund of Rs 4500 arrives by 5th March, at the latest."
    assert agreement(one, again) > agreement(one, "Please restart the router and wait for the green light.")


def test_another_amount_is_another_answer() -> None:
    assert agreement("Your refund is ₹4,500.", "Your refund is ₹5,400.") <= 0.2
    assert agreement("ரீஃபண்ட் ₹௪௫௦௦", "ரீஃபண்ட் ₹4500") > 0.5
    assert agreement("Pay by 5 March", "Pay by 6 March") <= 0.2
