"""``make bench-hearing ARGS="--part live"``: how long after the end of speech the final transcript arrives.

What it is: ``appliance serve`` with one Whisper engine in a home of its own; human clips over ``WS /v1/realtime`` at
the speed of speech, 100 ms a message, several sessions beside each other. Measured from the end of speech (where
faster-whisper's detector hears it in the clip) to ``speech_stopped`` (the silence that the session's detector waits for
is in it: 500 ms, or ``--silence-ms``) and to ``completed``; and what the same clip takes as an upload, alone on the
machine: the compute that no protocol can save, which is taken off clip by clip (``beyond_compute_ms``). Under load the
same pass takes longer; that is not taken off.
What it refuses to be: faster than speech. A turn cannot be transcribed before it is over.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from websockets.asyncio.client import connect

from appliance_bench import wer
from appliance_bench.speech_corpus import Clip

_PIECE_S = 0.1
_SILENCE_S = 1.2
_START_S = 90.0
_TOML = '[engines.transcribe]\nkind = "whisper"\ntask = "transcribe"\nmodel = "{model}"\n'


def run(clips: Sequence[Clip], model_dir: Path, sessions: int, silence_ms: int) -> dict[str, Any]:
    """Every clip once, over ``sessions`` sockets."""
    with served(model_dir) as (port, key, _):
        alone = _uploaded(clips, f"http://127.0.0.1:{port}/v1/audio/transcriptions", key)
        found = asyncio.run(_measure(clips, f"ws://127.0.0.1:{port + 1}/v1/realtime", key, sessions, silence_ms))
    for turn in found["turns"]:
        turn["upload_alone"] = alone[turn["clip"]]
    said = {turn["clip"]: turn["text"] for turn in found["turns"]}
    beyond = [turn["completed"] - turn["upload_alone"] for turn in found["turns"]]
    word_errors = round(wer.rate([wer.errors(clip.text, said[clip.name]) for clip in clips]), 2)
    return {
        **found,
        "upload_alone_ms": _spread([*alone.values()]),
        "beyond_compute_ms": _spread(beyond),
        "wer": word_errors,
    }


@contextmanager
def served(model_dir: Path) -> Iterator[tuple[int, str, int]]:
    """An appliance with one Whisper engine: its port, the admin key, its process."""
    with tempfile.TemporaryDirectory(prefix="ap-") as directory:
        home = Path(directory)
        (home / "models").symlink_to(model_dir.parent)
        (home / "appliance.toml").write_text(_TOML.format(model=model_dir.name))
        port = _two_free_ports()
        env = {**os.environ, "APPLIANCE_HOME": str(home), "APPLIANCE_PORT": str(port)}
        env.pop("APPLIANCE_RUN", None)
        command = (sys.executable, "-m", "appliance", "serve")
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            _wait_for(home / "log", process, ("live: ws://", "transcribe: ready"))
            _wait_for_gateway(port)  # it sees a moment later what the supervisor says
            yield port, (home / "admin.key").read_text().strip(), process.pid
        finally:
            process.terminate()
            process.wait(60)


def _two_free_ports() -> int:
    """A port that is free, as is the next one, which the live sockets take."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                other.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


def _wait_for(log: Path, process: subprocess.Popen[bytes], lines: Sequence[str]) -> None:
    deadline = time.monotonic() + _START_S
    while not all(line in log.read_text(errors="replace") for line in lines):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"appliance serve did not get ready:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)


def _wait_for_gateway(port: int) -> None:
    deadline = time.monotonic() + _START_S
    while httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code != 200:
        if time.monotonic() > deadline:
            raise RuntimeError("the gateway does not see its engine")
        time.sleep(0.1)


def _uploaded(clips: Sequence[Clip], url: str, key: str) -> dict[str, float]:
    """Each clip by itself, one after another; ms by name."""
    took = {}
    with httpx.Client(headers={"authorization": f"Bearer {key}"}, timeout=60) as client:
        for clip in (clips[0], *clips):
            form, file = {"model": "whisper-1", "language": "en"}, {"file": (clip.path.name, clip.path.read_bytes())}
            begun = time.perf_counter()
            client.post(url, data=form, files=file).raise_for_status()
            took[clip.name] = (time.perf_counter() - begun) * 1000
    return took  # the first clip twice: the process's first decode pays for its memory


