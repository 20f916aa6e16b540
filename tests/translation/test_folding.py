from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.translation.folding import fold, is_word, lowered


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("  Acme \u00a0 Bank ", " Acme Bank "),
        ("Acme\nBank", "Acme\nBank"),
        ("क्\u200dष", "क्ष"),
        ("\u0958\u093e", "\u0915\u093c\u093e"),  # one letter for qa, and ka with a nukta
        ("cafe\u0301", "café"),
        ("don’t “go” – now", 'don\'t "go" - now'),
        ("İstanbul", "İstanbul"),
    ],
)
def test_what_reads_alike_has_one_form(text: str, form: str) -> None:
    assert fold(text).text == form


TEXTS = st.text(st.sampled_from("aé\u0301\u0958क़्\u200d \u00a0\nஔௗ가ᅡᆨ’İß"), max_size=30) | st.text(max_size=30)


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_every_letter_of_the_form_knows_its_place(text: str) -> None:
    folded = fold(text)
    assert len(folded.text) == len(folded.starts) == len(folded.ends)
    assert all(0 <= a < b <= len(text) for a, b in zip(folded.starts, folded.ends, strict=True))
    assert list(folded.starts) == sorted(folded.starts) and list(folded.ends) == sorted(folded.ends)
    assert fold(folded.text).text == folded.text
    assert fold(unicodedata.normalize("NFD", text)).text == folded.text
    assert len(lowered(text)) == len(text)


def test_signs_belong_to_words() -> None:
    assert all(map(is_word, "aक़ा्ிᱟꯑꯥ९_ِ"))
    assert not any(map(is_word, " -।۔'᱾"))
