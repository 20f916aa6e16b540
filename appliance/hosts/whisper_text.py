"""What Whisper's tokens mean: is this decode to be believed, where are its segments, when was each word said.

What it is: pure functions and the tables of the temperature ladder, the rules of openai/whisper's
``transcribe.py`` and faster-whisper's (thresholds 2.4, -1.0, 0.6).
What it refuses to be: a caller of the model.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from appliance.hosts.whisper_wire import Word

TIMESTAMP_S = 0.02
LADDER = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MAX_COMPRESSION = 2.4
MIN_LOGPROB = -1.0
NO_SPEECH = 0.6
_OPENING = "\"'“¿([{-"
_CLOSING = "\"'.。,，!！?？:：;।॥”)]}、"
_SENTENCE_END = ".。!！?？।"


@dataclass(frozen=True)
class Decode:
    """One decode of one window: the tokens after the prompt, and what the model thought of them.

    ``avg_logprob`` counts the end token; ``capped``: cut off by the token cap. ``words`` only where aligned.
    ``languages``: every language's probability, where that was all that was asked.
    """

    tokens: tuple[int, ...]
    text: str
    temperature: float
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    capped: bool
    language: str
    language_probability: float
    words: tuple[Word, ...] | None = None
    languages: tuple[tuple[str, float], ...] = ()

    @property
    def silent(self) -> bool:
        """The model says nobody spoke, and its text is not confident enough to contradict."""
        return self.no_speech_prob > NO_SPEECH and self.avg_logprob < MIN_LOGPROB

    @property
    def believable(self) -> bool:
        """No reason to decode again: not repetitive, not improbable, not cut off (or plainly silence)."""
        if self.capped or self.compression_ratio > MAX_COMPRESSION:
            return False
        return self.avg_logprob >= MIN_LOGPROB or self.silent


def best(decodes: Sequence[Decode]) -> Decode:
    """Of decodes that were all disbelieved: the likeliest that does not repeat itself, else the likeliest."""
    calm = [d for d in decodes if d.compression_ratio <= MAX_COMPRESSION]
    return max(calm or decodes, key=lambda d: d.avg_logprob)


def compression_ratio(text: str) -> float:
    """Bytes over zlib's bytes: repetition compresses well."""
    raw = text.strip().encode()
    return len(raw) / len(zlib.compress(raw))


@dataclass(frozen=True)
class Piece:
    """One segment inside a window; seconds from the window's start."""

    start: float
    end: float
    tokens: tuple[int, ...]


def split(tokens: Sequence[int], *, timestamp_begin: int, length_s: float) -> tuple[list[Piece], float]:
    """Segments of a window of ``length_s``, and how far into it they reach.

    Two timestamps in a row part segments. A single one at the end says that nothing follows; otherwise what
    comes after the last pair is unfinished, and the next window has to begin there (the second value).
    """
    marks = [i for i in range(1, len(tokens)) if tokens[i] >= timestamp_begin and tokens[i - 1] >= timestamp_begin]
    complete = len(tokens) >= 2 and tokens[-2] < timestamp_begin <= tokens[-1]

    def seconds(token: int) -> float:
        return min(length_s, (token - timestamp_begin) * TIMESTAMP_S)

    if not marks:
        stamps = [t for t in tokens if t > timestamp_begin]
        end = seconds(stamps[-1]) if stamps else length_s
        return [Piece(0.0, end, tuple(tokens))], length_s
    pieces, begin = [], 0
    for mark in [*marks, len(tokens)] if complete else marks:
        part = tuple(tokens[begin:mark])
        pieces.append(Piece(seconds(part[0]), seconds(part[-1]), part))
        begin = mark
    return pieces, length_s if complete else seconds(tokens[begin - 1])


@dataclass
class _Timed:
    word: str
    tokens: list[int]
    start: float
    end: float


def time_words(
    words: Sequence[str],
    word_tokens: Sequence[Sequence[int]],
    alignment: Sequence[tuple[int, int]],
) -> tuple[Word, ...]:
    """When each word was said, in seconds from the window's start.

    ``words`` with their tokens include the end token as the last; ``alignment`` pairs (token, 20 ms step)
    along the path of dynamic time warping.
    """
    if len(words) <= 1 or not alignment:
        return ()
    text = np.array([pair[0] for pair in alignment])
    steps = np.array([pair[1] for pair in alignment])
    jumps = np.pad(np.diff(text), (1, 0), constant_values=1).astype(bool)
    at = steps[jumps] * TIMESTAMP_S
    edges = np.minimum(np.cumsum([0, *(len(t) for t in word_tokens[:-1])]), len(at) - 1)
    timed = [
        _Timed(word, list(tokens), float(at[a]), float(at[b]))
        for word, tokens, a, b in zip(words[:-1], word_tokens[:-1], edges[:-1], edges[1:], strict=True)
    ]
    _shorten(timed)
    return tuple(
        Word(w.word.strip(), round(w.start, 2), round(max(w.start, w.end), 2))
        for w in _join_punctuation(timed)
        if w.word.strip()
    )


def _shorten(words: list[_Timed]) -> None:
    """Words at a sentence's edge take the pause into their time: hold them to twice the median."""
    lengths = [w.end - w.start for w in words if w.end > w.start]
    longest = 2 * min(0.7, float(np.median(lengths))) if lengths else 0.0
    for before, word in pairwise(words):
        if word.end - word.start <= longest:
            continue
        if word.word.strip() in _SENTENCE_END and word.word.strip():
            word.end = word.start + longest
        elif before.word.strip() in _SENTENCE_END and before.word.strip():
            word.start = word.end - longest
    # The first word of a window has no word before it that could tell where it began.
    if words and words[0].end - words[0].start > longest > 0:
        words[0].start = words[0].end - longest


def _join_punctuation(words: list[_Timed]) -> list[_Timed]:
    """Opening marks belong to the word after them, closing marks to the word before."""
    joined: list[_Timed] = []
    opening: _Timed | None = None
    for word in words:
        bare = word.word.strip()
        if opening is not None:
            word = _Timed(opening.word + word.word.lstrip(), opening.tokens + word.tokens, word.start, word.end)
            opening = None
        if bare and bare in _OPENING and word.word.startswith(" "):
            opening = word
        elif bare and bare in _CLOSING and joined:
            joined[-1].word += bare
            joined[-1].tokens += word.tokens
        else:
            joined.append(word)
    if opening is not None:
        joined.append(opening)
    return joined
