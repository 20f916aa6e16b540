"""What IndicConformer's tokens say: text, words, when, and how sure.

What it is: pure functions from a decode (tokens with frames and log-probabilities) to words. A frame's duration comes
from the lengths of this very window, because what the model's users write about it disagrees.
What it refuses to be: an editor of text. Pieces are joined as the vocabulary spells them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.hosts.whisper_wire import Word

_START = "▁"


@dataclass(frozen=True)
class Spoken:
    """One token: its local id, the frames ``[first, last]`` it was heard in, and its log-probability."""

    token: int
    first: int
    last: int
    logprob: float


@dataclass(frozen=True)
class Decoded:
    """What one window says: ``words`` in seconds from the window's start, ``spelled`` the tokens of each."""

    tokens: tuple[int, ...]
    text: str
    words: tuple[Word, ...]
    spelled: tuple[tuple[int, ...], ...]
    avg_logprob: float


def read(spoken: Sequence[Spoken], pieces: Sequence[str], frame_s: float) -> Decoded:
    """``spoken`` in the pieces of its language. ``frame_s``: seconds an encoder frame lasts."""
    text = "".join(pieces[s.token] for s in spoken).replace(_START, " ").strip()
    logprobs = [s.logprob for s in spoken]
    groups = _words(spoken, pieces)
    return Decoded(
        tokens=tuple(s.token for s in spoken),
        text=" ".join(text.split()),
        words=tuple(_word(group, pieces, frame_s) for group in groups),
        spelled=tuple(tuple(s.token for s in group) for group in groups),
        avg_logprob=sum(logprobs) / len(logprobs) if logprobs else 0.0,
    )


def _words(spoken: Sequence[Spoken], pieces: Sequence[str]) -> list[list[Spoken]]:
    """Tokens by word. A piece that is nothing but the mark of a start belongs to what follows it."""
    groups: list[list[Spoken]] = []
    for one in spoken:
        if not groups or (pieces[one.token].startswith(_START) and _spelled(groups[-1], pieces)):
            groups.append([])
        groups[-1].append(one)
    return [group for group in groups if _spelled(group, pieces)]


def _spelled(group: Sequence[Spoken], pieces: Sequence[str]) -> str:
    return "".join(pieces[s.token] for s in group).replace(_START, "")


def _word(group: Sequence[Spoken], pieces: Sequence[str], frame_s: float) -> Word:
    sure = math.exp(sum(s.logprob for s in group) / len(group))
    start, end = group[0].first * frame_s, (group[-1].last + 1) * frame_s
    return Word(_spelled(group, pieces), round(start, 2), round(end, 2), round(min(1.0, sure), 4))
