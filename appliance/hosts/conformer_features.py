"""Log-mel features as IndicConformer's published preprocessor defines them, in NumPy.

What it is: 16 kHz samples to ``[80, frames]``, normalised over this utterance alone: pre-emphasis 0.97, a symmetric
Hann window of 25 ms every 10 ms, 512-point power spectrum, 80 Slaney mel bands to 8 kHz, ``log(x + 2**-24)``, then each
band to mean 0 and deviation 1 (n - 1).
What it refuses to be: batched. Statistics over a padded batch would make a text depend on its company.
Where it is not settled: the edges are padded with zeros, as NeMo and onnx-asr's ``nemo80`` do today; NeMo before 1.23
mirrored the sound there, which changes the first and the last frame.
Cost: 12 ms of CPU for 15 s. Spectra are computed in float64: in float32 a silent band is off by more than 1e-4.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

RATE = 16000
MELS = 80
HOP = 160
FRAMES_PER_S = RATE // HOP
_FFT = 512
_WINDOW = 400
_PREEMPHASIS = 0.97
_GUARD = 2.0**-24
_LEAST_DEVIATION = 1e-5
# Shorter than this, statistics over time mean nothing and the encoder's strides leave no frame.
_LEAST_SAMPLES = RATE // 4


def log_mel(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """``[80, len(samples) // 160]`` of 16-bit samples; what is shorter than 0.25 s is followed by silence."""
    sound = np.zeros(max(len(samples), _LEAST_SAMPLES))
    sound[: len(samples)] = samples
    sound /= 32768.0
    frames = len(sound) // HOP
    # the 400-point window lies in the middle of the 512-point transform, whose frames are centred
    padded = np.zeros(len(sound) + _WINDOW)
    padded[_WINDOW // 2 : _WINDOW // 2 + len(sound)] = sound
    padded[_WINDOW // 2 + 1 : _WINDOW // 2 + len(sound)] -= _PREEMPHASIS * sound[:-1]
    views = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::HOP][:frames]
    spectra = np.fft.rfft(views * _hann(), n=_FFT)
    power = spectra.real**2 + spectra.imag**2
    bands = np.log(power @ _mel_bands() + _GUARD).T
    bands -= bands.mean(axis=1, keepdims=True)
    bands /= bands.std(axis=1, ddof=1, keepdims=True) + _LEAST_DEVIATION
    return bands.astype(np.float32)


@cache
def _hann() -> NDArray[np.float64]:
    window: NDArray[np.float64] = np.hanning(_WINDOW).astype(np.float64)
    return window


@cache
def _mel_bands() -> NDArray[np.float64]:
    """``[257, 80]``: triangles of equal area, even on Slaney's scale from 0 to 8 kHz."""
    edges = _to_hertz(np.linspace(0.0, float(_to_mel(RATE / 2)), MELS + 2))
    bins = np.linspace(0.0, RATE / 2, _FFT // 2 + 1)[:, np.newaxis]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (edges[2:] - edges[:-2])
    return triangles


# Slaney's scale: even below 1 kHz (15 mels), logarithmic above.
_LINEAR_HERTZ = 200.0 / 3.0
_BREAK_HERTZ, _BREAK_MEL = 1000.0, 15.0
_LOG_STEP = np.log(6.4) / 27.0


def _to_mel(hertz: float) -> float:
    if hertz < _BREAK_HERTZ:
        return hertz / _LINEAR_HERTZ
    return float(_BREAK_MEL + np.log(hertz / _BREAK_HERTZ) / _LOG_STEP)


def _to_hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _BREAK_HERTZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    hertz: NDArray[np.float64] = np.where(mel < _BREAK_MEL, mel * _LINEAR_HERTZ, above).astype(np.float64)
    return hertz
