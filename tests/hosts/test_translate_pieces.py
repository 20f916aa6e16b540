"""Every text comes apart into pieces that joined are the text, and no text is slow."""

from __future__ import annotations

import time
from itertools import islice

import pytest

from appliance.hosts.translate_html import runs, safe
from appliance.hosts.translate_pieces import LONGEST, halves, pieces
from appliance.hosts.translate_wire import Mode

HOSTILE = {
    "dashes": "-" * 10_000,
    "no space": "a" * 100_000,
    "no space, Devanagari": "क" * 100_000,
    "bars": "|" * 300_000 + "x",
    "backticks": "`" * 100_000 + "x",
    "brackets": "[" * 100_000,
    "fences": "```\n" * 30_001,
    "elements": "<pre>x</pre>" * 20_000,
    "elements that never close": "<pre>" * 20_000,
    "tags that never end": '<a "' * 50_000,
    "comments": "<!--" * 50_000,
}


@pytest.mark.parametrize("mode", ["text", "html", "markdown"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_lose_nothing_and_take_no_time(text: str, mode: Mode) -> None:
    began_s = time.process_time()
    joined = "".join(piece.text for piece in pieces(text, mode))
    # in HTML a line break between words is a space
    assert joined == (text.replace("\n", " ") if mode == "html" else text)
    assert time.process_time() - began_s < 5.0  # what grows with the square of the length takes minutes


@pytest.mark.parametrize("mode", ["text", "markdown"])
def test_lines_paragraphs_and_blanks_are_kept(mode: Mode) -> None:
    text = "पहली पंक्ति।  दूसरी।\r\n\r\n\tThird, at 3.14 p.m. Dr. Rao came.\n\n\n  اردو۔ آخری۔\n"
    found = list(pieces(text, mode))
    assert "".join(piece.text for piece in found) == text
    assert sum(piece.translate and bool(piece.text.strip()) for piece in found) >= 5


def test_rules_and_keys_are_no_sentences() -> None:
    key = "eyJ0eXAi" * 40
    found = list(pieces(f"Before.\n{'=' * 40}\nThe key is {key} here.", "text"))
    assert [piece.text for piece in found if not piece.translate] == ["=" * 40, key]


def test_sentences_have_a_longest() -> None:
    assert max(len(piece.text) for piece in pieces("शब्द " * 5000, "text")) <= LONGEST


def test_a_document_is_taken_apart_as_it_is_read() -> None:
    assert len(list(islice(pieces("One sentence. " * 100_000, "text"), 3))) == 3


def test_markdown_passes_what_is_for_programs() -> None:
    text = "# Heading\n\n```python\nprint('hello')\n```\n| a | b |\n|---|:-:|\n- [x] done\n[1]: https://example.com/a\n"
    kept = [piece.text for piece in pieces(text, "markdown") if not piece.translate]
    assert "".join(piece.text for piece in pieces(text, "markdown")) == text
    for untouched in ("# ", "```python\nprint('hello')\n```\n", "|---|:-:|\n", "[1]: https://example.com/a\n"):
        assert untouched in kept


def test_html_keeps_inline_tags_in_their_sentence() -> None:
    text = '<p>Pay <b>now</b>.</p><script>if (a < b) {}</script><div translate="no">Acme <i>Pay</i></div><!-- n -->'
    assert list(runs(text)) == [
        ("<p>", False),
        ("Pay <b>now</b>.", True),
        ("</p>", False),
        ("<script>if (a < b) {}</script>", False),
        ('<div translate="no">Acme <i>Pay</i></div>', False),
        ("<!-- n -->", False),
    ]


def test_html_that_passes_ends_at_its_own_end() -> None:
    assert list(runs("<pre>a<pre>b</pre>c</pre>d")) == [("<pre>a<pre>b</pre>c</pre>", False), ("d", True)]


def test_signs_a_model_invented_do_no_harm() -> None:
    assert safe("a < b & c &amp; <b>d</b> &#39;") == "a &lt; b &amp; c &amp; <b>d</b> &#39;"


def test_halves_cut_at_a_clause_a_space_or_between_letters() -> None:
    assert halves("one two three, four five six", iter(())) == ("one two three,", " four five six")
    assert halves("one two", iter(())) == ("one ", "two")
    assert halves("abcd", iter(())) == ("ab", "cd")
    left, right = halves("क्षत्रिय", iter(())) or ("", "")
    assert left + right == "क्षत्रिय"
    assert not left.endswith("्")


def test_halves_never_cut_an_entity() -> None:
    assert halves("call 98765 43210 now", iter([(5, 16)])) in (
        ("call ", "98765 43210 now"),
        ("call 98765 43210 ", "now"),
    )
    assert halves("98765 43210", iter([(0, 11)])) is None
    assert halves("a", iter(())) is None
