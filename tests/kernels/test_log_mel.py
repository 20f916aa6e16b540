"""The reference of ``log_mel`` against the front ends that the speech hosts use on a CPU, and against plain sums."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faster_whisper.feature_extractor import FeatureExtractor

from appliance.hosts.conformer_features import log_mel as conformer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "kernels"))
from appliance_kernels import log_mel as ours


def sounds() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    t = np.arange(32000) / 16000
    chirp = np.sin(2 * np.pi * (100 + 1500 * t) * t) * (t % 0.5) * 30000
    found = {
        "noise": random.integers(-8000, 8000, 16000),
        "chirp with silences": np.where((t % 0.7) < 0.2, 0, chirp),
        "one tone": np.sin(2 * np.pi * 1000 * t[:12345]) * 32000,
        "faint": random.integers(-2, 3, 9111),
        "short": random.integers(-8000, 8000, 700),
        "silence": np.zeros(8000),
    }
    return {name: each.astype(np.int16) for name, each in found.items()}


def whisper(sound: np.ndarray, frames: int, mels: int = 80) -> np.ndarray:
    """As ``hosts/whisper_model.features`` asks for it: sound of full scale 1 in a window of silence."""
    window = np.zeros(max(frames * 160, len(sound) + 480), np.float32)
    window[: len(sound)] = sound
    return np.asarray(FeatureExtractor(feature_size=mels)(window))[:, :frames]


def features(pcm: Any, rate: int, front: str, mels: int, frames: int) -> np.ndarray:
    samples = torch.from_numpy(np.ascontiguousarray(pcm))
    samples = samples[None, :, None] if samples.dim() == 1 else samples[None]
    return ours.log_mel(samples, torch.tensor([samples.shape[1]]), rate, front, mels, frames)[0].numpy()


@pytest.mark.parametrize("name", sounds())
@pytest.mark.parametrize("mels", [80, 128])
def test_whisper_s_features_at_16_khz(name: str, mels: int) -> None:
    sound = sounds()[name]
    found = features(sound, 16000, "whisper", mels, 300)
    assert np.abs(found - whisper(sound / np.float32(32768), 300, mels)).max() < 1e-4


@pytest.mark.parametrize("name", [name for name in sounds() if name != "silence"])
def test_indicconformer_s_features_at_16_khz(name: str) -> None:
    sound = sounds()[name]
    wanted = conformer(sound)
    found = features(sound, 16000, "conformer", 80, 210)
    assert np.abs(found[:, : wanted.shape[1]] - wanted).max() < 1e-4
    assert not found[:, wanted.shape[1] :].any()


def resampled(mono: np.ndarray, rate: int) -> np.ndarray:
    """The filter of ``log_mel.filters`` one output at a time: a windowed sinc about where the output lies."""
    narrow = min(1.0, 16000 / rate)
    half, cut = math.ceil(16 / narrow), 0.94 * narrow
    out = np.zeros(len(mono) * 16000 // rate)
    for m in range(len(out)):
        at = m * rate / 16000
        near = np.arange(math.floor(at + 1e-9) - half + 1, math.floor(at + 1e-9) + half + 1)
        away = near - at
        taps = cut * np.sinc(cut * away) * np.i0(9.0 * np.sqrt(np.maximum(0, 1 - (away / half) ** 2))) / np.i0(9.0)
        inside = (near >= 0) & (near < len(mono))
        out[m] = (taps / taps.sum())[inside] @ mono[near[inside]]
    return out


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_other_rates_and_channels_are_the_front_ends_after_resampling(rate: int, channels: int) -> None:
    random = np.random.default_rng(rate)
    t = np.arange(rate * 2 // 5) / rate
    loud = (np.sin(2 * np.pi * 700 * t) * 20000 * (t < 0.2))[:, None] + random.normal(0, 300, (len(t), channels))
    pcm = loud.astype(np.int16)
    mono = resampled(pcm.astype(np.float64).mean(1), rate)
    wanted = conformer(mono)  # type: ignore[arg-type]  # as numbers, not rounded to 16 bits again
    assert np.abs(features(pcm, rate, "conformer", 80, wanted.shape[1]) - wanted).max() < 1e-4
    assert np.abs(features(pcm, rate, "whisper", 80, 50) - whisper((mono / 32768).astype(np.float32), 50)).max() < 1e-4
    floats = (pcm / 32768).astype(np.float32)
    assert np.abs(features(floats, rate, "conformer", 80, wanted.shape[1]) - wanted).max() < 1e-4


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_resampling_keeps_tones_and_drops_what_16_khz_cannot_hold(rate: int) -> None:
    t = np.arange(rate) / rate
    kept = min(rate, 16000) / 2 * 0.7
    tone = torch.from_numpy(np.sin(2 * np.pi * kept * t))[None]
    wanted = np.sin(2 * np.pi * kept * np.arange(16000) / 16000)
    found = ours._resampled(tone, ours.filters(rate))[0].numpy()
    assert len(found) == 16000 and np.abs(found - wanted)[200:-200].max() < 1e-3
    if rate > 16000:
        high = torch.from_numpy(np.sin(2 * np.pi * 9500 * t))[None]
        assert ours._resampled(high, ours.filters(rate))[0].numpy()[200:-200].std() < 1e-3


def test_what_it_does_not_know_is_one_sentence() -> None:
    pcm, n = torch.zeros(1, 1600, 1, dtype=torch.int16), torch.tensor([1600])
    for given, words in (
        ((pcm, n, 22050, "whisper", 80, 10), "22050 Hz is none of"),
        ((pcm, n, 16000, "conformer", 128, 10), "no front end 'conformer' with 128 bands"),
        ((pcm[..., 0], n, 16000, "whisper", 80, 10), "batch, longest, channels"),
        ((pcm.double(), n, 16000, "whisper", 80, 10), "int16 or float32, not torch.float64"),
    ):
        with pytest.raises(ValueError, match=words):
            ours.log_mel(*given)
