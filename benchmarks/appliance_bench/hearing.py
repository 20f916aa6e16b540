"""``make bench-hearing``: speed and error rates together, at several concurrencies, in pieces of a few minutes.

What it is: one part a run (``--part``). ``prompts``: human clips of 3 to 8 s through the host at each concurrency,
against faster-whisper's batched pipeline, with WER, CER and a paired bootstrap of both. ``long``: the same as one file.
``music``: words that are invented where nobody speaks. ``spoken``: sentences that espeak-ng reads. ``directory``: your
own recordings. ``live``: see ``hearing_live``. ``hours``: see ``hearing_hours``.
The other side is faster-whisper's batched pipeline, or a server (``--against``, see ``hearing_server``).
What it refuses to be: one long run. Each part writes a JSON of its own, with the machine and the versions.
Cost: 1 to 4 minutes a part on 2 slow cores; ``--limit`` takes a spread-out part.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import statistics
import sys
import wave
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from appliance_bench import hearing_corpora as corpora
from appliance_bench import hearing_hours, hearing_live, wer
from appliance_bench.gateway_report import machine, revision, write
from appliance_bench.hearing_server import Server
from appliance_bench.speech import blocks, spread
from appliance_bench.speech_corpus import Clip, NoCorpus, digest
from appliance_bench.speech_sides import BEAM, Baseline, OurHost, Run

_PACKAGES = ("ctranslate2", "faster-whisper", "av", "onnxruntime", "numpy")
Host = tuple[int, OurHost]


def score(clips: Sequence[Clip], run: Run) -> dict[str, Any]:
    """Speed, WER and CER of one side."""
    words = [wer.errors(c.text, run.texts[c.name]) for c in clips]
    letters = [wer.letter_errors(c.text, run.texts[c.name]) for c in clips]
    audio_s = sum(c.seconds for c in clips)
    return {
        "wer": round(wer.rate(words), 2),
        "cer": round(wer.rate(letters), 2),
        "wall_s": round(run.wall_s, 2),
        "cpu_s": round(run.cpu_s, 2),
        "rtfx": round(audio_s / run.wall_s, 2),
    }


def compared(clips: Sequence[Clip], ours: Run, theirs: Run) -> dict[str, Any]:
    """Ours against theirs: the ratio of speed, and the difference in points with its interval."""
    points = {}
    for name, count in (("wer", wer.errors), ("cer", wer.letter_errors)):
        mine = [count(c.text, ours.texts[c.name]) for c in clips]
        other = [count(c.text, theirs.texts[c.name]) for c in clips]
        points[name] = {k: round(v, 3) for k, v in asdict(wer.paired_bootstrap(mine, other)).items()}
    return {"speed_ratio": round(theirs.wall_s / ours.wall_s, 2), "points": points}


def race(
    clips: Sequence[Clip], language: str, baseline: Baseline | Server, hosts: Sequence[Host], count: int
) -> dict[str, Any]:
    """All sides over all ``clips`` in alternating blocks."""
    theirs, ours = Run({}), {concurrency: Run({}) for concurrency, _ in hosts}
    baseline.transcribe(clips[:2], language)  # the first decode of a process pays for its memory
    for concurrency, host in hosts:
        host.at_once(concurrency).transcribe(clips[: min(8, concurrency)], language)
    for number, block in enumerate(blocks(clips, count)):
        turns = [*hosts] if number % 2 else [*reversed(hosts)]
        if number % 2:
            theirs.add(baseline.transcribe(block, language))
        for concurrency, host in turns:
            ours[concurrency].add(host.at_once(concurrency).transcribe(block, language))
        if not number % 2:
            theirs.add(baseline.transcribe(block, language))
    return {
        "clips": len(clips),
        "audio_s": round(sum(c.seconds for c in clips), 1),
        "corpus_sha256": digest(list(clips)),
        "baseline": score(clips, theirs),
        "host": {str(c): {**score(clips, run), **compared(clips, run, theirs)} for c, run in ours.items()},
    }


def repeated(clip: Clip, language: str, baseline: Baseline | Server, host: OurHost, count: int) -> dict[str, Any]:
    """Both sides over one long ``clip``, ``count`` times in turns: the median of each, and the ratio of each turn."""
    theirs: list[Run] = []
    ours: list[Run] = []
    for number in range(count):
        for mine in (True, False) if number % 2 else (False, True):
            if mine:
                ours.append(host.at_once(1).transcribe([clip], language))
            else:
                theirs.append(baseline.transcribe([clip], language))
    their, our = (sorted(runs, key=lambda run: run.wall_s)[len(runs) // 2] for runs in (theirs, ours))
    ratios = [round(other.wall_s / mine.wall_s, 3) for mine, other in zip(ours, theirs, strict=True)]
    against = {**compared([clip], our, their), "speed_ratio": round(statistics.median(ratios), 2)}
    return {
        "clips": 1,
        "audio_s": round(clip.seconds, 1),
        "corpus_sha256": digest([clip]),
        "repeats": count,
        "baseline": {**score([clip], their), "walls_s": [round(run.wall_s, 2) for run in theirs]},
        "host": {
            "1": {
                **score([clip], our),
                **against,
                "walls_s": [round(run.wall_s, 2) for run in ours],
                "speed_ratios": ratios,
            }
        },
    }


def joined(clips: Sequence[Clip], path: Path) -> Clip:
    """All ``clips`` as one recording, with pauses of a second."""
    with wave.open(str(path), "wb") as out:
        for number, clip in enumerate(clips):
            with wave.open(str(clip.path)) as file:
                if not number:
                    out.setparams(file.getparams())
                out.writeframes(file.readframes(file.getnframes()) + bytes(2 * file.getframerate()))
    with wave.open(str(path)) as file:
        seconds = file.getnframes() / file.getframerate()
    return Clip("joined", " ".join(c.text for c in clips), path, seconds)


def invented(clips: Sequence[Clip], run: Run) -> dict[str, Any]:
    """Words where nobody speaks."""
    texts = {c.name: run.texts[c.name].strip() for c in clips if wer.normalise(run.texts[c.name])}
    words = sum(len(wer.normalise(text)) for text in texts.values())
    return {"clips": len(clips), "clips_with_words": len(texts), "words": words, "texts": texts}


def part(args: argparse.Namespace, baseline: Baseline | Server, host: OurHost) -> dict[str, Any]:
    """What ``--part`` names."""
    hosts = [(concurrency, host) for concurrency in args.concurrency]
    if args.part == "prompts":
        clips = spread(corpora.prompts(args.cache, 3.0, 8.0), args.limit)
        return race(clips, "en", baseline, hosts, args.blocks)
    if args.part == "directory":
        return race(spread(corpora.directory(args.directory), args.limit), args.language, baseline, hosts, args.blocks)
    if args.part == "long":
        # letters are aligned in quadratic time: all 550 prompts at once would take half an hour to score
        prompts = spread(corpora.prompts(args.cache, 0.5, 60.0), args.limit or 120)
        one, warm = joined(prompts, args.cache / "joined.wav"), prompts[:2]
        baseline.transcribe(warm, "en")  # the first decode of a process pays for its memory
        host.at_once(1).transcribe(warm, "en")
        return repeated(one, "en", baseline, host, args.repeats)
    if args.part == "music":
        clips = spread(corpora.music(args.cache), args.limit)
        theirs, ours = baseline.transcribe(clips, "en"), host.at_once(8).transcribe(clips, "en")
        return {"baseline": invented(clips, theirs), "host": invented(clips, ours), "corpus_sha256": digest(clips)}
    found = corpora.spoken(args.cache)
    heard = {}
    for language, clip in found.items():
        try:
            run = host.at_once(1).transcribe([clip], language)
        except RuntimeError as e:  # Whisper has no token for it
            heard[language] = {"refused": str(e)[:200]}
            continue
        heard[language] = {**score([clip], run), "text": run.texts[clip.name], "reference": clip.text}
    return {"languages": heard, "corpus_sha256": digest(list(found.values()))}


def name_of(args: argparse.Namespace) -> str:
    """Of the result's file: against a server it is another measurement than against the pipeline."""
    return f"hearing-against-{args.part}" if args.against else f"hearing-{args.part}"


