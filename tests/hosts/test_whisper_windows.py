"""Which stretches are heard, in which windows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.hosts.whisper_windows import (
    BUCKETS_S,
    COST_S,
    LONGEST_S,
    MARGIN_S,
    VAD_FRAME_S,
    Span,
    bucket_s,
    buckets_of,
    doubtful,
    plan,
    spans,
    token_cap,
)


def heard(*parts: tuple[float, float]) -> tuple[np.ndarray, float]:
    """Probabilities for (seconds, probability) parts, and the duration."""
    frames = [np.full(round(seconds / VAD_FRAME_S), p, np.float32) for seconds, p in parts]
    probabilities = np.concatenate(frames)
    return probabilities, len(probabilities) * VAD_FRAME_S


@pytest.mark.parametrize(
    ("length", "bucket"), [(0.0, 10), (8.0, 10), (8.01, 12), (10.0, 12), (10.5, 20), (18.0, 20), (18.1, 30), (28.0, 30)]
)
def test_the_bucket_is_the_smallest_with_the_margin(length, bucket):
    assert bucket_s(length) == bucket


def test_every_bucket_has_a_price_and_longer_costs_more():
    prices = [COST_S[bucket] for bucket in BUCKETS_S]
    assert prices == sorted(prices)


def test_the_token_cap_grows_with_duration_and_stays_in_the_room():
    assert token_cap(1.0, 444) < token_cap(5.0, 444) < 444
    assert token_cap(28.0, 444) == 444
    assert token_cap(1.0, 10) == 10


def test_silence_and_noise_hold_no_speech():
    assert spans(*heard((5.0, 0.03))) == []
    assert spans(*heard((5.0, 0.13))) == []
    assert plan([], 5.0) == []


def test_a_faint_word_passes_the_gate():
    probabilities, duration = heard((1.0, 0.02), (0.3, 0.25), (1.0, 0.02))
    (span,) = spans(probabilities, duration)
    assert span.start < 1.0 < 1.3 < span.end


def test_spans_are_padded_but_stay_inside_and_apart():
    probabilities, duration = heard((0.2, 0.0), (2.0, 0.9), (3.0, 0.0), (2.0, 0.9), (0.1, 0.0))
    first, second = spans(probabilities, duration)
    assert first.start == 0.0
    assert first.end == pytest.approx(2.6, abs=0.05)
    assert second.start == pytest.approx(4.8, abs=0.05)
    assert second.end == duration


def test_a_short_pause_does_not_split_a_span():
    assert len(spans(*heard((1.0, 0.9), (0.5, 0.0), (1.0, 0.9)))) == 1


def test_a_short_clip_is_heard_whole():
    probabilities, duration = heard((1.0, 0.0), (1.0, 0.9), (1.0, 0.0))
    assert plan(spans(probabilities, duration), duration) == [Span(0.0, duration)]


def test_trimming_silence_is_done_where_it_saves_a_bucket():
    probabilities, duration = heard((10.0, 0.0), (3.0, 0.9), (10.0, 0.0))
    (window,) = plan(spans(probabilities, duration), duration)
    assert window.length < 8.0
    assert window.start < 10.0 < 13.0 < window.end


def test_a_long_pause_closes_the_window():
    probabilities, duration = heard((2.0, 0.9), (7.0, 0.0), (2.0, 0.9))
    assert len(plan(spans(probabilities, duration), duration)) == 2


def test_long_speech_is_cut_in_its_pauses_into_cheap_windows():
    parts = [part for _ in range(6) for part in ((8.0, 0.9), (1.5, 0.01))]
    probabilities, duration = heard(*parts)
    windows = plan(spans(probabilities, duration), duration, probabilities)
    assert {bucket_s(w.length) for w in windows} <= {10, 12, 20}
    for left, right in pairwise(windows):
        middle = (left.end + right.start) / 2
        assert probabilities[int(middle / VAD_FRAME_S)] < 0.1


def test_speech_without_a_pause_is_cut_where_it_is_quietest():
    probabilities, duration = heard((22.0, 0.9), (0.6, 0.5), (20.0, 0.9))
    windows = plan(spans(probabilities, duration), duration, probabilities)
    assert len(windows) == 2
    assert 22.0 <= windows[0].end <= 22.7


@given(
    st.lists(st.tuples(st.floats(0.1, 40.0), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.95])), min_size=1, max_size=12),
)
def test_windows_cover_all_speech_in_order_without_overlap_and_fit_with_a_margin(parts):
    probabilities, duration = heard(*[(max(s, 0.04), p) for s, p in parts])
    speech = spans(probabilities, duration)
    windows = plan(speech, duration, probabilities)
    assert bool(windows) == bool(speech)
    for window in windows:
        assert 0.0 <= window.start < window.end <= duration + 1e-6
        assert window.length <= LONGEST_S + 1e-6
        assert window.length + MARGIN_S <= bucket_s(window.length) + 1e-6
    assert all(left.end <= right.start + 1e-6 for left, right in pairwise(windows))
    for span in speech:
        covered = sum(max(0.0, min(w.end, span.end) - max(w.start, span.start)) for w in windows)
        assert covered == pytest.approx(span.length, abs=1e-3)


def test_a_faint_sound_is_a_mumbled_word_in_a_short_clip_and_music_in_a_long_one():
    for seconds, heard_there in ((0.7, True), (2.9, True), (8.0, False), (180.0, False)):
        probabilities, duration = heard((0.2, 0.1), (0.2, 0.3), (seconds - 0.4, 0.1))
        assert bool(spans(probabilities, duration)) is heard_there


@pytest.mark.parametrize(
    ("probability", "no_speech_prob", "doubted"),
    [(0.5, 0.6, True), (0.5, 0.2, False), (0.95, 0.9, False), (0.75, 0.5, True)],
)
def test_two_have_to_doubt(probability: float, no_speech_prob: float, doubted: bool):
    probabilities, _ = heard((2.0, 0.05), (0.5, probability), (2.0, 0.05))
    assert doubtful(probabilities, Span(1.5, 3.0), no_speech_prob) is doubted


@pytest.mark.parametrize("text", ["", "x", "10,12", "30,10", "10,10,30", "5,30", "10,40", "10.5,30", "-1,30"])
def test_window_lengths_that_cannot_be_say_which_can(text):
    with pytest.raises(ValueError, match=r"whole seconds in rising order, from 10 and up to 30"):
        buckets_of(text)


def test_window_lengths_that_were_given_are_the_ones_used():
    buckets = buckets_of("10,24,30")
    assert bucket_s(9.0, buckets) == 24 and bucket_s(23.0, buckets) == 30
    probabilities, duration = heard((9.0, 0.9), (3.0, 0.01), (9.0, 0.9), (3.0, 0.01), (9.0, 0.9))
    of_three = [
        bucket_s(w.length, buckets) for w in plan(spans(probabilities, duration), duration, probabilities, buckets)
    ]
    # two of 24 s or one of 30 s hold no three pieces of 9 s and their pauses any cheaper
    assert sum(of_three) < 3 * 30 and set(of_three) <= set(buckets)
    alone = plan(spans(probabilities, duration), duration, probabilities, buckets_of("30"))
    assert len(alone) == 2  # windows of one price are as few as can be
