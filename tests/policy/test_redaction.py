"""Hidden, the same everywhere, and back again, also in pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.policy.personal import Kind
from appliance.policy.redaction import Redaction, Restoring


def test_the_same_value_gets_the_same_stand_in_in_every_turn() -> None:
    redaction = Redaction()
    assert redaction.hide("call 9876543210 or 9123456789") == "call [PHONE_1] or [PHONE_2]"
    assert redaction.hide("yes, phone 9123456789") == "yes, phone [PHONE_2]"
    assert redaction.restore("I will call [PHONE_2], then [ phone_1 ] and [PHONE_3].") == (
        "I will call 9123456789, then 9876543210 and [PHONE_3]."
    )
    assert redaction.kinds == {Kind.PHONE}


def test_a_stand_in_of_the_customers_own_is_not_restored() -> None:
    redaction = Redaction()
    text = "I saw [PHONE_1] on your page; mine is 9876543210"
    redaction.reserve(text)
    hidden = redaction.hide(text)
    assert hidden == "I saw [PHONE_1] on your page; mine is [PHONE_2]"
    assert redaction.restore(hidden) == text


def test_nothing_to_hide_is_the_same_object() -> None:
    text = "where is my order?"
    assert Redaction().hide(text) is text


@given(st.lists(st.integers(1, 40), max_size=30), st.sampled_from(["", "[", "[PHO", "[PHONE_9]", "[[PHONE_1]]"]))
def test_pieces_restore_to_what_the_whole_does(cuts: list[int], tail: str) -> None:
    redaction = Redaction()
    redaction.hide("phone 9876543210, mail a.b@example.com")
    answer = "Call [PHONE_1] (yes, [PHONE_1]) or write [EMAIL_1]; [note] stays, [" + "x" * 50 + tail
    restoring, got, at = Restoring(redaction), "", 0
    for cut in cuts:
        got += restoring.feed(answer[at : at + cut])
        at += cut
    got += restoring.feed(answer[at:]) + restoring.end()
    assert got == redaction.restore(answer)
