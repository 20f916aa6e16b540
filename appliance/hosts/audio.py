"""Uploaded audio to samples, in worker processes that may die without harming anyone.

What it is: a small pool of ``audio_worker`` processes. ``decode`` hands a file's bytes to a free one and gets
16 kHz mono int16 back. A worker that hangs, crashes, outgrows its limits or loses its caller is killed and
replaced; all other requests go on. The file that crashed it is answered ``no_audio``, one that ran out of time
``overloaded``: on a busy machine that says nothing about the file.
What it refuses to be: a fetcher. Bytes in, samples out; no path, no URL.
Cost: see ``audio_worker``; samples cross a pipe once (32 kB a second of audio).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.errors import BadRequest, EngineUnavailable, TooLarge
from appliance.hosts.audio_places import Places
from appliance.hosts.audio_wire import CODECS, FRAME, JOB, LIFETIME_CPU_S, RATE, SPENT

Samples = NDArray[np.int16]
_log = logging.getLogger(__name__)
_INHERITED = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG")
_NO_AUDIO = (
    "the upload holds no audio that can be decoded; send a wav, mp3, m4a, ogg, webm or flac file with an audio track"
)


@dataclass(frozen=True)
class DecodeLimits:
    """``timeout_s`` and ``timeout_s_per_mb`` wall clock and CPU for one file; ``max_audio_s`` the longest audio taken;
    ``jobs_per_worker`` and ``cpu_s_per_worker`` after which a process is replaced, whatever it may have leaked.
    """

    # 3 h of opus in 25 MB take 18 s of CPU: room for a core shared with a dozen others.
    timeout_s: float = 60.0
    timeout_s_per_mb: float = 10.0
    max_audio_s: int = 4 * 3600
    jobs_per_worker: int = 500
    cpu_s_per_worker: float = LIFETIME_CPU_S / 2

    def time_s(self, size: int) -> float:
        """For a file of ``size`` bytes; never more than a worker that is kept has left of its lifetime."""
        return min(self.timeout_s + self.timeout_s_per_mb * size / 1e6, LIFETIME_CPU_S - self.cpu_s_per_worker)


@dataclass(frozen=True)
class Wanted:
    """What an upload is, where it does not say so itself, and how it is to come back.

    ``codec``: one of ``CODECS``, with ``rate`` and ``channels`` of the raw samples. ``split``: both channels of a
    stereo recording, as ``[n, 2]``.
    """

    codec: str = ""
    rate: int = 0
    channels: int = 0
    split: bool = False


class WorkerDied(Exception):
    """The process ended before its answer did."""


class _Worker:
    """One process; ``jobs`` counts what it was given, ``cpu_s`` what it spent by its last answer."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.jobs = 0
        self.cpu_s = 0.0

    @classmethod
    async def spawn(cls) -> _Worker:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "appliance.hosts.audio_worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
        )
        worker = cls(process)
        try:
            await worker._frame()  # ready
        except BaseException:
            worker.kill()
            raise
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    def worn(self, limits: DecodeLimits) -> bool:
        """It has had its share of jobs or of CPU."""
        return self.jobs >= limits.jobs_per_worker or self.cpu_s >= limits.cpu_s_per_worker

    async def decode(self, data: bytes, limits: DecodeLimits, wanted: Wanted) -> bytearray:
        """The samples as bytes. Raises BadRequest, TooLarge or WorkerDied."""
        self.jobs += 1
        writing = asyncio.ensure_future(self._write(data, limits, wanted))
        try:
            pcm = bytearray()
            while True:
                kind, body = await self._frame()
                if kind == b"d":
                    pcm += body
                    continue
                (self.cpu_s,) = SPENT.unpack(body)
                if kind == b"o":
                    return pcm
                elif kind == b"l":
                    raise TooLarge(
                        f"the audio is longer than {limits.max_audio_s} seconds; split it into shorter files",
                        code="audio_too_long",
                        param="file",
                    )
                elif kind == b"e":
                    raise BadRequest(
                        "the sound in this file is encrypted (DRM); send a copy without protection",
                        code="encrypted_media",
                        param="file",
                    )
                elif kind == b"c":
                    raise BadRequest(
                        "the recording has one channel, and telling speakers apart needs one speaker a channel; "
                        "leave diarized_json out, or send the stereo recording",
                        code="not_stereo",
                        param="file",
                    )
                else:
                    raise no_audio()
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(self, data: bytes, limits: DecodeLimits, wanted: Wanted) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        raw = (CODECS.index(wanted.codec), wanted.rate, wanted.channels, 2 if wanted.split else 1)
        stdin.write(JOB.pack(len(data), limits.time_s(len(data)), limits.max_audio_s, *raw))
        stdin.write(data)
        await stdin.drain()

    async def _frame(self) -> tuple[bytes, bytes]:
        stdout = self._process.stdout
        assert stdout is not None
        try:
            kind, length = FRAME.unpack(await stdout.readexactly(FRAME.size))
            return kind, await stdout.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise WorkerDied from None

    def kill(self) -> None:
        if self.alive:
            try:
                self._process.kill()
            except ProcessLookupError:
                pass

    async def gone(self) -> None:
        await self._process.wait()


