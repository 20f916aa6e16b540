"""Decoding uploads in worker processes: what comes out, what is refused, and who dies alone."""

from __future__ import annotations

import asyncio
import io
import math
import os
import resource
import signal
import struct
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import pytest
import pytest_asyncio
from support import alive, wait_until

from appliance.errors import BadRequest, EngineUnavailable, TooLarge
from appliance.hosts.audio import RATE, AudioDecoder, DecodeLimits, Wanted
from appliance.hosts.audio_wire import LIFETIME_CPU_S

SECONDS = 1.5


def tone(rate: int, seconds: float = SECONDS) -> np.ndarray:
    """A 440 Hz tone, int16."""
    return (12000 * np.sin(2 * math.pi * 440 * np.arange(int(rate * seconds)) / rate)).astype(np.int16)


def wav(rate: int = RATE, seconds: float = SECONDS, channels: int = 1) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat(tone(rate, seconds), channels).tobytes())
    return out.getvalue()


def mulaw_wav(rate: int = 8000) -> bytes:
    """G.711 as telephone systems store it."""
    pcm = tone(rate).astype(np.int32)
    sign = np.where(pcm < 0, 0x80, 0)
    magnitude = np.minimum(np.abs(pcm), 32635) + 132
    exponent = np.floor(np.log2(magnitude)).astype(int) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    data = (~(sign | (exponent << 4) | mantissa) & 0xFF).astype(np.uint8).tobytes()
    head = struct.pack("<HHIIHHH", 7, 1, rate, rate, 1, 8, 0)
    chunks = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def encoded(container: str, codec: str, rate: int) -> bytes:
    """The tone in another container, made by FFmpeg here and now."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(rate)[np.newaxis], format="s16", layout="mono")
        frame.sample_rate = rate
        for resampled in av.AudioResampler(stream.format, "mono", rate, frame_size=stream.frame_size or 0).resample(
            frame
        ):
            file.mux(stream.encode(resampled))
        file.mux(stream.encode(None))
    return out.getvalue()


FORMATS = {
    "wav 16 kHz": lambda: wav(),
    "wav 44.1 kHz stereo": lambda: wav(44100, channels=2),
    "wav 8 kHz mu-law": mulaw_wav,
    "mp3": lambda: encoded("mp3", "mp3", 44100),
    "m4a": lambda: encoded("ipod", "aac", 44100),
    "ogg/opus": lambda: encoded("ogg", "libopus", 48000),
    "webm/opus": lambda: encoded("webm", "libopus", 48000),
    "flac": lambda: encoded("flac", "flac", 16000),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def decoder() -> AsyncIterator[AudioDecoder]:
    one = AudioDecoder(workers=1)
    await one.start()
    yield one
    await one.close()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", FORMATS)
async def test_every_format_gives_the_tone_at_16_khz_mono(decoder: AudioDecoder, name: str):
    samples = await decoder.decode(FORMATS[name]())
    assert samples.dtype == np.int16
    assert abs(len(samples) / RATE - SECONDS) < 0.12
    middle = samples[RATE // 4 : RATE].astype(float)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert abs(np.fft.rfftfreq(len(middle), 1 / RATE)[spectrum.argmax()] - 440) < 3
    assert 9000 < np.abs(middle).max() < 14000


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello, this is text" * 100,
        np.random.default_rng(1).bytes(5000),
        wav()[:40],
        wav(seconds=0),
        PLAYLIST,
        b"ffconcat version 1.0\nfile /etc/hostname\n",
    ],
    ids=["empty", "text", "noise bytes", "header cut off", "no samples", "hls playlist", "concat list"],
)
async def test_what_holds_no_audio_is_refused(decoder: AudioDecoder, data: bytes):
    with pytest.raises(BadRequest) as refused:
        await decoder.decode(data)
    assert refused.value.code == "no_audio"
    assert refused.value.status == 400


@pytest.mark.asyncio(loop_scope="module")
async def test_a_video_without_sound_is_refused(decoder: AudioDecoder):
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        file.mux(stream.encode(None))
    with pytest.raises(BadRequest) as refused:
        await decoder.decode(out.getvalue())
    assert refused.value.code == "no_audio"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_file_that_ends_early_gives_what_it_holds(decoder: AudioDecoder):
    samples = await decoder.decode(wav(seconds=2)[: RATE * 2 + 44])
    assert abs(len(samples) / RATE - 1.0) < 0.05


@pytest.mark.asyncio(loop_scope="module")
async def test_a_worker_cannot_open_anything(decoder: AudioDecoder):
    """Not by its manners but by its limits: no further descriptor, no written byte."""
    await decoder.decode(wav())
    (pid,) = decoder.pids
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    limits = {line[:26].strip(): line[26:].split()[:2] for line in lines}
    assert limits["Max open files"] == ["3", "3"]
    assert limits["Max file size"] == ["0", "0"]
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max address space"][1] != "unlimited"
    assert limits["Max cpu time"][1] != "unlimited"
    assert len(os.listdir(f"/proc/{pid}/fd")) == 3


async def test_too_long_audio_is_refused_and_the_worker_stays():
    decoder = AudioDecoder(workers=1, limits=DecodeLimits(max_audio_s=2))
    await decoder.start()
    before = decoder.pids
    with pytest.raises(TooLarge) as refused:
        await decoder.decode(wav(seconds=3))
    assert (refused.value.status, refused.value.code) == (413, "audio_too_long")
    assert len(await decoder.decode(wav(seconds=2))) == 2 * RATE
    assert decoder.pids == before
    await decoder.close()


async def test_a_killed_worker_fails_its_own_file_only():
    """The stuck file is answered no_audio; the other worker's file, and the next one, are decoded."""
    decoder = AudioDecoder(workers=2)
    await decoder.start()
    victims = decoder.pids
    for pid in victims:
        os.kill(pid, signal.SIGSTOP)
    files = [asyncio.ensure_future(decoder.decode(wav(seconds=1))) for _ in range(2)]
    await asyncio.sleep(0)
    unlucky, lucky = sorted(victims)
    os.kill(unlucky, signal.SIGKILL)
    os.kill(lucky, signal.SIGCONT)
    results = await asyncio.gather(*files, return_exceptions=True)
    assert sorted(type(r).__name__ for r in results) == ["BadRequest", "ndarray"]
    assert len(await decoder.decode(wav(seconds=1))) == RATE
    assert len(await decoder.decode(wav(seconds=1))) == RATE
    assert unlucky not in decoder.pids
    await decoder.close()


