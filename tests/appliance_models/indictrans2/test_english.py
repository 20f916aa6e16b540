from __future__ import annotations

import time

import pytest

from appliance_models.indictrans2 import english


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Don't stop.", "Don 't stop ."),
        ("Mr. Rao's bill", "Mr. Rao 's bill"),
        ("at No. 5, e.g. now", "at No. 5 , e.g. now"),
        ("No. That is all.", "No . That is all ."),
        ("5,300 items, 3 left", "5,300 items , 3 left"),
        ("wait... what", "wait ... what"),
        ("the boys' toys", "the boys ' toys"),
        ("Ctrl+C", "Ctrl + C"),
        ("well-known", "well-known"),
    ],
)
def test_tokens(text: str, tokens: str) -> None:
    assert english.tokenise(text) == tokens.split()


@pytest.mark.parametrize(
    "text",
    [
        "Don't stop.",
        "Mr. Rao's bill",
        'He said "yes" and left.',
        "the boys' toys",
        "It costs $5 (or less).",
        "wait... no",
    ],
)
def test_tokens_join_to_the_same_text(text: str) -> None:
    assert english.detokenise(english.tokenise(text)) == text


@pytest.mark.parametrize(
    "text", ["-" * 10_000, "." * 10_000, "'" * 10_000, "a" * 100_000, " ." * 10_000, ",'" * 10_000]
)
def test_time_grows_with_length_only(text: str) -> None:
    # A backtracking pattern would take minutes here; the bound is a hundred times what is measured.
    began = time.process_time()
    english.detokenise(english.tokenise(text))
    assert time.process_time() - began < 20
