"""Which stretches of an upload Whisper hears, and how long a window each gets.

What it is: pure functions from speech probabilities to windows. Whisper was trained on 30 s windows and its
encoder costs more than linearly in the window (base int8: 0.09 s of CPU for 10 s, 0.7 s for 30 s), while most
telephone clips last 2 s. So a window is the smallest of 10, 12, 20 and 30 s that holds its speech and at
least 2 s of silence after it. Shorter windows ruin the text: clip + 2 s without this floor gave WER 49 on
telephone prompts; with it, ``make bench-speech`` finds 6.1 where 30 s windows have 6.1.
What it refuses to be: a voice detector (Silero is) or a decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FRAMES_PER_S = 100
BUCKETS_S = (10, 12, 20, 30)
MARGIN_S = 2.0
LONGEST_S = BUCKETS_S[-1] - MARGIN_S
"""The most speech in one window."""

VAD_FRAME_S = 512 / 16000
# Telephone clips of one word peak as low as 0.2 in Silero v6; silence at 0.03, white noise at 0.13.
GATE = 0.2
ENTER, LEAVE = 0.35, 0.2
# The gate alone opens for clips this short: in 19 minutes of music on hold it opened 38 times, and what Whisper then
# wrote was "Thanks for watching!".
MUMBLE_S = 3.0
# Music that passes for speech does so for a moment: of 139 pieces of it none was surer than 0.76, and Whisper itself
# gave each in which it heard words at least 0.5 of having none; telephone clips of one word have at most 0.2.
SURE = 0.8
DOUBT = 0.35
PAD_S = 0.4
# CPU seconds for one window (base int8, one core): the encoder by bucket, and what every window costs besides.
COST_S = {10: 0.09, 12: 0.12, 20: 0.26, 30: 0.69}
COST_OF_ANY_S = 0.1
# Inside a pause this long a window is closed, so that the decoder has no silence to fill with words.
PAUSE_S = 5.0
# Over this long the speech probability is averaged to find a place to cut: a pause, not a plosive.
HUSH_S = 0.5


@dataclass(frozen=True)
class Span:
    """Seconds from the start of the upload."""

    start: float
    end: float

    @property
    def length(self) -> float:
        """Seconds."""
        return self.end - self.start


def bucket_s(length_s: float, buckets: Sequence[int] = BUCKETS_S) -> int:
    """The shortest window, in seconds, for ``length_s`` of sound. Full length for what leaves no margin."""
    return next((b for b in buckets if length_s + MARGIN_S <= b), BUCKETS_S[-1])


def buckets_of(text: str) -> tuple[int, ...]:
    """``10,12,20,30`` as window lengths. Raises ValueError, saying what would do."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or list(found) != sorted(set(found)) or found[0] < BUCKETS_S[0] or found[-1] != BUCKETS_S[-1]:
        raise ValueError(
            f"{text!r} are no window lengths; give whole seconds in rising order, from {BUCKETS_S[0]} and up to"
            f" {BUCKETS_S[-1]}, which is always one of them (as {','.join(map(str, BUCKETS_S))})"
        )
    return found


def token_cap(length_s: float, room: int) -> int:
    """The most tokens ``length_s`` of speech can plausibly hold, timestamps included; never above ``room``.

    English needs 5 to 6 a second; Indic scripts about two a letter, so up to 30.
    """
    return min(room, 32 + int(30 * length_s))


def spans(probabilities: NDArray[np.float32], duration_s: float) -> list[Span]:
    """Speech, by hysteresis over Silero's probabilities (one for each 32 ms), padded by ``PAD_S``; [] for none.

    Where something passes the gate but nothing reaches ``ENTER``, a clip of at most ``MUMBLE_S`` (a mumbled word) runs
    from the first to the last frame above the gate.
    """
    found = _runs(probabilities, ENTER, LEAVE)
    if not found and duration_s <= MUMBLE_S:
        above = np.flatnonzero(probabilities >= GATE)
        found = [(int(above[0]), int(above[-1]) + 1)] if len(above) else []
    merged: list[Span] = []
    for first, last in found:
        span = Span(max(0.0, first * VAD_FRAME_S - PAD_S), min(duration_s, last * VAD_FRAME_S + PAD_S))
        if merged and span.start <= merged[-1].end:
            span = Span(merged.pop().start, span.end)
        if span.length > 0:
            merged.append(span)
    return merged


