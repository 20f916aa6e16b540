"""The voice detector without the library that carries it."""

from __future__ import annotations

import numpy as np
from faster_whisper.vad import get_vad_model

from appliance.hosts.voice import Voice


def test_it_hears_what_faster_whisper_hears() -> None:
    """Apart from the last frame, whose end faster-whisper 1.2.1 overwrites with zeros."""
    random = np.random.default_rng(0)
    t = np.arange(512 * 90) / 16000
    sound = np.sin(2 * np.pi * 180 * t) * (np.sin(2 * np.pi * 4 * t) > 0) * 9000 + random.normal(0, 300, len(t))
    samples = sound.astype(np.int16)
    theirs = get_vad_model()((samples / 32768).astype(np.float32)).reshape(-1)
    assert np.abs(Voice().hear(samples) - theirs)[:-1].max() < 1e-5


def test_silence_noise_and_nothing_are_no_speech() -> None:
    voice = Voice()
    assert voice.hear(np.zeros(0, np.int16)).shape == (0,)
    assert voice.hear(np.zeros(1000, np.int16)).shape == (2,)
    noise = np.random.default_rng(1).normal(0, 500, 32000).astype(np.int16)
    assert voice.hear(noise).max() < 0.35


def test_a_stream_is_heard_as_the_whole() -> None:
    voice = Voice()
    t = np.arange(512 * 60) / 16000
    samples = (np.sin(2 * np.pi * 200 * t) * (np.sin(2 * np.pi * 3 * t) > 0) * 8000).astype(np.int16)
    one = voice.listening()
    assert np.abs([one.frame(f) for f in samples.reshape(-1, 512)] - voice.hear(samples)).max() < 1e-4
