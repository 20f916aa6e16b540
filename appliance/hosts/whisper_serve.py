"""The Whisper host's process: command line, loading, serving, stopping.

What it is: what ``python -m appliance.hosts.whisper`` runs. It loads the model, decodes something real, and
only then listens, so that a socket that answers is an engine that works. SIGTERM lets running requests
finish (at most ``--drain-s``).
What it refuses to be: a supervisor or a downloader; the model directory has to be there.
Cost: base int8 with two workers is ready in 2 s; 600 MB after a busy run, 900 MB at its peak.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvicorn

from appliance.hosts.audio import AudioDecoder, DecodeLimits
from appliance.hosts.audio_wire import RATE
from appliance.hosts.batcher import Batcher, Limits
from appliance.hosts.whisper_app import AppLimits, Host, create_app
from appliance.hosts.whisper_job import Transcriber
from appliance.hosts.whisper_metrics import Metrics
from appliance.hosts.whisper_model import Speech, WhisperSpeech, Window
from appliance.hosts.whisper_text import Decode
from appliance.hosts.whisper_windows import BUCKETS_S

_NEEDED = ("model.bin", "config.json", "tokenizer.json")
MODEL_MISSING = 66
"""Exit code that tells the supervisor not to start this again; a test holds it to ``supervisor.exits``."""


@dataclass(frozen=True)
class Shape:
    """How the machine is used: ``workers`` batches at a time, ``threads`` for each, ``max_batch`` windows."""

    device: str
    compute_type: str
    workers: int
    threads: int
    max_batch: int


def shape(device: str, compute_type: str, threads: int, max_batch: int) -> Shape:
    """Defaults for a device. On CPU several batches at one thread beat one batch at several threads (base, 2
    cores: intra-op threads gave the encoder nothing); a GPU takes one large batch at a time.
    """
    if device == "cuda":
        return Shape(device, compute_type or "float16", 1, 0, max_batch or 32)
    workers = min(threads, 4)
    return Shape(device, compute_type or "int8", workers, threads // workers, max_batch or 8)


def build(speech: Speech, how: Shape, *, model: str, max_wait_s: float, max_audio_s: int, limits: AppLimits) -> Host:
    """All parts of a host around a loaded model."""
    metrics = Metrics()
    batcher: Batcher[Window, Decode] = Batcher(
        speech.run,
        Limits(max_batch=how.max_batch, max_wait_s=max_wait_s),
        workers=how.workers,
        observer=metrics,
        name="whisper",
    )
    cpu = ThreadPoolExecutor(max(2, how.workers), thread_name_prefix="features")
    transcriber = Transcriber(speech, batcher, cpu, metrics, in_flight=max(4, how.max_batch // 2))
    decoder = AudioDecoder(workers=max(2, how.workers), limits=DecodeLimits(max_audio_s=max_audio_s))
    return Host(decoder, batcher, transcriber, metrics, model=model, clock=time.monotonic, limits=limits)


def rehearse(speech: Speech) -> None:
    """One real decode of a second of faint noise; raises when the model cannot."""
    noise = (np.random.default_rng(0).standard_normal(RATE) * 300).astype(np.int16)
    speech.hear(noise)
    results = speech.run([Window(speech.features(noise, BUCKETS_S[0]), 1.0, speech.languages[0])])
    if isinstance(results[0], Exception):
        raise results[0]


def listen(path: Path) -> socket.socket:
    """A listening Unix socket that only this user can open; a stale one at ``path`` is replaced."""
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        server.bind(str(path))
    finally:
        os.umask(before)
    server.listen(1024)
    return server


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m appliance.hosts.whisper", description="Serve one Whisper model.")
    p.add_argument("--socket", type=Path, required=True, help="Unix socket to listen on, at most 100 bytes long")
    p.add_argument("--model-dir", type=Path, required=True, help="CTranslate2 directory of the model")
    p.add_argument("--model-name", required=True, help="name the model is known by")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--compute-type", default="", help="default: int8 on cpu, float16 on cuda")
    p.add_argument("--threads", type=int, default=0, help="CPU threads in all; 0 = every core this process may use")
    p.add_argument("--max-batch", type=int, default=0, help="windows in one batch; default 8 on cpu, 32 on cuda")
    p.add_argument("--max-wait-ms", type=float, default=15.0, help="how long a window waits for company")
    p.add_argument("--max-audio-bytes", type=int, default=AppLimits.max_body_bytes, help="largest upload")
    p.add_argument("--max-audio-s", type=int, default=4 * 3600, help="longest upload")
    p.add_argument("--max-queued-audio-s", type=float, default=4 * 3600.0, help="audio held before refusing more")
    p.add_argument("--drain-s", type=float, default=20.0, help="how long running requests may finish after SIGTERM")
    return p


def bounds(args: argparse.Namespace) -> AppLimits:
    """What the command line says of sizes."""
    return AppLimits(max_body_bytes=args.max_audio_bytes, max_held_audio_s=args.max_queued_audio_s)


def load(args: argparse.Namespace) -> tuple[Speech, Shape]:
    """The model of ``args``, having decoded once; exits with one sentence when it cannot."""
    missing = [name for name in _NEEDED if not (args.model_dir / name).is_file()]
    if missing:
        print(f"{args.model_dir} has no {', '.join(missing)}; run `make models`", file=sys.stderr)
        sys.exit(MODEL_MISSING)
    import ctranslate2

    device = args.device
    if device == "auto":
        device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
    how = shape(device, args.compute_type, args.threads or len(os.sched_getaffinity(0)), args.max_batch)
    try:
        speech = WhisperSpeech(
            args.model_dir, device=device, compute_type=how.compute_type, workers=how.workers, threads=how.threads
        )
        rehearse(speech)
    except (RuntimeError, ValueError, OSError) as e:
        sys.exit(f"the model in {args.model_dir} does not load or decode ({e}); run `make models` or try --device cpu")
    return speech, how


def _stop(signum: int, frame: object) -> None:
    sys.exit(0)


def main(argv: Sequence[str] | None = None) -> None:
    """Load, listen, serve until SIGTERM."""
    args = parser().parse_args(argv)
    if len(os.fsencode(args.socket)) > 100:
        sys.exit(f"the socket path {args.socket} is longer than 100 bytes; choose a shorter directory")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Before the server runs, a signal ends the process; uvicorn takes over, drains, and raises it once more.
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    speech, how = load(args)
    host = build(
        speech,
        how,
        model=args.model_name,
        max_wait_s=args.max_wait_ms / 1000,
        max_audio_s=args.max_audio_s,
        limits=bounds(args),
    )
    config = uvicorn.Config(
        create_app(host),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=max(1, round(args.drain_s)),
    )
    listener = listen(args.socket)
    logging.getLogger(__name__).info("%s is ready on %s (%s)", args.model_name, args.socket, how)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        args.socket.unlink(missing_ok=True)
