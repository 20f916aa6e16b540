"""The IndicConformer host's process: command line, loading, serving, stopping.

What it is: what ``python -m appliance.hosts.conformer`` runs. Files are checked first, then a second of noise is
decoded under every language's mask, and only then it listens.
What it refuses to be: a downloader; the model directory has to be there.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from appliance.hosts.audio import AudioDecoder, DecodeLimits
from appliance.hosts.audio_wire import RATE
from appliance.hosts.batcher import Batcher, Limits
from appliance.hosts.conformer_files import ModelUnusable
from appliance.hosts.conformer_job import ConformerTranscriber
from appliance.hosts.conformer_model import ConformerSpeech, Provider, Speech, Window, usable
from appliance.hosts.conformer_text import Decoded
from appliance.hosts.serving import MODEL_MISSING, bounds, check_socket, common_arguments, serve, stoppable
from appliance.hosts.whisper_app import AppLimits, Host, create_app
from appliance.hosts.whisper_metrics import Metrics
from appliance.logs import set_up


@dataclass(frozen=True)
class Shape:
    """How the machine is used: ``workers`` batches at a time of ``max_batch`` windows, ``threads`` for each."""

    provider: Provider
    workers: int
    threads: int
    max_batch: int


def shape(provider: Provider, threads: int, max_batch: int) -> Shape:
    """Defaults for a provider: small batches on a CPU, whose caches they have to share, large ones on a GPU."""
    if provider == "cpu":
        return Shape(provider, 1, threads, max_batch or 4)
    return Shape(provider, 1, 1, max_batch or 32)


def build(speech: Speech, how: Shape, *, model: str, max_wait_s: float, max_audio_s: int, limits: AppLimits) -> Host:
    """All parts of a host around a loaded model."""
    metrics = Metrics("appliance_conformer_")
    batcher: Batcher[Window, Decoded] = Batcher(
        speech.run,
        Limits(max_batch=how.max_batch, max_wait_s=max_wait_s),
        workers=how.workers,
        observer=metrics,
        name="conformer",
    )
    cpu = ThreadPoolExecutor(2, thread_name_prefix="features")
    transcriber = ConformerTranscriber(speech, batcher, cpu, metrics, in_flight=max(4, how.max_batch // 2))
    decoder = AudioDecoder(workers=2, limits=DecodeLimits(max_audio_s=max_audio_s))
    return Host(decoder, batcher, transcriber, metrics, model=model, clock=time.monotonic, limits=limits)


def rehearse(speech: Speech) -> None:
    """One real decode of a second of faint noise in every language; raises when the model cannot."""
    noise = (np.random.default_rng(0).standard_normal(RATE) * 300).astype(np.int16)
    speech.hear(noise)
    features = speech.features(noise)
    for result in speech.run([Window(features, language) for language in speech.languages]):
        if isinstance(result, Exception):
            raise result


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m appliance.hosts.conformer", description="Serve one IndicConformer.")
    common_arguments(p)
    p.add_argument("--device", choices=("auto", "cpu", "cuda", "tensorrt"), default="auto")
    p.add_argument("--device-id", type=int, default=0, help="which of the GPUs this process sees")
    p.add_argument("--decoding", choices=("greedy", "beam", "rnnt"), default="greedy")
    p.add_argument("--max-batch", type=int, default=0, help="windows in one batch; default 4 on cpu, 32 on a GPU")
    p.add_argument("--engine-cache", type=Path, help="where TensorRT keeps what it builds; default: beside the socket")
    return p


def load(args: argparse.Namespace) -> tuple[Speech, Shape]:
    """The model of ``args``, having decoded once; exits with one sentence when it cannot."""
    try:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        provider = usable(args.device, onnxruntime.get_available_providers(), visible)
        how, speech = _loaded(args, provider)
        if args.device == "auto" and provider != "cpu" and speech.on == "CPU":
            logging.getLogger(__name__).warning("ONNX Runtime has no GPU to use here; going on with the CPU")
            how, speech = _loaded(args, "cpu")
    except ModelUnusable as e:
        print(e, file=sys.stderr)
        sys.exit(MODEL_MISSING)
    if how.provider != "cpu" and speech.on == "CPU":
        sys.exit(f"ONNX Runtime fell back to the CPU although {how.provider} was asked for; see above for why")
    try:
        rehearse(speech)
    except Exception as e:  # ONNX Runtime has a class for each of its status codes and no common one
        sys.exit(f"the model in {args.model_dir} does not decode ({e}); try --device cpu")
    return speech, how


def _loaded(args: argparse.Namespace, provider: Provider) -> tuple[Shape, ConformerSpeech]:
    """Raises ModelUnusable."""
    how = shape(provider, args.threads or len(os.sched_getaffinity(0)), args.max_batch)
    cache = args.engine_cache or args.socket.parent / "tensorrt"
    if provider == "tensorrt":
        cache.mkdir(parents=True, exist_ok=True)
    speech = ConformerSpeech(
        args.model_dir,
        provider=provider,
        device=args.device_id,
        threads=how.threads,
        decoding=args.decoding,
        cache=cache,
    )
    return how, speech


def main(argv: Sequence[str] | None = None) -> None:
    """Check, load, listen, serve until SIGTERM."""
    args = parser().parse_args(argv)
    check_socket(args.socket)
    set_up("conformer", "text")
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