async def test_a_worker_that_hangs_is_killed_at_the_timeout():
    decoder = AudioDecoder(workers=1, limits=DecodeLimits(timeout_s=0.3))
    await decoder.start()
    (pid,) = decoder.pids
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(EngineUnavailable, match="split the recording") as refused:
        await decoder.decode(wav(seconds=0.1))
    assert (refused.value.status, refused.value.code) == (503, "overloaded")
    wait_until(lambda: not alive(pid), 5, "the stuck worker is gone")
    await decoder.close()


async def test_a_larger_file_gets_more_time():
    """With no time but what its size gives it, the file passes; with none at all it does not."""
    for per_mb, passes in ((10_000.0, True), (0.0, False)):
        decoder = AudioDecoder(workers=1, limits=DecodeLimits(timeout_s=0.0, timeout_s_per_mb=per_mb))
        await decoder.start()
        if passes:
            assert len(await decoder.decode(wav(seconds=1))) == RATE
        else:
            with pytest.raises(EngineUnavailable):
                await decoder.decode(wav(seconds=1))
        await decoder.close()


def test_the_largest_upload_has_minutes_and_no_file_more_than_a_kept_worker_has_left():
    limits = DecodeLimits()
    assert limits.time_s(25 * 1024 * 1024) > 300
    assert limits.time_s(10**12) + limits.cpu_s_per_worker == LIFETIME_CPU_S


async def test_a_worker_killed_while_idle_is_replaced_unnoticed():
    decoder = AudioDecoder(workers=1)
    await decoder.start()
    (pid,) = decoder.pids
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(wait_until, lambda: not decoder.pids, 5, "the loop has noticed the death")
    assert len(await decoder.decode(wav(seconds=1))) == RATE
    await decoder.close()


