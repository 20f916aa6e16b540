"""Uploaded audio to samples, in worker processes that may die without harming anyone.

What it is: a small pool of ``audio_worker`` processes. ``decode`` hands a file's bytes to a free one and gets
16 kHz mono int16 back. A worker that hangs, crashes, outgrows its limits or loses its caller is killed and
replaced; the file that caused it is answered ``no_audio``, all other requests go on.
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
from appliance.hosts.audio_wire import FRAME, JOB, RATE

Samples = NDArray[np.int16]
_log = logging.getLogger(__name__)
_INHERITED = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG")
_NO_AUDIO = (
    "the upload holds no audio that can be decoded; send a wav, mp3, m4a, ogg, webm or flac file with an audio track"
)


@dataclass(frozen=True)
class DecodeLimits:
    """``timeout_s`` wall clock and CPU for one file; ``max_audio_s`` the longest audio taken;
    ``jobs_per_worker`` after which a process is replaced, whatever it may have leaked.
    """

    timeout_s: float = 60.0
    max_audio_s: int = 4 * 3600
    jobs_per_worker: int = 500


class WorkerDied(Exception):
    """The process ended before its answer did."""


class _Worker:
    """One process; ``jobs`` counts what it was given."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.jobs = 0

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

    async def decode(self, data: bytes, limits: DecodeLimits) -> bytearray:
        """The samples as bytes. Raises BadRequest, TooLarge or WorkerDied."""
        self.jobs += 1
        writing = asyncio.ensure_future(self._write(data, limits))
        try:
            pcm = bytearray()
            while True:
                kind, body = await self._frame()
                if kind == b"d":
                    pcm += body
                elif kind == b"o":
                    return pcm
                elif kind == b"l":
                    raise TooLarge(
                        f"the audio is longer than {limits.max_audio_s} seconds; split it into shorter files",
                        code="audio_too_long",
                        param="file",
                    )
                else:
                    raise no_audio()
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(self, data: bytes, limits: DecodeLimits) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(JOB.pack(len(data), limits.timeout_s, limits.max_audio_s))
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


class AudioDecoder:
    """``await decode(data)`` from any number of tasks; ``workers`` files at a time."""

    def __init__(self, *, workers: int = 2, limits: DecodeLimits = DecodeLimits()) -> None:
        self._count = workers
        self._limits = limits
        self._idle: asyncio.LifoQueue[_Worker | None] = asyncio.LifoQueue()
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
                self._idle.put_nowait(worker)
        except (WorkerDied, OSError) as e:
            raise EngineUnavailable(
                f"no audio worker process could be started ({e!r}); check that PyAV is installed and memory is free"
            ) from None

    async def decode(self, data: bytes) -> Samples:
        """Samples of the first audio stream in ``data``, 16 kHz mono.

        Raises BadRequest ``no_audio``, TooLarge ``audio_too_long``, EngineUnavailable while closing.
        """
        if not data:
            raise no_audio()
        if self._closing:
            raise EngineUnavailable("the engine is stopping; try again when it is back")
        worker = await self._idle.get()
        try:
            # An idle worker may have been killed from outside; that is not this file's fault.
            if worker is None or not worker.alive:
                worker = await self._replace(worker)
            async with asyncio.timeout(self._limits.timeout_s):
                pcm = await worker.decode(data, self._limits)
        except (BadRequest, TooLarge):
            worker = self._kept(worker)
            raise
        except (WorkerDied, TimeoutError):
            _log.warning("an audio worker died or hung on a file of %d bytes; replaced", len(data))
            self._discard(worker)
            worker = None
            raise no_audio() from None
        except BaseException:
            self._discard(worker)
            worker = None
            raise
        else:
            worker = self._kept(worker)
        finally:
            self._idle.put_nowait(worker)
        return np.frombuffer(pcm, dtype="<i2")

    async def close(self) -> None:
        """Kill every worker and wait until they are gone."""
        self._closing = True
        for worker in list(self._all):
            self._discard(worker)
        await asyncio.gather(*self._ended, return_exceptions=True)

    async def _spawn(self) -> _Worker:
        worker = await _Worker.spawn()
        self._all.add(worker)
        return worker

    def _kept(self, worker: _Worker | None) -> _Worker | None:
        """The worker to put back: itself, or None, which the next caller replaces."""
        if worker is not None and worker.alive and worker.jobs < self._limits.jobs_per_worker:
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


__all__ = ["RATE", "AudioDecoder", "DecodeLimits", "Samples", "no_audio"]
