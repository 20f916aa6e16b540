"""``appliance bench tune``: the configuration with the most goodput within the targets, kept as this machine's profile.

What it is: the search (``search``) over an engine's knobs (``knobs``) on engines of its own (``rig``), the run
record with every round, and the profile that ``appliance serve`` loads.
What it refuses to be: run beside anything. Not while the appliance serves, another tune runs, or a stranger is on
the GPU.
What it costs: its budget; nothing is started before it is checked that the budget supports what would be claimed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance_bench import budget, fingerprint, knobs, profiles, rig, slo, workloads
from appliance_bench.records import RecordError, new_id, without_places, write_run
from appliance_bench.sample import Sample
from appliance_bench.search import SHIPPED, Found, Search, Tried
from appliance_bench.workloads import Workload

WORKLOADS = {"chat": "order-tracking", "translate": "translation-short", "transcribe": "voice-notes"}
_SPEED_REQUESTS = {"chat": 32, "translate": 200, "transcribe": 24}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="appliance bench tune", description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--engine", choices=(*workloads.ENGINES, "all", "split"), default="all")
    p.add_argument("--model", help="of the catalogue, for one engine (default: the embedded one)")
    p.add_argument("--slo", default="", help="ttft_p99_ms=500,tpot_p99_ms=50 (default: the workload's own)")
    p.add_argument("--budget", default="60m", help="for everything: 60m, 2h (default 60m)")
    p.add_argument("--workload", help="searched on, every second item held out for the verdict")
    p.add_argument("--workloads", type=Path, default=workloads.HERE, help="directory of workloads")
    p.add_argument("--configurations", type=int, default=0, help="at most; 0: by the machine")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, help="directory for the run (default: benchmarks/results of a checkout)")
    p.add_argument("--profiles", type=Path, help="directory for the profile (default: APPLIANCE_HOME/profiles)")
    p.add_argument("--no-profile", action="store_true", help="measure and write the run only")
    return p


def main(argv: Sequence[str]) -> int:
    """Tune; the exit status."""
    args = parser().parse_args(argv)
    limit_s = budget.seconds(args.budget)
    tasks = list(workloads.ENGINES) if args.engine == "all" else [args.engine]
    if len(tasks) > 1 and (args.model or args.workload or args.slo):
        raise RecordError("--model, --workload and --slo are of one engine; name it with --engine")
    directory = args.profiles or profiles.home() / "profiles"
    if not args.no_profile:
        profiles.writable(directory)
    with alone(profiles.home()):
        if args.engine == "split":
            from appliance_bench import split  # it is made of what is here

            return 0 if split.run(args, limit_s, directory) else 130
        for task in tasks:
            if not one(task, args, limit_s / len(tasks), directory):
                return 130
    return 0


@contextlib.contextmanager
def alone(home: Path, serving: bool = False) -> Iterator[None]:
    """Nobody else measures on this machine, or serves on it unless ``serving`` is fine. Raises RecordError."""
    if others := rig.strangers():
        raise RecordError(
            f"the GPU is used by {'; '.join(others[:3])}; figures beside others mean nothing: stop them first"
        )
    try:
        home.mkdir(parents=True, exist_ok=True)
        fd = os.open(home / "tune.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise RecordError(f"{home} takes no lock ({e.strerror}); make room or make it writable first") from None
    try:
        if not _locked(fd):
            owner = os.pread(fd, 20, 0).decode(errors="replace").strip() or "unknown"
            raise RecordError(f"another tune runs here (process {owner}); wait for it, or stop it")
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        if not serving and (serve := home / "serve.lock").exists():
            with serve.open("rb") as file:
                if not _locked(file.fileno()):
                    raise RecordError(f"the appliance in {home} is being served; stop it first, then tune")
        yield
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def one(task: str, args: argparse.Namespace, limit_s: float, directory: Path) -> bool:
    """Tune one engine; False where Ctrl-C ended it (what was measured is written)."""
    workload = workloads.load(args.workload or WORKLOADS[task], args.workloads)
    if workload.sheet.engine != task:
        raise RecordError(f"the workload {workload.name} is for the {workload.sheet.engine} engine, not for {task}")
    targets = slo.parse(args.slo) if args.slo else workload.targets
    model = args.model or rig.MODELS[task]
    print_ = Progress(limit_s)
    found_on = fingerprint.fingerprint({model: profiles.revision(profiles.home() / "models", model)})
    gpu, cores = bool(found_on["hardware"]["gpus"]), int(found_on["hardware"]["cores"])
    its = knobs.knobs(task, cores, gpu)
    keeps = not gpu
    with rig.Rig(task, model, workload, targets, keep=4 if keeps else 1, seed=args.seed) as measure:
        print_(f"{task}: {model}, workload {workload.name}, {', '.join(f'{t.name}={t.limit_ms:g}' for t in targets)}")
        per_s, start_s = measure.throughput(its.shipped, _SPEED_REQUESTS[task])
        planned, said = budget.plan(
            limit_s - print_.spent_s, per_s, start_s, targets, gpu=gpu, configurations=args.configurations, keeps=keeps
        )
        for line in said:
            print_(f"  {line}")
        search = Search(
            its.space, its.shipped, its.own, measure, targets, planned, hints=its.hints, gates=its.gates,
            seed=args.seed, start_rate=per_s * 0.5, say=print_,
        )  # fmt: skip
        try:
            found: Found | None = search.run()
        except KeyboardInterrupt:
            found = None
    run = record(task, model, workload, targets, search, found, found_on, sys.argv[1:])
    path = write_run(run, args.out)
    if found is None:
        print_(f"stopped; what was measured is in {path}, and the profile is as it was")
        return False
    for line in verdict(found, run):
        print_(line)
    print_(f"run: {path}")
    if not args.no_profile:
        print_(f"profile: {profiles.write(directory, model, table(task, model, targets, found, run))}")
    return True


class Progress:
    """Lines with the time that is left."""

    def __init__(self, limit_s: float) -> None:
        self._began, self._limit_s = time.monotonic(), limit_s

    @property
    def spent_s(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def __call__(self, line: str) -> None:
        left_s = max(0.0, self._limit_s - self.spent_s)
        print(f"[{left_s / 60:4.0f} min left] {line}", flush=True)


def result(tried: Tried, sample: Sample, repeat: int, held_out: bool) -> dict[str, Any]:
    """A sample as a record has it."""
    p = sample.percentiles
    made: dict[str, Any] = {
        "config_name": tried.name,
        "repeat": repeat,
        "requests": sample.requests,
        "failed": sample.failed,
        "duration_s": round(sample.duration_s, 4),
        "goodput_per_s": round(sample.goodput_per_s, 4),
        "quality": dict(sample.quality),
        "rates": {**sample.rates, "load_per_s": sample.offered_per_s},
        "knobs": knobs.as_dict(tried.which),
        "errors": {**sample.errors, **({sample.broken: 1} if sample.broken else {})},
        "preemptions": sample.preemptions,
        "held_out": held_out,
    }
    for name, key in (("ttft", "ttft_ms"), ("tpot", "tpot_ms"), ("e2e", "e2e_ms"), ("lag", "client_lag_ms")):
        if name in p:
            made[key] = p[name]
    return made


def record(
    task: str, model: str, workload: Workload, targets: Sequence[slo.Target], search: Search, found: Found | None,
    found_on: dict[str, Any], argv: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """The run: of each configuration its best load while searching, of each finalist every round.

    A round that met the targets at no load it was tried at has a goodput of 0.
    """
    results = []
    for tried in search.tried:
        if tried.best is not None or tried.samples:
            sample = tried.best or tried.samples[-1]
            one = result(tried, sample, 0, False)
            one["goodput_per_s"] = round(tried.score, 4)
            results.append(one)
    for tried in search.finalists:
        for number, sample in enumerate(tried.rounds):
            one = result(tried, sample, number, True)
            one["goodput_per_s"] = round(search.kept(sample), 4)
            results.append(one)
    notes = [f"{t.name}: {t.dropped}" for t in search.tried if t.dropped]
    if found is None:
        notes.append("stopped by Ctrl-C")
    else:
        notes.append(f"chosen: {found.chosen.name} ({knobs.told(found.chosen.which)}); {found.why_chosen}")
        notes.append(f"the search ended because of: {found.why_stopped}")
        notes += claims(found, targets)
    return {
        "schema": 1,
        "id": new_id("tune", workload.name),
        "kind": "tune",
        "when": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "commit": fingerprint.commit(),
        "fingerprint": found_on,
        "suite": workload.name,
        "config": {
            "command": " ".join(["appliance bench", *without_places(argv)]),
            "task": task,
            "model": model,
            "chosen": found.chosen.name if found is not None else None,
            "knobs": dict(knobs.as_dict(found.chosen.which)) if found is not None else None,
            "spent_s": round(search.spent_s, 1),
        },
        "slo": slo.as_dict(targets),
        "results": results,
        "notes": notes,
    }


def claims(found: Found, targets: Sequence[slo.Target]) -> list[str]:
    """Whether the chosen configuration's rounds support each target at 95 % confidence."""
    said = []
    rounds = [s for s in found.chosen.rounds if s.meets(targets)]
    requests = sum(s.requests for s in rounds)
    for target in targets:
        bad = sum(s.violations[target.name] for s in rounds)
        sure = requests > 0 and slo.supported(requests, bad, target.percentile)
        word = (
            "supported at 95 % confidence"
            if sure
            else "as measured; at 95 % confidence these requests do not support it"
        )
        said.append(
            f"{target.name}={target.limit_ms:g} at the chosen load: {bad} of {requests} requests past it, {word}"
        )
    return said