def server_of(args: argparse.Namespace) -> Server | None:
    """The other side, where it is a server."""
    if not args.against:
        return None
    key = Path(args.against_key).expanduser().read_text(encoding="utf-8").strip() if args.against_key else ""
    return Server(args.against, args.against_model, key, max(args.concurrency))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    home = Path(os.environ.get("APPLIANCE_HOME") or "~/.appliance").expanduser()
    p = argparse.ArgumentParser(prog="python -m appliance_bench.hearing", description="Speech: speed, WER and CER.")
    p.add_argument(
        "--part", choices=("prompts", "long", "music", "spoken", "directory", "live", "hours"), default="prompts"
    )
    p.add_argument("--model-dir", type=Path, default=home / "models" / "whisper-base", help="CTranslate2 directory")
    p.add_argument("--cache", type=Path, default=home / "cache" / "bench-speech", help="where fetched packages stay")
    p.add_argument("--directory", type=Path, help="for --part directory: NAME.wav and NAME.txt")
    p.add_argument("--language", default="en", help="for --part directory")
    p.add_argument("--limit", type=int, default=0, help="only so many clips, spread out; 0 = all")
    p.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32], help="clips sent to the host at once")
    p.add_argument(
        "--against", default="", help="an OpenAI-compatible server's URL (Speaches), instead of the pipeline"
    )
    p.add_argument("--against-model", default="whisper-1", help="what that server calls the same model")
    p.add_argument("--against-key", default="", help="a file with its key")
    p.add_argument("--sessions", type=int, default=4, help="for --part live: sockets beside each other")
    p.add_argument("--silence-ms", type=int, default=500, help="for --part live: silence after which a turn is over")
    p.add_argument("--hours", type=float, default=3.0, help="for --part hours: how long the recording is")
    p.add_argument("--batch", type=int, default=8, help="windows in a batch of faster-whisper's pipeline")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads for each side")
    p.add_argument("--compute-type", default="int8")
    p.add_argument("--blocks", type=int, default=4, help="alternating blocks")
    p.add_argument("--repeats", type=int, default=4, help="for --part long: turns of each side")
    p.add_argument("--host-args", default="", help="more arguments for the host, in one string")
    results = Path(__file__).resolve().parents[1] / "results"
    p.add_argument("--results", type=Path, default=results, help="directory for the JSON")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    args = parser().parse_args(argv)
    if not (args.model_dir / "model.bin").is_file():
        sys.exit(f"{args.model_dir} holds no model.bin; run make models, or name a directory with --model-dir")
    circumstances = {"machine": machine(), "git": revision()}
    host = OurHost(
        args.model_dir,
        compute_type=args.compute_type,
        threads=args.threads,
        concurrency=1,
        extra=args.host_args.split(),
    )
    sides = {"compute_type": args.compute_type, "threads": args.threads}
    try:
        if args.part == "live":
            clips = spread(corpora.prompts(args.cache, 2.0, 8.0), args.limit or 24)
            found = hearing_live.run(clips, args.model_dir, args.sessions, args.silence_ms)
        elif args.part == "hours":
            prompts = spread(corpora.prompts(args.cache, 0.5, 60.0), args.limit)
            found = hearing_hours.run(
                joined(prompts, args.cache / "joined.wav"), args.model_dir, args.hours, args.cache
            )
        else:
            other = server_of(args) or Baseline(args.model_dir, batch=args.batch, **sides)
            with host, other:
                found = part(args, other, host)
    except NoCorpus as e:
        sys.exit(str(e))
    result = {
        **circumstances,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "part": args.part,
        "model": args.model_dir.name,
        "beam": BEAM,
        "batch": args.batch,
        "against": {"url": args.against, "model": args.against_model} if args.against else "batched pipeline",
        **sides,
        **found,
    }
    show(args.part, found)
    print(f"written to {write(args.results, name_of(args), result)}")


