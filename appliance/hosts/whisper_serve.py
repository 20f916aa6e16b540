"""The Whisper host's process: command line, loading, serving, stopping.

What it is: what ``python -m appliance.hosts.whisper`` runs. It loads the model, decodes something real, and
only then listens, so that a socket that answers is an engine that works. SIGTERM lets running requests
finish (at most ``--drain-s``).
What it refuses to be: a supervisor or a downloader; the model directory has to be there.
Cost: base int8 with two workers is ready in 2 s; 600 MB after a busy run, 900 MB at its peak.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from appliance.hosts.audio import AudioDecoder, DecodeLimits
from appliance.hosts.audio_wire import RATE
from appliance.hosts.batcher import Batcher, Limits
from appliance.hosts.serving import MODEL_MISSING, bounds, check_socket, common_arguments, serve, stoppable
from appliance.hosts.whisper_app import AppLimits, Host, create_app
from appliance.hosts.whisper_job import Transcriber
from appliance.hosts.whisper_metrics import Metrics
from appliance.hosts.whisper_model import BEAM, Speech, WhisperSpeech, Window
from appliance.hosts.whisper_text import Decode
from appliance.hosts.whisper_windows import BUCKETS_S, buckets_of
from appliance.logs import set_up

_NEEDED = ("model.bin", "config.json", "tokenizer.json")


@dataclass(frozen=True)
class Shape:
    """How the machine is used: ``workers`` batches at a time, ``threads`` for each, ``max_batch`` windows."""

    device: str
    compute_type: str
    workers: int
    threads: int
    max_batch: int
    beams: int = BEAM
    buckets: tuple[int, ...] = BUCKETS_S


def shape(device: str, compute_type: str, threads: int, max_batch: int, workers: int = 0) -> Shape:
    """Defaults for a device. On CPU several batches at one thread beat one batch at several threads (base, 2
    cores: intra-op threads gave the encoder nothing); a GPU takes one large batch at a time.
    """
    if device == "cuda":
        return Shape(device, compute_type or "float16", workers or 1, 0, max_batch or 32)
    workers = workers or min(threads, 4)
    return Shape(device, compute_type or "int8", workers, max(1, threads // workers), max_batch or 8)


def build(speech: Speech, how: Shape, *, model: str, max_wait_s: float, max_audio_s: int, limits: AppLimits) -> Host:
    """All parts of a host around a loaded model."""
    metrics = Metrics()
    batcher: Batcher[Window, Decode] = Batcher(
        speech.run,
        Limits(max_batch=how.max_batch, max_wait_s=max_wait_s),
        workers=how.workers,
        observer=metrics,
        name="whisper",
        share_out=how.device == "cpu",  # windows are encoded one by one there, and decoded at the same price
    )
    cpu = ThreadPoolExecutor(max(2, how.workers), thread_name_prefix="features")
    in_flight = max(4, 3 * how.workers, how.max_batch // 2)
    transcriber = Transcriber(speech, batcher, cpu, metrics, in_flight=in_flight, buckets=how.buckets)
    decoder = AudioDecoder(workers=max(2, how.workers), limits=DecodeLimits(max_audio_s=max_audio_s))
    return Host(decoder, batcher, transcriber, metrics, model=model, clock=time.monotonic, limits=limits)


def rehearse(speech: Speech) -> None:
    """One real decode of a second of faint noise; raises when the model cannot."""
    noise = (np.random.default_rng(0).standard_normal(RATE) * 300).astype(np.int16)
    speech.hear(noise)
    results = speech.run([Window(speech.features(noise, BUCKETS_S[0]), 1.0, speech.languages[0])])
    if isinstance(results[0], Exception):
        raise results[0]


def _buckets(text: str) -> tuple[int, ...]:
    try:
        return buckets_of(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from None


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m appliance.hosts.whisper", description="Serve one Whisper model.")
    common_arguments(p)
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--workers", type=int, default=0, help="batches at once, which share the threads; 0 = up to 4")
    p.add_argument("--compute-type", default="", help="default: int8 on cpu, float16 on cuda")
    p.add_argument("--max-batch", type=int, default=0, help="windows in one batch; default 8 on cpu, 32 on cuda")
    p.add_argument("--beams", type=int, choices=range(1, 11), default=BEAM, help=f"beams of the search ({BEAM})")
    lengths = ",".join(map(str, BUCKETS_S))
    p.add_argument("--buckets", type=_buckets, default=BUCKETS_S, help=f"window lengths in seconds ({lengths})")
    return p


def load(args: argparse.Namespace) -> tuple[Speech, Shape]:
    """The model of ``args``, having decoded once; exits with one sentence when it cannot."""
    missing = [name for name in _NEEDED if not (args.model_dir / name).is_file()]
    if missing:
        print(
            f"{args.model_dir} has no {', '.join(missing)}; run `appliance models pull {args.model_name}`",
            file=sys.stderr,
        )
        sys.exit(MODEL_MISSING)
    import ctranslate2

    device = args.device
    if device == "auto":
        device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
    threads = args.threads or len(os.sched_getaffinity(0))
    how = replace(
        shape(device, args.compute_type, threads, args.max_batch, args.workers), beams=args.beams, buckets=args.buckets
    )
    try:
        speech = WhisperSpeech(
            args.model_dir,
            device=device,
            compute_type=how.compute_type,
            workers=how.workers,
            threads=how.threads,
            beams=how.beams,
        )
        rehearse(speech)
    except (RuntimeError, ValueError, OSError) as e:
        sys.exit(
            f"the model in {args.model_dir} does not load or decode ({e}); run `appliance models verify"
            f" {args.model_name}`, or try --device cpu"
        )
    return speech, how


def main(argv: Sequence[str] | None = None) -> None:
    """Load, listen, serve until SIGTERM."""
    args = parser().parse_args(argv)
    check_socket(args.socket)
    set_up("whisper", "text", trusted=(RuntimeError,))  # CTranslate2's, about the device
    stoppable()
    speech, how = load(args)
    host = build(
        speech,
        how,
        model=args.model_name,
        max_wait_s=args.max_wait_ms / 1000,
        max_audio_s=args.max_audio_s,
        limits=bounds(args),
    )
    serve(create_app(host), args, f"{args.model_name} is ready on {args.socket} ({how})")
