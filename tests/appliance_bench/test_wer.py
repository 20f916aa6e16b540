"""Word error rate: normalisation, alignment, and the paired bootstrap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance_bench.wer import Errors, align, errors, normalise, number_words, paired_bootstrap, rate


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", "hello world"),
        ("It's  OK—really", "its okay really"),
        ("press 1 or 21", "press one or twenty one"),
        ("500 people", "five hundred people"),
        ("1,234,567", "one two three four five six seven"),
        ("12,345", "twelve thousand three hundred forty five"),
        ("extension 1234", "extension one two three four"),
        ("1, 2, 3", "one two three"),
        ("007", "zero zero seven"),
        ("1st 2nd 3rd 12th 40th", "first second third twelfth fortieth"),
        ("50% & more", "fifty percent and more"),
        ("re-record", "re record"),
        ("कृपया, दबाएँ।", "कृपया दबाएँ"),
        ("...", ""),
    ],
)
def test_both_sides_are_normalised_alike(text, words):
    assert normalise(text) == words.split()


@given(st.integers(0, 999_999))
def test_every_number_has_words_of_its_own(value):
    words = number_words(value)
    assert words
    assert all(word.isalpha() for word in words)
    assert number_words((value + 1) % 1_000_000) != words


def test_errors_are_counted_by_kind():
    assert align(["a", "b", "c", "d"], ["a", "x", "c"]) == Errors(1, 1, 0, 4)
    assert align(["a", "b"], ["a", "b", "c", "d"]) == Errors(0, 0, 2, 2)
    assert align([], ["you"]) == Errors(0, 0, 1, 0)
    assert errors("Press 1, please.", "press one please").total == 0


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_alignment_is_a_distance(left, right):
    counts = align(left, right)
    assert (counts.total == 0) == (left == right)
    assert counts.total == align(right, left).total
    assert abs(len(left) - len(right)) <= counts.total <= max(len(left), len(right))
    assert len(left) - counts.deletions + counts.insertions == len(right)


def test_the_rate_is_over_all_words_not_the_mean_of_rates():
    assert rate([Errors(1, 0, 0, 1), Errors(0, 0, 0, 99)]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="at least one reference word"):
        rate([Errors(0, 0, 1, 0)])


def test_equal_sides_differ_by_nothing():
    side = [Errors(i % 3, 0, 0, 10) for i in range(50)]
    interval = paired_bootstrap(side, side)
    assert (interval.difference, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_a_clear_difference_has_an_interval_around_it_that_excludes_zero():
    ours = [Errors(1, 0, 0, 10)] * 80 + [Errors(0, 0, 0, 10)] * 20
    theirs = [Errors(0, 0, 0, 10)] * 100
    interval = paired_bootstrap(ours, theirs, draws=2000)
    assert interval.difference == pytest.approx(8.0)
    assert 6.5 < interval.low < 8.0 < interval.high < 9.5
    assert paired_bootstrap(ours, theirs, draws=2000) == interval, "same seed, same interval"


def test_sides_that_did_not_hear_the_same_are_refused():
    with pytest.raises(ValueError, match="same utterances"):
        paired_bootstrap([Errors(0, 0, 0, 3)], [Errors(0, 0, 0, 4)])
    with pytest.raises(ValueError, match="same utterances"):
        paired_bootstrap([Errors(0, 0, 0, 3)], [])