def doubtful(probabilities: NDArray[np.float32], span: Span, no_speech_prob: float) -> bool:
    """Whether the detector is hardly sure of anybody in ``span`` and Whisper has its doubts as well."""
    first, last = int(span.start / VAD_FRAME_S), int(span.end / VAD_FRAME_S) + 1
    return no_speech_prob > DOUBT and bool((probabilities[first:last] < SURE).all())


def _runs(probabilities: NDArray[np.float32], enter: float, leave: float) -> list[tuple[int, int]]:
    """Half-open frame ranges that begin at ``enter`` and last while above ``leave``."""
    runs: list[tuple[int, int]] = []
    held = np.flatnonzero(probabilities >= leave)
    if not len(held):
        return runs
    for group in np.split(held, np.flatnonzero(np.diff(held) > 1) + 1):
        loud = group[probabilities[group] >= enter]
        if len(loud):
            runs.append((int(loud[0]), int(group[-1]) + 1))
    return runs


def plan(
    speech: Sequence[Span],
    duration_s: float,
    probabilities: NDArray[np.float32] | None = None,
    buckets: Sequence[int] = BUCKETS_S,
) -> list[Span]:
    """Windows that cover all ``speech``, none longer than ``LONGEST_S``, in order, not overlapping.

    Windows end in pauses, where that is cheapest by ``COST_S``. A short upload without a long pause is heard
    whole: trimming it would gain nothing and may cut a consonant. ``probabilities``: to cut speech that goes
    on for longer than a window where it is least like speech.
    """
    if not speech:
        return []
    windows = _cheapest([piece for span in speech for piece in cut(span, probabilities)], buckets)
    short = len(windows) == 1 and duration_s <= LONGEST_S
    if short and bucket_s(duration_s, buckets) == bucket_s(windows[0].length, buckets):
        return [Span(0.0, duration_s)]
    return windows


def _cheapest(pieces: Sequence[Span], buckets: Sequence[int]) -> list[Span]:
    """Neighbours joined into windows at the least total cost: shortest path over the pauses."""
    cost_s = {bucket: float(np.interp(bucket, list(COST_S), list(COST_S.values()))) for bucket in buckets}
    least, start = [0.0], [0]
    for end in range(1, len(pieces) + 1):
        costs: list[tuple[float, int]] = []
        for begin in range(end - 1, -1, -1):
            length = pieces[end - 1].end - pieces[begin].start
            paused = begin + 1 < end and pieces[begin + 1].start - pieces[begin].end >= PAUSE_S
            if costs and (paused or length > LONGEST_S):
                break
            costs.append((least[begin] + cost_s[bucket_s(length, buckets)] + COST_OF_ANY_S, begin))
        cost, begin = min(costs)
        least.append(cost)
        start.append(begin)
    windows: list[Span] = []
    end = len(pieces)
    while end:
        windows.append(Span(pieces[start[end]].start, pieces[end - 1].end))
        end = start[end]
    return windows[::-1]


def cut(span: Span, probabilities: NDArray[np.float32] | None, longest_s: float = LONGEST_S) -> list[Span]:
    """Pieces of at most ``longest_s``; each cut falls in the last third, where speech is least likely."""
    pieces = []
    start = span.start
    while span.end - start > longest_s:
        end = start + longest_s
        if probabilities is not None:
            first, last = int((start + longest_s * 2 / 3) / VAD_FRAME_S), int(end / VAD_FRAME_S)
            hush = int(HUSH_S / VAD_FRAME_S)
            if len(around := probabilities[first:last]) > hush:
                quiet = np.convolve(around, np.full(hush, 1 / hush, np.float32), mode="valid")
                end = min(end, (first + int(np.argmin(quiet)) + hush / 2) * VAD_FRAME_S)
        pieces.append(Span(start, end))
        start = end
    return [*pieces, Span(start, span.end)]
