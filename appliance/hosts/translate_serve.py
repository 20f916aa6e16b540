"""The translation host's process: command line, loading, serving, stopping.

What it is: what ``python -m appliance.hosts.translate`` runs. It loads every direction of the models it is given,
translates a word with each, and only then listens, so that a socket that answers is an engine that works. SIGTERM lets
running requests finish (at most ``--drain-s``).
What it refuses to be: a supervisor or a downloader; the model directories have to be there.
Cost: the weights; the embedded model is ready in 2 s and holds about 200 MB.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from appliance.hosts.batcher import Batcher, Limits, Observer
from appliance.hosts.serving import MODEL_MISSING, check_socket, serve, stoppable
from appliance.hosts.translate_app import Host, create_app
from appliance.hosts.translate_job import Job
from appliance.hosts.translate_metrics import Metrics, OfDirection
from appliance.hosts.translate_model import MOST_WRITTEN, Direction, Line, Queue, Translates, Way, directions_in
from appliance.logs import set_up


@dataclass(frozen=True)
class Shape:
    """How the machine is used: ``workers`` batches at a time of each direction, ``threads`` for each batch."""

    device: str
    compute_type: str
    workers: int
    threads: int
    max_batch: int
    max_tokens: int


class Continues(Translates, Protocol):
    """A direction that brings its own queue along (``indictrans_torch``)."""

    def queue(self, observer: Observer) -> Queue:
        """The queue in front of it."""
        ...


def shape(device: str, compute_type: str, threads: int, max_batch: int, max_tokens: int, workers: int = 0) -> Shape:
    """Defaults for a device; docs/translation.md has the measurements."""
    if device == "cuda":
        return Shape(device, compute_type or "float16", workers or 1, 0, max_batch or 128, max_tokens or 8192)
    workers = workers or min(threads, 4)
    return Shape(
        device, compute_type or "int8", workers, max(1, threads // workers), max_batch or 32, max_tokens or 1024
    )


def build(have: Mapping[Way, Direction | Continues], how: Shape, *, models: tuple[str, ...], max_wait_s: float) -> Host:
    """All parts of a host around loaded directions."""
    metrics = Metrics()
    limits = Limits(max_batch=how.max_batch, max_wait_s=max_wait_s, max_cost=how.max_tokens)
    queues: dict[Way, Queue] = {}
    for way, direction in have.items():
        observer = OfDirection(metrics, way)
        if isinstance(direction, Direction):
            queues[way] = Batcher(direction.run, limits, workers=how.workers, observer=observer, name=way)
        else:
            queues[way] = direction.queue(observer)
    return Host(Job(have, queues, time.monotonic), queues, metrics, models)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m appliance.hosts.translate", description="Serve translation models.")
    p.add_argument("--socket", type=Path, required=True, help="Unix socket to listen on, at most 100 bytes long")
    p.add_argument("--model", action="append", required=True, metavar="NAME=DIR", help="a model; may be repeated")
    p.add_argument("--torch", action="append", default=[], metavar="NAME", help="a model that PyTorch runs, see docs")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--compute-type", default="", help="default: int8 on cpu, float16 on cuda")
    p.add_argument("--threads", type=int, default=0, help="CPU threads in all; 0 = every core this process may use")
    p.add_argument("--workers", type=int, default=0, help="batches at once, which share the threads; 0 = up to 4")
    p.add_argument("--beams", type=int, default=5, help="beams of the search (default 5)")
    p.add_argument("--most-written", type=int, default=MOST_WRITTEN, help="pieces of a translation at most")
    p.add_argument(
        "--max-batch",
        type=int,
        default=0,
        help="sentences in one batch; default 32 on cpu, 128 on cuda; PyTorch 8 and 64",
    )
    p.add_argument("--max-tokens", type=int, default=0, help="pieces in one batch; default 1024 on cpu, 8192 on cuda")
    p.add_argument("--max-wait-ms", type=float, default=5.0, help="how long a sentence waits for company")
    p.add_argument("--drain-s", type=float, default=20.0, help="how long running requests may finish after SIGTERM")
    return p


def load(args: argparse.Namespace) -> tuple[dict[Way, Direction | Continues], Shape, tuple[str, ...]]:
    """Every direction of ``args``, having translated once; exits with one sentence when one cannot."""
    places: dict[Way, tuple[str, Path]] = {}
    try:
        for given in args.model:
            name, _, directory = given.partition("=")
            for way, path in directions_in(name, Path(directory)).items():
                places.setdefault(way, (name, path))  # what is named first leads
    except ValueError as e:
        print(e, file=sys.stderr)
        sys.exit(MODEL_MISSING)
    import ctranslate2

    device = args.device
    if device == "auto":
        device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
    threads = args.threads or len(os.sched_getaffinity(0))
    how = shape(device, args.compute_type, threads, args.max_batch, args.max_tokens, args.workers)
    make = partial(
        Direction,
        device=device,
        compute_type=how.compute_type,
        workers=how.workers,
        threads=how.threads,
        beams=args.beams,
        most_written=args.most_written,
    )
    have: dict[Way, Direction | Continues] = {}
    try:
        for way, (name, path) in places.items():
            direction = _on_torch(path, way, name, args) if name in args.torch else make(path, way, name)
            direction.run([Line(direction.pieces(_WORDS[way]))])
            have[way] = direction
    except (RuntimeError, ValueError, OSError) as e:
        sys.exit(f"a model does not load or translate ({e}); run `appliance models verify`, or try --device cpu")
    return have, how, tuple(given.partition("=")[0] for given in args.model)


def _on_torch(path: Path, way: Way, name: str, args: argparse.Namespace) -> Continues:
    """Loaded here, so that a host without such a model loads no torch."""
    from appliance.hosts.indictrans_torch import load

    return load(path, way, name, args)


_WORDS: dict[Way, str] = {
    "en-indic": "eng_Latn hin_Deva Open",
    "indic-en": "hin_Deva eng_Latn खोलें",
    "indic-indic": "hin_Deva mar_Deva खोलें",
    "latn-indic": "eng_Latn hin_Deva mera",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Load, listen, serve until SIGTERM."""
    args = parser().parse_args(argv)
    check_socket(args.socket)
    set_up("translate", "text", trusted=(RuntimeError,))  # CTranslate2's, about the device
    stoppable()
    have, how, models = load(args)
    host = build(have, how, models=models, max_wait_s=args.max_wait_ms / 1000)
    serve(create_app(host), args, f"{', '.join(have)} ready on {args.socket} ({how})")