def show(name: str, found: dict[str, Any]) -> None:
    """What a person reads."""
    if name == "music":
        for side in ("baseline", "host"):
            one = found[side]
            print(f"{side}: {one['words']} words in {one['clips_with_words']} of {one['clips']} clips without speech")
    elif name == "live":
        for event, one in found["ms_after_the_end_of_speech"].items():
            print(f"{event}: {one['median']} ms median, {one['p90']} ms at 90 %")
        beyond = found["beyond_compute_ms"]
        print(f"an upload of the same clip alone takes {found['upload_alone_ms']['median']} ms")
        print(f"completed comes {beyond['median']} ms later than that (median of clips; {beyond['p90']} ms at 90 %)")
        print(f"{found['with_delta_before_the_end']} of {found['clips']} clips had a delta while they were spoken")
        print(f"WER {found['wer']}")
    elif name == "hours":
        hours = found["audio_s"] / 3600
        print(f"{hours:.2f} h in {found['wall_s']:.0f} s ({found['rtfx']}x real time), WER {found['wer']}")
        print(f"resident MB before {found['resident_mb_before']}, at most {found['resident_mb_most']}")
    elif name == "spoken":
        for language, one in found["languages"].items():
            print(language, one.get("refused") or f"WER {one['wer']} CER {one['cer']}: {one['text'].strip()}")
    else:
        base = found["baseline"]
        print(f"{found['clips']} clips, {found['audio_s'] / 60:.1f} min")
        print(f"the other side: {base['rtfx']}x real time, WER {base['wer']}, CER {base['cer']}")
        for concurrency, one in found["host"].items():
            d = one["points"]["wer"]
            print(
                f"host, {concurrency} at once: {one['rtfx']}x real time ({one['speed_ratio']}x the other),"
                f" WER {one['wer']} ({d['difference']:+.2f}, 95 % {d['low']:+.2f} to {d['high']:+.2f}),"
                f" CER {one['cer']}"
            )


if __name__ == "__main__":
    main()
