from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.translation.pieces import pieces


def bodies(text: str) -> list[str]:
    return [piece.body for piece in pieces(text) if piece.body]


def test_marks_code_and_space_are_not_translated() -> None:
    text = "# Head\n\n- One. Two!\n  * Three\n> 4) Five\n| a | b |\n---\n```py\nx = 1. Y\n```\nEnd ```x``` now."
    assert bodies(text) == ["Head", "One.", "Two!", "Three", "Five", "a | b |", "End ```x``` now."]


def test_a_fence_inside_a_line_is_no_fence() -> None:
    assert bodies("Use ```a b``` here. ```c``` too.\nAnd this.") == [
        "Use ```a b``` here.",
        "```c``` too.",
        "And this.",
    ]


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("aक .\n#->|1)`~*!।"), max_size=60))
def test_pieces_are_the_text(text: str) -> None:
    found = pieces(text)
    assert "".join(p.lead + p.body + p.tail for p in found) == text
    assert all(p.body == p.body.strip() for p in found)
