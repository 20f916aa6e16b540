"""Believing a decode, splitting it by timestamps, timing its words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.hosts.whisper_text import Decode, best, compression_ratio, split, time_words

BEGIN = 1000
GOOD = Decode(
    tokens=(1, 2),
    text=" hi",
    temperature=0.0,
    avg_logprob=-0.4,
    no_speech_prob=0.1,
    compression_ratio=1.2,
    capped=False,
    language="en",
    language_probability=1.0,
)


def stamp(seconds: float) -> int:
    return BEGIN + round(seconds / 0.02)


def test_an_ordinary_decode_is_believed():
    assert GOOD.believable
    assert not GOOD.silent


@pytest.mark.parametrize("change", [{"compression_ratio": 2.5}, {"avg_logprob": -1.1}, {"capped": True}])
def test_repetition_improbability_and_a_hit_cap_are_not(change):
    assert not replace(GOOD, **change).believable


def test_improbable_text_where_nobody_speaks_is_silence_and_needs_no_second_try():
    quiet = replace(GOOD, avg_logprob=-1.5, no_speech_prob=0.9)
    assert quiet.silent
    assert quiet.believable
    assert not replace(GOOD, no_speech_prob=0.9).silent, "a confident text contradicts"
    assert not replace(quiet, compression_ratio=3.0).believable


def test_the_best_of_the_disbelieved_does_not_repeat_itself():
    loop = replace(GOOD, avg_logprob=-0.1, compression_ratio=9.0)
    poor, poorer = replace(GOOD, avg_logprob=-1.2), replace(GOOD, avg_logprob=-1.9)
    assert best([loop, poorer, poor]) is poor
    assert best([loop]) is loop


def test_compression_ratio_tells_a_loop_from_a_sentence():
    assert compression_ratio("I'm sorry, " * 20) > 2.4
    assert compression_ratio("Please leave your message after the tone.") < 1.5


def test_one_segment_with_both_stamps():
    pieces, reach = split((stamp(0), 5, 6, stamp(1.5)), timestamp_begin=BEGIN, length_s=2.0)
    assert [(p.start, p.end) for p in pieces] == [(0.0, 1.5)]
    assert reach == 2.0


def test_a_text_without_an_end_stamp_lasts_as_long_as_the_window():
    pieces, reach = split((stamp(0), 5, 6), timestamp_begin=BEGIN, length_s=2.0)
    assert [(p.start, p.end) for p in pieces] == [(0.0, 2.0)]
    assert reach == 2.0


def test_pairs_of_stamps_part_segments_and_a_single_last_one_completes():
    tokens = (stamp(0), 5, stamp(1), stamp(1.2), 6, stamp(2.4))
    pieces, reach = split(tokens, timestamp_begin=BEGIN, length_s=3.0)
    assert [(p.start, p.end, p.tokens[1]) for p in pieces] == [(0.0, 1.0, 5), (1.2, 2.4, 6)]
    assert reach == 3.0


def test_an_unfinished_tail_is_left_for_the_next_window():
    tokens = (stamp(0), 5, stamp(4), stamp(4), 6, 7)
    pieces, reach = split(tokens, timestamp_begin=BEGIN, length_s=10.0)
    assert [(p.start, p.end) for p in pieces] == [(0.0, 4.0)]
    assert reach == 4.0


def test_stamps_past_the_sound_are_held_to_it():
    pieces, _ = split((stamp(0), 5, stamp(9)), timestamp_begin=BEGIN, length_s=2.5)
    assert pieces[0].end == 2.5


def test_words_take_their_times_from_the_alignment():
    alignment = [(0, 0), (0, 10), (1, 20), (2, 40), (2, 45), (3, 60)]
    words = time_words([" Good", " day", "<eot>"], [[10], [11, 12], [99]], alignment)
    assert [(w.word, w.start, w.end) for w in words] == [("Good", 0.0, 0.4), ("day", 0.4, 1.2)]


def test_punctuation_belongs_to_its_word():
    spelled = [' "', "Yes", ",", " madam", "।", "<eot>"]
    alignment = [(i, i * 20) for i in range(6)]
    words = time_words(spelled, [[i] for i in range(6)], alignment)
    assert [w.word for w in words] == ['"Yes,', "madam।"]
    assert words[0].start <= words[0].end <= words[1].start


def test_a_first_word_does_not_take_the_silence_before_it():
    alignment = [(0, 0), (1, 150), (2, 165), (3, 180), (4, 195)]
    words = time_words([" a", " b", " c", " d", "<eot>"], [[i] for i in range(5)], alignment)
    assert words[0].start == pytest.approx(2.4, abs=0.01)
    assert words[0].end == 3.0


def test_nothing_to_time():
    assert time_words(["<eot>"], [[1]], [(0, 0)]) == ()
    assert time_words([" a", "<eot>"], [[1], [2]], []) == ()
