"""The process that touches uploaded audio: FFmpeg, through PyAV, with its hands tied.

What it is: ``python -m appliance.hosts.audio_worker``. Bytes of a file come in on stdin, 16 kHz mono
signed 16-bit samples go out on stdout, one job after another, until stdin ends.
What it refuses to be: a place from which anything can be reached. It gets no path and no address; playlist
formats are off; after start-up it can open no further file or socket (RLIMIT_NOFILE) and write none
(RLIMIT_FSIZE); memory and CPU are capped, and FFmpeg crashing takes nobody along.
It costs about 0.2 s to start and 36 MB a process, and 3 ms for a short clip.
"""

from __future__ import annotations

import gc
import io
import resource
import struct
import sys
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import av
import av.audio.resampler
import av.error

from appliance.hosts.audio_wire import CODECS, FRAME, JOB, LIFETIME_CPU_S, RATE, SPENT

MEMORY_BYTES = 1536 * 1024 * 1024
# Containers people upload. Left out on purpose: hls, concat, dash, image2 and all else that names other files.
DEMUXERS = "wav,w64,mp3,mov,ogg,matroska,flac,aac,amr,aiff,au,caf,asf,3gp,g722"
# Samples are passed on as they come, so that an hour of audio never lies in this process.
_CHUNK_BYTES = 1 << 20
# What a header may say of its sound. At one sample a second 16 kB would be two hours, and 9 s of CPU.
_LEAST_RATE, _MOST_RATE = 2000, 768_000
_LAYOUTS = {1: "mono", 2: "stereo"}


class TooLong(Exception):
    """More audio than the job allows."""


def tie_hands() -> None:
    """Limits that cannot be taken back. Descriptors 0-2 are open; no other can be opened after this."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    resource.setrlimit(resource.RLIMIT_CPU, (LIFETIME_CPU_S, LIFETIME_CPU_S))


def allow_cpu(seconds: float) -> None:
    """From now, ``seconds`` more of CPU; then the kernel kills this process."""
    resource.setrlimit(resource.RLIMIT_CPU, (min(LIFETIME_CPU_S, int(cpu_spent() + seconds) + 1), LIFETIME_CPU_S))


def cpu_spent() -> float:
    """CPU seconds of this process since it began."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class TooFewChannels(Exception):
    """The recording has not the channels that were asked for."""


class Locked(Exception):
    """The sound is encrypted."""


# Boxes of MP4 in which sound lies that its owner has locked: Common Encryption, FairPlay, Audible.
_LOCKED_TAGS = frozenset({"enca", "drms", "aavd"})


class Shape(NamedTuple):
    """Raw samples' ``codec``, ``rate`` and ``channels`` (empty and 0: the file says it); ``out`` channels wanted."""

    codec: str = ""
    rate: int = 0
    channels: int = 0
    out: int = 1


AS_THE_FILE_SAYS = Shape()


def samples(data: bytes, shape: Shape = AS_THE_FILE_SAYS) -> Iterator[bytes]:
    """Pieces of interleaved s16 at 16 kHz. Damaged packets are skipped, as players do."""
    options = {"format_whitelist": shape.codec or DEMUXERS, "protocol_whitelist": ""}
    if shape.codec:
        options |= {"sample_rate": str(shape.rate), "ch_layout": _LAYOUTS[shape.channels]}
    with av.open(
        io.BytesIO(data), mode="r", format=shape.codec or None, metadata_errors="ignore", container_options=options
    ) as container:
        codec = container.streams.audio[0].codec_context if container.streams.audio else None
        if codec is None or codec.channels < 1 or not _LEAST_RATE <= codec.sample_rate <= _MOST_RATE:
            return
        if codec.codec_tag in _LOCKED_TAGS:
            raise Locked
        if codec.channels < shape.out:
            raise TooFewChannels
        resampler = av.audio.resampler.AudioResampler(format="s16", layout=_LAYOUTS[shape.out], rate=RATE)
        for packet in container.demux(container.streams.audio[0]):
            if packet.has_sidedata("encryption_info"):
                raise Locked
            try:
                frames = packet.decode()
            except (av.error.InvalidDataError, av.error.EOFError):
                continue
            for frame in frames:
                frame.pts = None
                for out in resampler.resample(frame):
                    yield bytes(out.planes[0])[: out.samples * 2 * shape.out]
        for out in resampler.resample(None):
            yield bytes(out.planes[0])[: out.samples * 2 * shape.out]


def send(out: BinaryIO, kind: bytes, body: bytes = b"") -> None:
    """One frame of the answer."""
    out.write(FRAME.pack(kind, len(body)))
    out.write(body)
    out.flush()


def close(out: BinaryIO, kind: bytes) -> None:
    """The last frame of an answer."""
    send(out, kind, SPENT.pack(cpu_spent()))


def answer(data: bytes, most_s: int, shape: Shape, out: BinaryIO) -> None:
    """Decode one file and send all frames of its answer."""
    buffered, total = bytearray(), 0
    try:
        for piece in samples(data, shape):
            total += len(piece)
            if total > most_s * RATE * 2 * shape.out:
                raise TooLong
            buffered += piece
            if len(buffered) >= _CHUNK_BYTES:
                send(out, b"d", bytes(buffered))
                buffered.clear()
    except TooLong:
        close(out, b"l")
        return
    except TooFewChannels:
        close(out, b"c")
        return
    except Locked:
        close(out, b"e")
        return
    except (av.error.FFmpegError, ValueError, OSError, MemoryError):
        if total == 0:
            close(out, b"n")
            return
        # A file that ends early still holds what was said until then.
    send(out, b"d", bytes(buffered))
    close(out, b"o" if total else b"n")


def read_exactly(source: BinaryIO, count: int) -> bytes:
    """``count`` bytes, or fewer at the end of input."""
    parts = []
    while count > 0 and (part := source.read(min(count, 1 << 20))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def rehearse() -> None:
    """Decode ten milliseconds of silence, so that whatever Python and PyAV load lazily is loaded."""
    pcm = bytes(160)
    layout = struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    head = b"RIFF" + struct.pack("<I", 36 + len(pcm)) + b"WAVEfmt " + layout + b"data" + struct.pack("<I", len(pcm))
    if not b"".join(samples(head + pcm)):
        raise SystemExit("PyAV cannot decode a wav file; install the av package again")


def main() -> None:
    """Serve jobs until stdin ends."""
    av.logging.set_level(av.logging.PANIC)
    rehearse()
    tie_hands()
    source, out = sys.stdin.buffer, sys.stdout.buffer
    close(out, b"o")  # ready
    while len(header := read_exactly(source, JOB.size)) == JOB.size:
        length, cpu_s, most_s, codec, rate, channels, wanted = JOB.unpack(header)
        data = read_exactly(source, length)
        if len(data) < length:
            return
        allow_cpu(cpu_s)
        answer(data, most_s, Shape(CODECS[codec], rate, channels, wanted), out)
        del data
        gc.collect()  # resamplers hold buffers in reference cycles (faster-whisper #390)


if __name__ == "__main__":
    main()
