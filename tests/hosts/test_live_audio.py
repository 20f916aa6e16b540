"""Sound of a live session: formats, frames for the detector, and turns."""

from __future__ import annotations

import av
import numpy as np
import pytest

from appliance.hosts.live_audio import FRAME, ForDetector, Format, Turns, VadSettings


@pytest.mark.parametrize("codec", ["mulaw", "alaw"])
def test_all_codes_of_g711_are_what_ffmpeg_makes_of_them(codec: str) -> None:
    codes = bytes(range(256))
    decoder = av.CodecContext.create(f"pcm_{codec}", "r")
    decoder.sample_rate, decoder.layout = 8000, "mono"
    (frame,) = decoder.decode(av.Packet(codes))
    assert Format(codec, 8000).samples(codes).tolist() == frame.to_ndarray().reshape(-1).tolist()  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
def test_frames_are_16_khz_whatever_pieces_they_came_in(rate: int) -> None:
    t = np.arange(rate * 2) / rate
    sound = (np.sin(2 * np.pi * 300 * t) * 9000).astype(np.int16)
    whole = np.concatenate(list(ForDetector(rate).frames(sound)))
    cuts = np.sort(np.random.default_rng(0).choice(len(sound), 90, replace=False))
    detector = ForDetector(rate)
    pieces = [frame for piece in np.split(sound, cuts) for frame in detector.frames(piece)]
    assert all(len(frame) == FRAME for frame in pieces)
    assert np.array_equal(np.concatenate(pieces), whole)
    assert abs(len(whole) - 32000) <= FRAME + 2
    expected = np.sin(2 * np.pi * 300 * np.arange(len(whole)) / 16000) * 9000
    assert np.abs(whole - expected).max() < 250


def turns(probabilities: list[float], **settings: float) -> list[tuple[str, float]]:
    state = Turns(VadSettings(**settings))  # type: ignore[arg-type]
    return [event for p in probabilities if (event := state.frame(p)) is not None]


def test_a_turn_begins_before_the_voice_and_ends_after_a_silence() -> None:
    found = turns([0.0] * 20 + [0.9] * 30 + [0.0] * 30)
    assert found == [("started", 20 * 32 - 300), ("stopped", (20 + 30 + 16) * 32)]


def test_a_short_pause_and_a_fading_voice_do_not_end_a_turn() -> None:
    assert turns([0.9] * 5 + [0.0] * 10 + [0.9] * 5 + [0.4] * 40) == [("started", 0.0)]


def test_silence_is_no_turn() -> None:
    assert turns([0.3] * 500) == []