async def test_a_cancelled_decode_kills_its_worker_and_the_pool_goes_on():
    decoder = AudioDecoder(workers=1)
    await decoder.start()
    (pid,) = decoder.pids
    os.kill(pid, signal.SIGSTOP)
    task = asyncio.ensure_future(decoder.decode(wav()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    wait_until(lambda: not alive(pid), 5, "the worker of the caller who left is gone")
    assert len(await decoder.decode(wav(seconds=1))) == RATE
    await decoder.close()


async def test_workers_are_replaced_after_their_share_of_jobs():
    decoder = AudioDecoder(workers=1, limits=DecodeLimits(jobs_per_worker=2))
    await decoder.start()
    first = decoder.pids
    await decoder.decode(wav(seconds=0.1))
    assert decoder.pids == first
    await decoder.decode(wav(seconds=0.1))
    await decoder.decode(wav(seconds=0.1))
    assert not decoder.pids & first
    await decoder.close()


@pytest.mark.parametrize("file", [wav(seconds=1), b"no audio"], ids=["decoded", "refused"])
@pytest.mark.parametrize(("share", "stays"), [(0.001, False), (1000.0, True)])
async def test_a_worker_stays_only_while_it_has_cpu_left_however_its_job_ended(file: bytes, share: float, stays: bool):
    decoder = AudioDecoder(workers=1, limits=DecodeLimits(cpu_s_per_worker=share))
    await decoder.start()
    before = decoder.pids
    await asyncio.gather(decoder.decode(file), return_exceptions=True)
    assert (decoder.pids == before) is stays
    assert len(await decoder.decode(wav(seconds=1))) == RATE
    await decoder.close()


async def test_files_that_are_decoded_or_wait_at_close_hear_that_the_engine_stops():
    decoder = AudioDecoder(workers=1)
    await decoder.start()
    (pid,) = decoder.pids
    os.kill(pid, signal.SIGSTOP)
    files = [asyncio.ensure_future(decoder.decode(wav())) for _ in range(3)]
    await asyncio.sleep(0)
    await decoder.close()
    for result in await asyncio.gather(*files, return_exceptions=True):
        assert isinstance(result, EngineUnavailable)
        assert (result.code, "stopping" in result.message) == ("engine_unavailable", True)
    assert not decoder.pids


async def test_a_worker_that_comes_up_during_close_is_not_kept():
    decoder = AudioDecoder(workers=1)
    await decoder.start()
    (pid,) = decoder.pids
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(wait_until, lambda: not decoder.pids, 5, "the loop has noticed the death")
    file = asyncio.ensure_future(decoder.decode(wav()))
    await asyncio.sleep(0)
    await decoder.close()
    with pytest.raises(EngineUnavailable, match="stopping"):
        await file
    assert not decoder.pids


async def test_close_leaves_no_process_and_refuses_further_files():
    decoder = AudioDecoder(workers=2)
    await decoder.start()
    pids = decoder.pids
    assert len(pids) == 2
    await decoder.close()
    assert not [pid for pid in pids if alive(pid)]
    with pytest.raises(EngineUnavailable):
        await decoder.decode(wav())


def g711(codec: str, samples: np.ndarray) -> bytes:
    """G.711, by its definition: a sign, three bits of exponent, four of mantissa."""
    out = bytearray()
    for sample in map(int, samples):
        size = min(abs(sample), 32635) + (132 if codec == "mulaw" else 0)
        exponent = max(0, size.bit_length() - 8)
        if codec == "mulaw":
            out.append(~((0x80 if sample < 0 else 0) | exponent << 4 | size >> exponent + 3 & 15) & 0xFF)
        else:
            mantissa = size >> (4 if exponent == 0 else exponent + 3) & 15
            out.append(((0x80 if sample >= 0 else 0) | exponent << 4 | mantissa) ^ 0x55)
    return bytes(out)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("codec", ["s16le", "s16be", "mulaw", "alaw"])
async def test_bare_samples_with_a_declared_rate(decoder: AudioDecoder, codec: str):
    given = tone(8000, 1.0)
    kinds = {"s16le": "<i2", "s16be": ">i2"}
    data = given.astype(kinds[codec]).tobytes() if codec in kinds else g711(codec, given)
    samples = await decoder.decode(data, Wanted(codec, 8000, 1))
    assert len(samples) == pytest.approx(RATE, abs=64)
    spectrum = np.abs(np.fft.rfft(samples.astype(float)))
    assert np.argmax(spectrum) * RATE / len(samples) == pytest.approx(440, abs=3)
    assert np.abs(samples).max() == pytest.approx(12000, rel=0.1)


@pytest.mark.asyncio(loop_scope="module")
async def test_both_channels_of_a_stereo_recording(decoder: AudioDecoder):
    left = np.full(16000, 5000, np.int16)
    both = np.stack([left, -left], axis=1)
    samples = await decoder.decode(both.astype("<i2").tobytes(), Wanted("s16le", 16000, 2, split=True))
    assert samples.shape == (16000, 2)
    assert (samples[1000:-1000, 0] > 4000).all()
    assert (samples[1000:-1000, 1] < -4000).all()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_mono_recording_has_no_two_speakers(decoder: AudioDecoder):
    with pytest.raises(BadRequest, match="one channel") as refused:
        await decoder.decode(wav(seconds=1), Wanted(split=True))
    assert refused.value.code == "not_stereo"
    assert len(await decoder.decode(wav(seconds=1))) == RATE


@pytest.mark.asyncio(loop_scope="module")
async def test_bare_samples_that_nobody_described_are_no_file(decoder: AudioDecoder):
    with pytest.raises(BadRequest):
        await decoder.decode(bytes(16000))


async def test_a_bomb_is_stopped_at_the_limit():
    """Half an hour of silence in a small file that decodes to 58 MB."""
    out = io.BytesIO()
    with av.open(out, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=8000, layout="mono")
        for _ in range(30):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 60), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert len(out.getvalue()) < 500_000
    decoder = AudioDecoder(workers=1, limits=DecodeLimits(max_audio_s=600))
    await decoder.start()
    try:
        with pytest.raises(TooLarge, match="longer than 600 seconds"):
            await decoder.decode(out.getvalue())
    finally:
        await decoder.close()


def header(rate: int = 8000, channels: int = 1, bits: int = 16, kind: int = 1, said: int | None = None) -> bytes:
    """A second of silence under a wav header that says what it likes."""
    data = bytes(16000)
    width = max(1, channels * bits // 8)
    layout = struct.pack("<IHHIIHH", 16, kind, channels, rate, rate * width & 0xFFFFFFFF, width & 0xFFFF, bits)
    size = len(data) if said is None else said
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + layout + b"data" + struct.pack("<I", size) + data


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "told",
    [
        {"rate": 1},  # 16 kB that would be two hours
        {"rate": 0},
        {"rate": 0xFFFFFFFF},
        {"channels": 65535},
        {"channels": 0},
        {"bits": 65535},
        {"kind": 0xFFFF},
    ],
    ids=str,
)
async def test_a_header_that_cannot_be_true_is_refused_and_harms_nobody(decoder: AudioDecoder, told: dict[str, int]):
    before = decoder.pids
    with pytest.raises(BadRequest) as refused:
        await decoder.decode(header(**told))
    assert refused.value.code == "no_audio"
    assert decoder.pids == before
    assert len(await decoder.decode(header())) == RATE


@pytest.mark.asyncio(loop_scope="module")
async def test_four_gigabytes_that_a_header_promises_are_not_waited_for(decoder: AudioDecoder):
    assert len(await decoder.decode(header(said=0xFFFFFFFF))) == RATE


def encrypted() -> bytes:
    """A second of AAC under Common Encryption."""
    out = io.BytesIO()
    keys = {"encryption_key": "76a6c65c5ea762046bd749a2e632ccbb", "encryption_kid": "a7e61c373e219033c21091fa607bf3b8"}
    with av.open(out, "w", format="mp4", options={"encryption_scheme": "cenc-aes-ctr", **keys}) as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        for at in range(0, RATE, 1024):
            samples = (tone(RATE, 1.0)[at : at + 1024] / 32768).astype(np.float32)[np.newaxis]
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = RATE, at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


@pytest.mark.asyncio(loop_scope="module")
async def test_encrypted_sound_is_named_as_such(decoder: AudioDecoder):
    with pytest.raises(BadRequest, match="without protection") as refused:
        await decoder.decode(encrypted())
    assert (refused.value.status, refused.value.code) == (400, "encrypted_media")


async def test_a_worker_that_outgrows_its_memory_dies_alone():
    decoder = AudioDecoder(workers=2)
    await decoder.start()
    try:
        first, other = sorted(decoder.pids)
        # what it may have is taken from it, as by a file that needs more than there is
        resource.prlimit(first, resource.RLIMIT_AS, (1 << 20, 1 << 20))
        answers = await asyncio.gather(*(decoder.decode(wav(seconds=20)) for _ in range(2)), return_exceptions=True)
        assert sum(isinstance(answer, BadRequest) for answer in answers) <= 1
        assert any(len(answer) == 20 * RATE for answer in answers if isinstance(answer, np.ndarray))
        assert other in decoder.pids
        for _ in range(4):
            assert len(await decoder.decode(wav())) > RATE
    finally:
        await decoder.close()
