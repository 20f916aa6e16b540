"""Sound as a live session brings it: PCM16, µ-law or A-law at its own rate; and where a turn begins and ends.

What it is: pure functions and the state of one session. The bytes of a turn are kept as they came and are transcribed
as such; for the voice detector alone they are brought to 16 kHz by straight lines between samples.
What it refuses to be: a resampler for the recogniser; FFmpeg does that behind the gateway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Codec = Literal["pcm_s16le", "mulaw", "alaw"]
RATE = 16000
FRAME = 512
FRAME_MS = FRAME * 1000 / RATE


@dataclass(frozen=True)
class Format:
    """``codec`` as ``/v1/audio/transcriptions`` calls it, ``rate`` in Hz."""

    codec: Codec = "pcm_s16le"
    rate: int = 24000

    @property
    def width(self) -> int:
        """Bytes a sample."""
        return 2 if self.codec == "pcm_s16le" else 1

    def ms(self, size: int) -> float:
        """How long ``size`` bytes last."""
        return size / self.width / self.rate * 1000

    def size(self, ms: float) -> int:
        """How many bytes last ``ms``."""
        return max(0, int(ms * self.rate / 1000)) * self.width

    def samples(self, data: bytes) -> NDArray[np.int16]:
        """``data`` as 16-bit samples at its own rate."""
        if self.codec == "pcm_s16le":
            return np.frombuffer(data, "<i2")
        return _g711(self.codec)[np.frombuffer(data, np.uint8)]


@cache
def _g711(codec: Codec) -> NDArray[np.int16]:
    """All 256 codes of G.711."""
    code = np.arange(256)
    if codec == "mulaw":
        inverted = ~code & 0xFF
        size = (((inverted & 15) << 3) + 132 << (inverted >> 4 & 7)) - 132
        return np.where(inverted & 0x80, -size, size).astype(np.int16)
    toggled = code ^ 0x55
    exponent, mantissa = toggled >> 4 & 7, (toggled & 15) << 4
    size = np.where(exponent == 0, mantissa + 8, mantissa + 264 << np.maximum(exponent - 1, 0))
    return np.where(toggled & 0x80, size, -size).astype(np.int16)


class ForDetector:
    """16 kHz frames of 512 samples out of a stream of any rate; what does not fill a frame waits."""

    def __init__(self, rate: int) -> None:
        self._step = rate / RATE
        self._at = 0.0
        self._left = np.zeros(0, np.int16)
        self._ready = np.zeros(0, np.int16)

    def frames(self, samples: NDArray[np.int16]) -> Iterator[NDArray[np.int16]]:
        """Whole frames, once there are any."""
        heard = np.concatenate([self._left, samples])
        count = int((len(heard) - 1 - self._at) / self._step) + 1 if len(heard) > self._at + 1 else 0
        points = self._at + np.arange(count) * self._step
        new = np.interp(points, np.arange(len(heard)), heard).astype(np.int16) if count else np.zeros(0, np.int16)
        self._at += count * self._step
        whole = min(int(self._at), max(0, len(heard) - 1))
        self._left, self._at = heard[whole:], self._at - whole
        self._ready = np.concatenate([self._ready, new])
        while len(self._ready) >= FRAME:
            yield self._ready[:FRAME]
            self._ready = self._ready[FRAME:]


@dataclass(frozen=True)
class VadSettings:
    """OpenAI's ``server_vad``."""

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500


class Turns:
    """Begins when a frame reaches the threshold, ends once speech has been under it for long enough."""

    def __init__(self, settings: VadSettings) -> None:
        self._settings = settings
        # a voice that fades must not end a turn at once: below this, and for long, it is silence
        self._leave = max(0.05, settings.threshold - 0.15)
        self._now_ms = 0.0
        self._last_ms = 0.0
        self.speaking = False

    @property
    def spoken_ms(self) -> float:
        """When somebody last spoke, in ms since the session's first sample."""
        return self._last_ms

    @property
    def quiet_ms(self) -> float:
        """How long nobody has."""
        return self._now_ms - self._last_ms

    def frame(self, probability: float) -> tuple[Literal["started", "stopped"], float] | None:
        """One more 32 ms: whether a turn began or ended, and when (ms since the session's first sample)."""
        start_ms, self._now_ms = self._now_ms, self._now_ms + FRAME_MS
        if not self.speaking:
            if probability < self._settings.threshold:
                return None
            self.speaking, self._last_ms = True, self._now_ms
            return "started", max(0.0, start_ms - self._settings.prefix_padding_ms)
        if probability >= self._leave:
            self._last_ms = self._now_ms
        elif self._now_ms - self._last_ms >= self._settings.silence_duration_ms:
            self.speaking = False
            return "stopped", self._now_ms
        return None