def _spread(each: Sequence[float]) -> dict[str, float]:
    return {"median": round(statistics.median(each)), "p90": round(sorted(each)[int(0.9 * len(each))])}


async def _measure(clips: Sequence[Clip], url: str, key: str, sessions: int, silence_ms: int) -> dict[str, Any]:
    found = await sessions_of(clips, url, key, sessions, silence_ms)
    names = ("speech_stopped", "completed", "completed_after_stopped")
    return {
        "sessions": sessions,
        "silence_ms": silence_ms,
        "clips": len(found),
        "with_delta_before_the_end": sum(one["deltas_while_speaking"] > 0 for one in found),
        "ms_after_the_end_of_speech": {
            name: _spread(each) for name in names if (each := [one[name] for one in found if name in one])
        },
        "turns": found,
    }


async def sessions_of(
    clips: Sequence[Clip], url: str, key: str, sessions: int, silence_ms: int = 500
) -> list[dict[str, Any]]:
    """Every clip once over ``sessions`` sockets; what ``turns`` saw of each."""
    todo = iter(clips)
    found: list[dict[str, Any]] = []

    async def session(warm: Clip) -> None:
        async with connect(url, additional_headers={"authorization": f"Bearer {key}"}) as ws:
            vad = {"type": "server_vad", "silence_duration_ms": silence_ms}
            input_ = {
                "format": {"type": "audio/pcm", "rate": 8000},
                "transcription": {"language": "en"},
                "turn_detection": vad,
            }
            update = {"type": "session.update", "session": {"type": "transcription", "audio": {"input": input_}}}
            await ws.send(json.dumps(update))
            await turns(ws, warm)  # the first turn of a socket pays for its connection
            for clip in todo:
                found.append(await turns(ws, clip))

    async with asyncio.TaskGroup() as group:
        for _ in range(sessions):
            group.create_task(session(clips[0]))
    return found


def speech_end_s(pcm: bytes) -> float:
    """Where the last word ends in 16-bit samples at 8 kHz."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
    twice = np.interp(np.arange(2 * len(samples)) / 2, np.arange(len(samples)), samples).astype(np.float32)
    spans = get_speech_timestamps(twice, VadOptions(speech_pad_ms=0, min_silence_duration_ms=100))
    return float(spans[-1]["end"]) / 16000 if spans else len(samples) / 8000


async def turns(ws: Any, clip: Clip) -> dict[str, Any]:
    """One clip and the silence after it; times in ms from the end of its speech."""
    with wave.open(str(clip.path)) as file:
        pcm = file.readframes(file.getnframes())
    step = int(8000 * _PIECE_S) * 2
    pieces = [pcm[at : at + step] for at in range(0, len(pcm), step)]
    quiet = [bytes(step)] * int(_SILENCE_S / _PIECE_S)
    begun = time.perf_counter()
    ended = begun + speech_end_s(pcm)
    seen: dict[str, Any] = {"clip": clip.name, "text": "", "deltas_while_speaking": 0}

    async def hear() -> None:
        while True:
            event = json.loads(await ws.recv())
            now, kind = time.perf_counter(), event["type"].rpartition(".")[2]
            if kind == "speech_stopped":
                seen["speech_stopped"] = (now - ended) * 1000  # of the last turn, where the clip has pauses
            elif kind == "delta":
                seen["deltas_while_speaking"] += now < ended
            elif kind in ("completed", "failed"):
                seen["completed"] = (now - ended) * 1000
                seen["completed_after_stopped"] = seen["completed"] - seen["speech_stopped"]
                seen["text"] = " ".join(filter(None, (seen["text"], event.get("transcript"))))
                if kind == "failed":
                    raise RuntimeError(f"{clip.name}: {event}")

    hearing = asyncio.create_task(hear())
    for number, piece in enumerate([*pieces, *quiet]):
        await asyncio.sleep(max(0.0, begun + (number + 1) * _PIECE_S - time.perf_counter()))
        await ws.send(json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(piece).decode()}))
    await asyncio.wait([hearing], timeout=3.0)
    hearing.cancel()
    if hearing.done() and not hearing.cancelled() and (error := hearing.exception()) is not None:
        raise error
    return seen
