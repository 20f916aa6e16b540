"""The front end against an independent float64 one: direct sums, no FFT, no vector tricks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from appliance.hosts.conformer_features import log_mel


def slow_log_mel(samples: np.ndarray) -> np.ndarray:
    """As the published preprocessor is described, one number at a time where that can be borne."""
    x = samples.astype(np.float64) / 32768.0
    x = np.array([x[0], *(x[i] - 0.97 * x[i - 1] for i in range(1, len(x)))])
    frames = len(x) // 160
    angles = np.outer(np.arange(257), np.arange(512)) * (2 * math.pi / 512)
    cosine, sine = np.cos(angles), np.sin(angles)
    window = np.zeros(512)
    window[56:456] = [0.5 - 0.5 * math.cos(2 * math.pi * n / 399) for n in range(400)]
    power = np.zeros((frames, 257))
    padded = np.concatenate([np.zeros(256), x, np.zeros(256)])
    for t in range(frames):
        frame = padded[t * 160 : t * 160 + 512] * window
        power[t] = (cosine @ frame) ** 2 + (sine @ frame) ** 2

    def mel(f: float) -> float:
        return f * 3 / 200 if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4)

    def hertz(m: float) -> float:
        return m * 200 / 3 if m < 15 else 1000 * math.exp((m - 15) * math.log(6.4) / 27)

    edges = [hertz(mel(8000) * i / 81) for i in range(82)]
    bank = np.zeros((80, 257))
    for band in range(80):
        low, mid, high = edges[band : band + 3]
        for k in range(257):
            f = k * 16000 / 512
            inside = max(0.0, min((f - low) / (mid - low), (high - f) / (high - mid)))
            bank[band, k] = inside * 2 / (high - low)
    out = np.log(power @ bank.T + 2.0**-24).T
    for row in out:
        mean = sum(row) / frames
        deviation = math.sqrt(sum((v - mean) ** 2 for v in row) / (frames - 1))
        row[:] = (row - mean) / (deviation + 1e-5)
    return out


def signals() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    t = np.arange(16000 * 2) / 16000
    chirp = np.sin(2 * np.pi * (100 + 1500 * t) * t) * (t % 0.5) * 30000
    return {
        "noise": random.integers(-8000, 8000, 16000),
        "chirp with silences": np.where((t % 0.7) < 0.2, 0, chirp),
        "faint": random.integers(-2, 3, 9111),
        "one tone": np.sin(2 * np.pi * 1000 * t[:12345]) * 32000,
    }


@pytest.mark.parametrize("name", list(signals()))
def test_within_a_ten_thousandth_of_float64(name: str) -> None:
    samples = signals()[name].astype(np.int16)
    ours, theirs = log_mel(samples), slow_log_mel(samples)
    assert ours.shape == theirs.shape == (80, len(samples) // 160)
    assert ours.dtype == np.float32
    assert np.abs(ours - theirs).max() <= 1e-4


def test_each_band_has_mean_0_and_deviation_1() -> None:
    mel = log_mel(signals()["noise"].astype(np.int16))
    assert np.allclose(mel.mean(axis=1), 0, atol=1e-4)
    assert np.allclose(mel.std(axis=1, ddof=1), 1, atol=1e-3)


@pytest.mark.parametrize("count", [0, 1, 159, 4000])
def test_what_is_very_short_is_followed_by_silence(count: int) -> None:
    mel = log_mel(np.full(count, 1000, np.int16))
    assert mel.shape == (80, 25)
    assert np.isfinite(mel).all()