def verdict(found: Found, run: dict[str, Any]) -> list[str]:
    """For people."""
    g = found.goodput
    lines = [
        f"chosen: {found.chosen.name}: {knobs.told(found.chosen.which)}",
        f"  {found.why_chosen}",
        f"  goodput on the held-out half {g.value:.3g}/s (95 % interval {g.low:.3g} to {g.high:.3g})",
    ]
    for name, ratio in found.against.items():
        unsure = "" if ratio.low > 1 or ratio.high < 1 else ": inconclusive"
        lines.append(f"  against {name}: {ratio.value:.2f}x ({ratio.low:.2f} to {ratio.high:.2f}){unsure}")
    for tried in found.finalists:
        if tried.rounds and tried.rounds[0].quality:
            values = ", ".join(f"{k} {v:.2f}" for k, v in tried.rounds[0].quality.items())
            lines.append(f"  quality of {tried.name}: {values}")
    return lines + [f"  {note}" for note in run["notes"]]


def table(task: str, model: str, targets: Sequence[slo.Target], found: Found, run: dict[str, Any]) -> dict[str, Any]:
    """The model's part of the profile. What was chosen because it is the default needs no arguments."""
    chosen, g = found.chosen, found.goodput
    default = chosen.name == SHIPPED
    made: dict[str, Any] = {
        "task": task,
        "kind": rig.KINDS[task],
        "revision": profiles.revision(profiles.home() / "models", model),
        "args": [] if default else list(knobs.arguments(chosen.which)),
        **({"threads": 0} if default else knobs.settings(chosen.which)),
        "workload": run["suite"],
        "goodput_per_s": round(g.value, 4),
        "goodput_low_per_s": round(g.low, 4),
        "goodput_high_per_s": round(g.high, 4),
        "load_per_s": round(sum(s.offered_per_s for s in chosen.rounds) / len(chosen.rounds), 4),
        "requests": chosen.rounds[0].requests,
        "evidence": [run["id"]],
        "written": run["when"],
        "slo": slo.as_dict(targets),
        "versions": {p: v for p, v in run["fingerprint"]["versions"].items() if p in profiles.PACKAGES[task]},
        "knobs": dict(knobs.as_dict(chosen.which)),
        "coefficients": coefficients(found),
    }
    if (ratio := found.against.get(SHIPPED)) is not None:
        made["against_default"] = [round(ratio.value, 4), round(ratio.low, 4), round(ratio.high, 4)]
    if found.runner_up is not None:
        made["runner_up"] = dict(knobs.as_dict(found.runner_up.which))
    return made


def coefficients(found: Found) -> dict[str, float]:
    """Nanoseconds of the server a unit at the chosen load, by ``appliance coefficients set``'s names."""
    rounds = found.chosen.rounds
    made = {}
    for rate, name in (("rtfx", "audio_s_ns"), ("output_tokens_per_s", "completion_token_ns"),
                       ("characters_per_s", "character_ns")):  # fmt: skip
        values = [s.rates[rate] for s in rounds if s.rates.get(rate)]
        if values:
            made[name] = round(1e9 * len(values) / sum(values), 1)
    return made
