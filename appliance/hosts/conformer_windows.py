"""Which stretches of an upload IndicConformer hears: windows of at most 15 s, cut in pauses.

What it is: pure functions from speech (``whisper_windows.spans``) to windows. The model drops words past about 18 s,
and its cost grows with the sound, so nothing is padded to a fixed length and silence between sentences is left out.
What it refuses to be: a voice detector (Silero is).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.hosts.whisper_windows import Span, cut

LONGEST_S = 15.0
# Pauses shorter than this stay inside a window: the encoder profits from what was said before.
PAUSE_S = 1.0
BUCKET_FRAMES = 200
"""Windows whose lengths round up to the same 2 s share a batch, so that little of it is padding."""


def plan(speech: Sequence[Span], probabilities: NDArray[np.float32] | None = None) -> list[Span]:
    """Windows that cover all ``speech`` in order, not overlapping, none longer than ``LONGEST_S``."""
    windows: list[Span] = []
    for piece in (p for span in speech for p in cut(span, probabilities, LONGEST_S)):
        before = windows[-1] if windows else None
        if before is not None and piece.start - before.end < PAUSE_S and piece.end - before.start <= LONGEST_S:
            windows[-1] = Span(before.start, piece.end)
        else:
            windows.append(piece)
    return windows


def bucket(frames: int) -> int:
    """``frames`` rounded up to what a batch of its kind is padded to."""
    return math.ceil(frames / BUCKET_FRAMES) * BUCKET_FRAMES