def no_audio() -> BadRequest:
    """What a caller hears whose file holds nothing to hear."""
    return BadRequest(_NO_AUDIO, code="no_audio", param="file")


def _stopping() -> EngineUnavailable:
    return EngineUnavailable("the engine is stopping; try again when it is back")


class AudioDecoder:
    """``await decode(data)`` from any number of tasks; ``workers`` files at a time."""

    def __init__(self, *, workers: int = 2, limits: DecodeLimits = DecodeLimits()) -> None:
        self._count = workers
        self._limits = limits
        self._idle: Places[_Worker | None] = Places()
        self._ended: set[asyncio.Task[None]] = set()
        self._all: set[_Worker] = set()
        self._closing = False

    @property
    def pids(self) -> frozenset[int]:
        """Of the processes that live now."""
        return frozenset(w.pid for w in self._all if w.alive)

    async def start(self) -> None:
        """Fork the pool; raises EngineUnavailable when a process does not come up."""
        try:
            for worker in await asyncio.gather(*(self._spawn() for _ in range(self._count))):
                self._idle.add(worker)
        except (WorkerDied, OSError) as e:
            raise EngineUnavailable(
                f"no audio worker process could be started ({e!r}); check that PyAV is installed and memory is free"
            ) from None

    async def decode(self, data: bytes, wanted: Wanted = Wanted(), rank: int = 1) -> Samples:
        """Samples of the first audio stream in ``data``, 16 kHz, ``[n]`` mono or ``[n, 2]``. Rank 0 goes first.

        Raises BadRequest ``no_audio``, TooLarge ``audio_too_long``, EngineUnavailable ``overloaded`` when time ran out
        and EngineUnavailable while closing.
        """
        if not data:
            raise no_audio()
        if self._closing:
            raise _stopping()
        worker = await self._idle.take(rank)
        time_s = self._limits.time_s(len(data))
        try:
            if self._closing:  # while this file waited
                raise _stopping()
            # An idle worker may have been killed from outside; that is not this file's fault.
            if worker is None or not worker.alive:
                worker = await self._replace(worker)
            async with asyncio.timeout(time_s):
                pcm = await worker.decode(data, self._limits, wanted)
        except (BadRequest, TooLarge):
            worker = self._kept(worker)
            raise
        except WorkerDied:
            self._discard(worker)
            worker = None
            if self._closing:
                raise _stopping() from None
            _log.warning("an audio worker died on a file of %d bytes; replaced", len(data))
            raise no_audio() from None
        except TimeoutError:
            _log.warning("an audio worker was not done with %d bytes in %.1f s; replaced", len(data), time_s)
            self._discard(worker)
            worker = None
            raise EngineUnavailable(
                f"the upload was not decoded within {time_s:.0f} s; split the recording or try again",
                code="overloaded",
                headers={"retry-after": "5"},
            ) from None
        except BaseException:
            self._discard(worker)
            worker = None
            raise
        else:
            worker = self._kept(worker)
        finally:
            self._idle.give(worker, rank)
        found = np.frombuffer(pcm, dtype="<i2")
        return found.reshape(-1, 2) if wanted.split else found

    async def close(self) -> None:
        """Kill every worker and wait until they are gone."""
        self._closing = True
        for worker in list(self._all):
            self._discard(worker)
        await asyncio.gather(*self._ended, return_exceptions=True)

    async def _spawn(self) -> _Worker:
        worker = await _Worker.spawn()
        self._all.add(worker)
        if self._closing:  # while it came up; close() did not see it
            self._discard(worker)
            await worker.gone()
            raise _stopping()
        return worker

    def _kept(self, worker: _Worker | None) -> _Worker | None:
        """The worker to put back: itself, or None, which the next caller replaces."""
        if worker is not None and worker.alive and not worker.worn(self._limits):
            return worker
        self._discard(worker)
        return None

    async def _replace(self, worker: _Worker | None) -> _Worker:
        if worker is not None:
            self._discard(worker)
        try:
            return await self._spawn()
        except (WorkerDied, OSError):
            raise EngineUnavailable(
                "no audio worker process could be started; check that memory is free, then try again"
            ) from None

    def _discard(self, worker: _Worker | None) -> None:
        if worker is None or worker not in self._all:
            return
        self._all.discard(worker)
        worker.kill()
        task = asyncio.ensure_future(worker.gone())
        self._ended.add(task)
        task.add_done_callback(self._ended.discard)


__all__ = ["RATE", "AudioDecoder", "DecodeLimits", "Samples", "Wanted", "no_audio"]
