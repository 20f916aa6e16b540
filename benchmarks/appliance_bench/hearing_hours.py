"""``make bench-hearing ARGS="--part hours"``: one recording of hours as a job: progress, memory, words, who else waits.

What it is: ``appliance serve`` with one Whisper engine in a home of its own; human clips joined and repeated until they
last ``hours``, as 8 kHz ogg/opus at 12 kbit/s, sent to ``/v1/audio/transcriptions/jobs``. Every second the job's status
and the memory of the speech host and of the gateway are read; every ``_CALLER_S`` seconds a short clip is sent as
anybody would send it, to see how long it waits beside the job.
What it refuses to be: short. Three hours take 5 to 10 minutes on 2 slow cores.
"""

from __future__ import annotations

import io
import statistics
import time
import wave
from pathlib import Path
from typing import Any

import av
import httpx

from appliance_bench import wer
from appliance_bench.hearing_live import served
from appliance_bench.speech_corpus import Clip

_RATE, _BITS = 8000, 12_000
_CALLER_S = 15.0
_PROCESSES = (("hosts.audio_worker", "decoders"), ("hosts.whisper", "host"), ("\0gateway", "gateway"))


def run(clip: Clip, model_dir: Path, hours: float, cache: Path) -> dict[str, Any]:
    """``clip`` again and again for ``hours``."""
    times = max(1, round(hours * 3600 / clip.seconds))
    upload = encoded(clip.path, times, cache / f"hours-{times}x{clip.seconds:.0f}.ogg")
    with served(model_dir) as (port, key, pid):
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {key}"}, timeout=600
        )
        form = {"model": "whisper-1", "language": "en"}
        caller = {"file": ("short.wav", _short(clip.path))}
        client.post("/v1/audio/transcriptions", data=form, files=caller).raise_for_status()
        before = peak = resident_mb(pid)
        begun = time.perf_counter()
        with upload.open("rb") as file:
            whole = {**form, "response_format": "verbose_json"}
            answer = client.post("/v1/audio/transcriptions/jobs", data=whole, files={"file": ("hours.ogg", file)})
        answer.raise_for_status()
        job = answer.json()
        progress: list[tuple[float, int]] = []
        waits: list[float] = []
        asked = 0.0
        while job["status"] in ("queued", "running"):
            time.sleep(1.0)
            job = client.get(job["status_url"]).json()
            now = time.perf_counter() - begun
            held = resident_mb(pid)
            peak = {name: max(held.get(name, 0.0), peak.get(name, 0.0)) for name in {**held, **peak}}
            if not progress or progress[-1][1] != job["progress_percent"]:
                progress.append((round(now, 1), job["progress_percent"]))
            if now - asked > _CALLER_S and job["status"] == "running":
                asked = now
                sent = time.perf_counter()
                client.post("/v1/audio/transcriptions", data=form, files=caller).raise_for_status()
                waits.append(time.perf_counter() - sent)
        wall_s = time.perf_counter() - begun
        result = client.get(job["result_url"])
        result.raise_for_status()
        segments = result.json()["segments"]
    rounds = [
        " ".join(s["text"] for s in segments if int((s["start"] + s["end"]) / 2 / clip.seconds) == n)
        for n in range(times)
    ]
    errors = [wer.errors(clip.text, text) for text in rounds]
    audio_s = result.json()["usage"]["seconds"]
    return {
        "audio_s": round(audio_s, 1),
        "upload_mb": round(upload.stat().st_size / 1e6, 1),
        "wall_s": round(wall_s, 1),
        "rtfx": round(audio_s / wall_s, 1),
        "rounds": times,
        "wer": round(wer.rate(errors), 2),
        "words": sum(len(wer.normalise(text)) for text in rounds),
        "resident_mb_before": before,
        "resident_mb_most": peak,
        "progress": progress,
        "short_clips_beside_it": len(waits),
        "short_clip_s": {"median": round(statistics.median(waits), 2), "most": round(max(waits), 2)} if waits else None,
    }


def encoded(path: Path, times: int, out: Path) -> Path:
    """The recording ``times`` over, as ogg/opus."""
    if out.is_file():
        return out
    part = out.with_suffix(".part")
    with av.open(str(part), "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=_RATE, layout="mono", bit_rate=_BITS)
        for _ in range(times):
            with av.open(str(path)) as source:
                for frame in source.decode(audio=0):
                    frame.pts = None
                    container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    part.replace(out)
    return out


def _short(path: Path) -> bytes:
    """The first three seconds, as a wav file."""
    out = io.BytesIO()
    with wave.open(str(path)) as source, wave.open(out, "wb") as short:
        short.setparams(source.getparams())
        short.writeframes(source.readframes(3 * source.getframerate()))
    return out.getvalue()


def resident_mb(root: int) -> dict[str, float]:
    """Resident memory of the processes below ``root``: of the speech host, of all decoders, and of the gateway."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended meanwhile
    found: dict[str, float] = {}
    for pid in parents:
        above = pid
        while above in parents and above != root:
            above = parents[above]
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text()
            name = next((name for part, name in _PROCESSES if part in command), None)
            if above == root and name is not None and "guard.py" not in command:
                found[name] = round(found.get(name, 0.0) + _rss_mb(pid), 1)
        except OSError:
            continue
    return found


def _rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0
