"""The two sides of the speech bench: faster-whisper one clip after another, and our host over its socket.

What it is: ``Baseline`` starts ``speech_baseline``, which calls ``WhisperModel.transcribe`` as its README
shows; ``OurHost`` starts ``python -m appliance.hosts.whisper`` and sends it clips over HTTP, several at a time.
What it refuses to be: two settings. Model, precision, beam, language and threads are the same on both sides,
and both get the file's bytes, so decoding the container counts on both.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import httpx
import msgspec

from appliance_bench.speech_corpus import Clip

BEAM = 5
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Run:
    """What one side made of some clips: texts by name, wall and CPU seconds."""

    texts: dict[str, str]
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def add(self, other: Run) -> None:
        """Another block of the same side."""
        self.texts |= other.texts
        self.wall_s += other.wall_s
        self.cpu_s += other.cpu_s


def first_error(run: Callable[[], Run]) -> Run:
    """What ``run`` gives; of a group of errors the first one is raised, which is what a caller can tell apart."""
    try:
        return run()
    except ExceptionGroup as e:
        raise e.exceptions[0] from None


class Baseline:
    """faster-whisper in a process of its own, one clip after another; use as a context manager.

    ``batch``: its batched pipeline with so many windows; 0 is plain ``transcribe``.
    """

    def __init__(self, model_dir: Path, *, compute_type: str, threads: int, batch: int = 0) -> None:
        which = "hearing_baseline" if batch else "speech_baseline"
        self._command = [
            *(sys.executable, "-m", f"appliance_bench.{which}", str(model_dir)),
            *(compute_type, str(threads), str(BEAM)),
            *([str(batch)] if batch else []),
        ]

    def __enter__(self) -> Baseline:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._process.communicate()

    def transcribe(self, clips: Sequence[Clip], language: str) -> Run:
        """All ``clips`` in turn."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        texts: dict[str, str] = {}
        wall, cpu = time.perf_counter(), cpu_s(self._process.pid)
        for clip in clips:
            stdin.write(json.dumps([str(clip.path), language]) + "\n")
            stdin.flush()
            line = stdout.readline()
            if not line:
                raise RuntimeError(f"{clip.name}: the baseline process ended; run it by hand to see why")
            texts[clip.name] = json.loads(line)
        return Run(texts, time.perf_counter() - wall, cpu_s(self._process.pid) - cpu)


class OurHost:
    """The host as a process; use as a context manager."""

    def __init__(
        self, model_dir: Path, *, compute_type: str, threads: int, concurrency: int, extra: Sequence[str]
    ) -> None:
        self._concurrency = concurrency
        # The host runs outside the checkout, so what is importable here has to be said.
        self._env = {**_environment(), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._dir = tempfile.TemporaryDirectory(prefix="ap-")
        self._socket = Path(self._dir.name) / "w.sock"
        self._log = Path(self._dir.name) / "log"
        self._command = [
            *(sys.executable, "-m", "appliance.hosts.whisper", "--socket", str(self._socket)),
            *("--model-dir", str(model_dir), "--model-name", model_dir.name),
            *("--device", "cpu", "--compute-type", compute_type, "--threads", str(threads)),
            *extra,
        ]

    def __enter__(self) -> OurHost:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, cwd=self._dir.name, env=self._env, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise RuntimeError(f"the host did not start:\n{self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._dir.cleanup()

    def transcribe(self, clips: Sequence[Clip], language: str) -> Run:
        """All ``clips``, ``concurrency`` at a time: when one is answered, the next is sent. Raises RuntimeError."""
        return first_error(lambda: asyncio.run(self._transcribe(clips, language)))

    def at_once(self, concurrency: int) -> OurHost:
        """From now so many clips at a time; itself."""
        self._concurrency = concurrency
        return self

    def metrics(self) -> str:
        """The host's own counters."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self._socket))) as client:
            return client.get("http://host/metrics").text

    async def _transcribe(self, clips: Sequence[Clip], language: str) -> Run:
        texts: dict[str, str] = {}
        todo = iter(clips)
        headers = {"x-appliance-params": msgspec.json.encode({"language": language}).decode()}
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(self._socket)), timeout=600) as client:

            async def caller() -> None:
                for clip in todo:
                    body = clip.path.read_bytes()
                    answer = await client.post("http://host/v1/transcribe", content=body, headers=headers)
                    if answer.status_code != 200:
                        raise RuntimeError(f"{clip.name}: the host answered {answer.status_code} {answer.text[:300]}")
                    texts[clip.name] = answer.json()["text"]

            wall, cpu = time.perf_counter(), cpu_s(self._process.pid)
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(caller())
            return Run(texts, time.perf_counter() - wall, cpu_s(self._process.pid) - cpu)

    def _healthy(self) -> bool:
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(self._socket))) as client:
                return client.get("http://host/health").status_code == 200
        except httpx.TransportError:
            return False


def _environment() -> dict[str, str]:
    """One BLAS thread for NumPy on both sides: two wait for each other on a busy machine."""
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1"}


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children that live."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(stat.parent.name) == pid or int(fields[1]) == pid:
            total += (int(fields[11]) + int(fields[12])) / _TICKS
    return total
