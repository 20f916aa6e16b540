"""``make bench-speech``: our Whisper host against faster-whisper, speed and word error rate together.

What it is: every clip of the corpus through both sides, in alternating blocks so that a busy machine hurts
both alike. Speed (RTFx: seconds of audio a second) and WER come from the same texts; the WER difference has a
95 % paired bootstrap interval. Clips in which nobody speaks are timed and scored apart: there the only right
answer is nothing, and a side that skips them would look fast for free.
What it refuses to be: a figure without its quality, or a run without its circumstances: one dated JSON each.
Cost: 9 minutes on 2 slow cores; ``--limit`` takes a spread-out part.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from appliance_bench import wer
from appliance_bench.gateway_report import machine, revision, write
from appliance_bench.speech_corpus import PACKAGES, Clip, NoCorpus, digest, fetch, load
from appliance_bench.speech_sides import BEAM, Baseline, OurHost, Run

LANGUAGE = "en"
WANTED_RATIO = 4.0
WANTED_POINTS = 1.0
_PACKAGES = ("ctranslate2", "faster-whisper", "av", "onnxruntime", "numpy", "uvicorn", "starlette")


def spread(clips: Sequence[Clip], limit: int) -> list[Clip]:
    """``limit`` clips evenly over the sorted list; 0 takes all."""
    if limit <= 0 or limit >= len(clips):
        return list(clips)
    return [clips[i * len(clips) // limit] for i in range(limit)]


def blocks(clips: Sequence[Clip], count: int) -> list[list[Clip]]:
    """``count`` blocks of alike composition: every ``count``-th clip."""
    return [list(clips[i::count]) for i in range(count) if clips[i::count]]


def measure(clips: Sequence[Clip], baseline: Baseline, host: OurHost, count: int) -> tuple[Run, Run]:
    """Both sides over all ``clips`` in alternating blocks; who begins alternates too."""
    theirs, ours = Run({}), Run({})
    for i, block in enumerate(blocks(clips, count)):
        for side in (0, 1) if i % 2 == 0 else (1, 0):
            if side == 0:
                theirs.add(baseline.transcribe(block, LANGUAGE))
            else:
                ours.add(host.transcribe(block, LANGUAGE))
    return theirs, ours


def judge(spoken: Sequence[Clip], theirs: Run, ours: Run) -> dict[str, Any]:
    """Speed and WER of both sides over clips with words, and the ratio and difference between them."""
    audio_s = sum(clip.seconds for clip in spoken)
    counted = {
        name: [wer.errors(clip.text, run.texts[clip.name]) for clip in spoken]
        for name, run in (("baseline", theirs), ("host", ours))
    }
    interval = wer.paired_bootstrap(counted["host"], counted["baseline"])
    sides = {
        name: {
            "wer": round(wer.rate(counted[name]), 3),
            "substitutions": sum(c.substitutions for c in counted[name]),
            "deletions": sum(c.deletions for c in counted[name]),
            "insertions": sum(c.insertions for c in counted[name]),
            "wall_s": round(run.wall_s, 2),
            "cpu_s": round(run.cpu_s, 2),
            "rtfx": round(audio_s / run.wall_s, 2),
        }
        for name, run in (("baseline", theirs), ("host", ours))
    }
    return {
        "clips": len(spoken),
        "audio_s": round(audio_s, 1),
        "words": sum(c.words for c in counted["host"]),
        **sides,
        "speed_ratio": round(theirs.wall_s / ours.wall_s, 3),
        "cpu_ratio": round(theirs.cpu_s / ours.cpu_s, 3),
        "wer_difference": {k: round(v, 3) for k, v in asdict(interval).items()},
        "errors_per_clip": {
            clip.name: [b.total, h.total]
            for clip, b, h in zip(spoken, counted["baseline"], counted["host"], strict=True)
            if b.total or h.total
        },
    }


def invented(silent: Sequence[Clip], run: Run) -> dict[str, Any]:
    """Words where nobody speaks: how many, and in how many clips."""
    words = [len(wer.normalise(run.texts[clip.name])) for clip in silent]
    return {"words": sum(words), "clips": sum(1 for w in words if w), "wall_s": round(run.wall_s, 2)}


def table(result: dict[str, Any]) -> Table:
    """What a person reads."""
    speech, silence = result["speech"], result["no_speech"]
    title = f"{speech['clips']} clips, {speech['audio_s'] / 60:.1f} min, {speech['words']} words; {result['model']}"
    out = Table(title=title)
    for column in ("", "RTFx", "wall s", "CPU s", "WER %", "invented words *"):
        out.add_column(column, justify="left" if not column else "right")
    for name, label in (("baseline", "faster-whisper, one by one"), ("host", f"host, {result['concurrency']} at once")):
        side = speech[name]
        cells = (f"{side['rtfx']:.1f}", f"{side['wall_s']:.1f}", f"{side['cpu_s']:.1f}", f"{side['wer']:.2f}")
        out.add_row(label, *cells, str(silence[name]["words"]))
    return out


def verdict(speech: dict[str, Any]) -> list[str]:
    """Whether the two targets are met, in words."""
    ratio, d = speech["speed_ratio"], speech["wer_difference"]
    return [
        f"speed {ratio:.2f}x (CPU {speech['cpu_ratio']:.2f}x), wanted {WANTED_RATIO:g}x:"
        f" {'met' if ratio >= WANTED_RATIO else 'MISSED'}",
        f"WER {d['difference']:+.2f} points, 95 % interval {d['low']:+.2f} to {d['high']:+.2f}, wanted at most"
        f" +{WANTED_POINTS:g}: {'met' if d['high'] <= WANTED_POINTS else 'MISSED'}",
    ]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure as ``args`` say; the result as it is written."""
    clips = load(args.corpus or fetch(args.cache))
    spoken = spread([c for c in clips if wer.normalise(c.text)], args.limit)
    silent = [] if args.limit else [c for c in clips if not wer.normalise(c.text)]
    circumstances = {"machine": machine(), "git": revision()}
    extra = args.host_args.split()
    host = OurHost(
        args.model_dir,
        compute_type=args.compute_type,
        threads=args.threads,
        concurrency=args.concurrency,
        extra=extra,
    )
    with host, Baseline(args.model_dir, compute_type=args.compute_type, threads=args.threads) as baseline:
        for side in (baseline, host):  # the first decode of a process pays for its memory
            side.transcribe(spoken[: args.concurrency], LANGUAGE)
        theirs, ours = measure(spoken, baseline, host, args.blocks)
        quiet = {"baseline": baseline.transcribe(silent, LANGUAGE), "host": host.transcribe(silent, LANGUAGE)}
        counters = [line for line in host.metrics().splitlines() if not line.startswith("#") and "_created" not in line]
    return {
        **circumstances,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "model": args.model_dir.name,
        "compute_type": args.compute_type,
        "threads": args.threads,
        "beam": BEAM,
        "concurrency": args.concurrency,
        "blocks": args.blocks,
        "host_args": extra,
        "corpus": {"packages": PACKAGES, "sha256": digest([*spoken, *silent]), "limit": args.limit},
        "speech": judge(spoken, theirs, ours),
        "no_speech": {"clips": len(silent), **{name: invented(silent, r) for name, r in quiet.items()}},
        "host_metrics": counters,
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    home = Path(os.environ.get("APPLIANCE_HOME") or "~/.appliance").expanduser()
    p = argparse.ArgumentParser(prog="python -m appliance_bench.speech", description="Whisper host: speed and WER.")
    p.add_argument("--model-dir", type=Path, default=home / "models" / "whisper-base", help="CTranslate2 directory")
    p.add_argument("--corpus", type=Path, help="the two Debian packages unpacked; default: fetched with apt")
    p.add_argument("--cache", type=Path, default=home / "cache" / "bench-speech", help="where fetched packages stay")
    p.add_argument("--limit", type=int, default=0, help="only so many clips with speech, spread out; 0 = all")
    p.add_argument("--concurrency", type=int, default=8, help="clips sent to the host at once")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads for each side")
    p.add_argument("--compute-type", default="int8")
    p.add_argument("--blocks", type=int, default=8, help="alternating blocks")
    p.add_argument("--host-args", default="", help="more arguments for the host, in one string")
    results = Path(__file__).resolve().parents[1] / "results"
    p.add_argument("--results", type=Path, default=results, help="directory for the JSON")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    args = parser().parse_args(argv)
    if not (args.model_dir / "model.bin").is_file():
        sys.exit(f"{args.model_dir} holds no model.bin; run make models, or name a directory with --model-dir")
    try:
        result = run(args)
    except NoCorpus as e:
        sys.exit(str(e))
    console = Console()
    console.print(table(result))
    console.print("* words written for clips in which nobody speaks; faster-whisper ran with its defaults, without VAD")
    for line in verdict(result["speech"]):
        console.print(line, highlight=False)
    console.print(f"written to {write(args.results, 'speech', result)}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
