"""CTC decoding under a language's mask: greedy for a batch, and a beam that can be told words to expect.

What it is: pure functions on the head's log-probabilities. The mask comes first and the probabilities are made to sum
to one again over what is left, as the published code does; frames past the window's own length do not exist.
What it refuses to be: a language model. Hotwords only tip what was nearly heard.
Cost of 15 s on one core: greedy 0.7 ms; the beam 15 ms where the model is sure, 125 ms where it is not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.hosts.conformer_files import BLANK
from appliance.hosts.conformer_text import Spoken

Scores = NDArray[np.float32]
BEAM = 8
_CANDIDATES = 12
_LEAST_LOGPROB = -9.0
# Nats for each letter of a hotword that was heard in its place, taken back when the word turns out another.
BONUS = 0.7
_NEVER = -1e30


def masked(logprobs: Scores, length: int, columns: NDArray[np.intp]) -> Scores:
    """``[length, 257]`` of one item's ``[frames, 5633]``: its language only, normalised again."""
    own = logprobs[:length, columns]
    top = own.max(axis=1, keepdims=True)
    normal: Scores = own - top - np.log(np.exp(own - top).sum(axis=1, keepdims=True))
    return normal


def greedy(scores: Scores) -> list[Spoken]:
    """The likeliest token of each frame, repeats joined, blanks left out."""
    if not len(scores):
        return []
    best = scores.argmax(axis=1)
    sure = scores.max(axis=1)
    edges = np.flatnonzero(np.diff(best)) + 1
    starts, ends = np.concatenate(([0], edges)), np.concatenate((edges, [len(best)]))
    return [
        Spoken(int(best[a]), int(a), int(b) - 1, float(sure[a:b].max()))
        for a, b in zip(starts, ends, strict=True)
        if best[a] != BLANK
    ]


class Hotwords:
    """Words to expect, as a tree of letters. ``states`` are nodes of it; the root waits for a word to begin."""

    def __init__(self, words: Sequence[str], pieces: Sequence[str]) -> None:
        self._root: dict[str, Any] = {}
        self._pieces = pieces
        for word in words:
            node = self._root
            for letter in " ".join(word.split()):
                node = node.setdefault(letter, {})
            node["end"] = {}

    def start(self) -> _Hope:
        """Before the first token."""
        return _Hope(self._root, 0.0)

    def after(self, hope: _Hope, token: int) -> tuple[_Hope, float]:
        """The state after ``token``, and what that adds to the score."""
        gained = 0.0
        for letter in self._pieces[token]:
            hope, change = self._letter(hope, " " if letter == "▁" else letter)
            gained += change
        return hope, gained

    def _letter(self, hope: _Hope, letter: str) -> tuple[_Hope, float]:
        node = hope.node
        if letter == " " and node is not None and "end" in node:
            return _Hope(node[" "], hope.pending) if " " in node else _Hope(self._root, 0.0), 0.0
        if node is not None and letter in node:
            return _Hope(node[letter], hope.pending + BONUS), BONUS
        # another word after all: what was given is taken back
        return _Hope(self._root if letter == " " else None, 0.0), -hope.pending

    def closing(self, hope: _Hope) -> float:
        """At the end of the window: a word that is only begun earns nothing."""
        return 0.0 if hope.node is not None and "end" in hope.node else -hope.pending


@dataclass(frozen=True)
class _Hope:
    """Where in the tree, None inside a word that is none of its, and what its letters have earned so far."""

    node: dict[str, Any] | None
    pending: float


@dataclass
class _Beam:
    """One prefix: log-probability of ending in a blank and in its last token, and what hotwords added."""

    blank: float
    token: float
    heard: tuple[Spoken, ...] = ()
    hope: _Hope = field(default_factory=lambda: _Hope(None, 0.0))
    bonus: float = 0.0

    @property
    def score(self) -> float:
        return float(np.logaddexp(self.blank, self.token)) + self.bonus


def beam(scores: Scores, hotwords: Hotwords | None = None, width: int = BEAM) -> list[Spoken]:
    """The likeliest sequence over all its alignments, by prefix search (Graves 2012; Hannun et al. 2014)."""
    start = hotwords.start() if hotwords is not None else _Hope(None, 0.0)
    beams: dict[tuple[int, ...], _Beam] = {(): _Beam(0.0, _NEVER, hope=start)}
    for frame, row in enumerate(scores):
        nearest = np.argpartition(row, -_CANDIDATES)[-_CANDIDATES:]
        candidates = [(int(k), float(row[k])) for k in nearest if row[k] >= _LEAST_LOGPROB and k != BLANK]
        grown: dict[tuple[int, ...], _Beam] = {}
        for prefix, one in beams.items():
            _stay(grown, prefix, one, float(row[BLANK]), row, frame)
            for token, logprob in candidates:
                _extend(grown, prefix, one, token, logprob, frame, hotwords)
        beams = dict(sorted(grown.items(), key=lambda item: -item[1].score)[:width])
    final = max(beams.values(), key=lambda b: b.score + (hotwords.closing(b.hope) if hotwords is not None else 0.0))
    return list(final.heard)


def _stay(
    grown: dict[tuple[int, ...], _Beam], prefix: tuple[int, ...], one: _Beam, blank: float, row: Scores, frame: int
) -> None:
    """The prefix as it is: a blank, or its last token going on."""
    same = grown.setdefault(prefix, _Beam(_NEVER, _NEVER))
    same.heard, same.hope, same.bonus = one.heard, one.hope, one.bonus
    same.blank = float(np.logaddexp(same.blank, np.logaddexp(one.blank, one.token) + blank))
    if prefix:
        same.token = float(np.logaddexp(same.token, one.token + float(row[prefix[-1]])))
        last = same.heard[-1]
        # heard on while it is likelier than silence; only for when the word ends
        if frame == last.last + 1 and row[last.token] > blank:
            longer = Spoken(last.token, last.first, frame, max(last.logprob, float(row[last.token])))
            same.heard = (*same.heard[:-1], longer)


def _extend(
    grown: dict[tuple[int, ...], _Beam],
    prefix: tuple[int, ...],
    one: _Beam,
    token: int,
    logprob: float,
    frame: int,
    hotwords: Hotwords | None,
) -> None:
    """The prefix and one more token; the same token again only after a blank."""
    repeated = bool(prefix) and prefix[-1] == token
    came = (one.blank if repeated else float(np.logaddexp(one.blank, one.token))) + logprob
    if came <= _NEVER / 2:
        return
    longer = grown.get((*prefix, token))
    if longer is None:
        hope, gained = (one.hope, 0.0) if hotwords is None else hotwords.after(one.hope, token)
        heard = (*one.heard, Spoken(token, frame, frame, logprob))
        longer = grown[(*prefix, token)] = _Beam(_NEVER, _NEVER, heard, hope, one.bonus + gained)
    longer.token = float(np.logaddexp(longer.token, came))
