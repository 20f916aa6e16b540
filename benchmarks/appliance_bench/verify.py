"""``appliance bench verify``: whether this machine still does what its profile says.

What it is: each model of the profile under its own workload, knobs and load, a few rounds; the median goodput has to
lie in the interval that was kept with it.
What it refuses to be: a tune. It changes nothing; outside the interval it says on which side, and ends with 1.
What it costs: a start of each engine and some rounds, a minute or two a model.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance_bench import fingerprint, profiles, rig, slo, workloads
from appliance_bench.records import RecordError, new_id, write_run
from appliance_bench.sample import Sample
from appliance_bench.search import Config, config
from appliance_bench.tune import alone


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="appliance bench verify", description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--engine", choices=workloads.ENGINES, help="only this one's models")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--workloads", type=Path, default=workloads.HERE, help="directory of workloads")
    p.add_argument("--profiles", type=Path, help="directory of profiles (default: APPLIANCE_HOME/profiles)")
    p.add_argument("--out", type=Path, help="directory for the run (default: benchmarks/results of a checkout)")
    return p


def main(argv: Sequence[str]) -> int:
    """Verify; 0 where every figure lies in its interval."""
    args = parser().parse_args(argv)
    if args.rounds < 1:
        raise RecordError("--rounds must be at least 1")
    path = profiles.path_of(args.profiles or profiles.home() / "profiles")
    tables = profiles.read(path).get("models", {})
    if args.engine:
        tables = {name: table for name, table in tables.items() if table["task"] == args.engine}
    if not tables:
        raise RecordError(f"{path} holds nothing to verify; `appliance bench tune` writes it for this machine")
    good = True
    with alone(profiles.home()):
        for model, table in tables.items():
            if differs := outdated(model, table):
                raise RecordError(f"the profile of {model} was measured with {differs}; tune again")
            good = one(model, table, args) and good
    return 0 if good else 1


def outdated(model: str, table: Mapping[str, Any]) -> str:
    """What is not as it was when ``table`` was measured; empty where all is."""
    here = profiles.revision(profiles.home() / "models", model)
    if table["revision"] != here:
        return f"revision {table['revision']}, and this is {here or 'unknown'}"
    versions = fingerprint.fingerprint()["versions"]
    for package, version in table["versions"].items():
        if versions.get(package) != version:
            return f"{package} {version}, and this is {versions.get(package, 'not installed')}"
    return ""


def one(model: str, table: Mapping[str, Any], args: argparse.Namespace) -> bool:
    """One model; whether it holds."""
    workload = workloads.load(table["workload"], args.workloads)
    targets = slo.parse(",".join(f"{name}={limit:g}" for name, limit in table["slo"].items()))
    which: Config = config(**table["knobs"])
    with rig.Rig(table["task"], model, workload, targets, seed=1) as measure:
        samples = [measure(which, table["load_per_s"], table["requests"], held_out=True) for _ in range(args.rounds)]
    kept = [sample.goodput_per_s if sample.meets(targets) else 0.0 for sample in samples]
    said, holds = verdict(statistics.median(kept), table["goodput_low_per_s"], table["goodput_high_per_s"])
    print(f"{model}: {said}", flush=True)
    print(f"run: {write_run(record(model, table, samples, kept, said), args.out)}", flush=True)
    return holds


def verdict(goodput: float, low: float, high: float) -> tuple[str, bool]:
    """A sentence, and whether ``goodput`` lies from ``low`` to ``high``."""
    where = f"goodput {goodput:.3g}/s, the profile says {low:.3g} to {high:.3g}"
    if goodput < low:
        return f"{where}: slower than it was; look what else runs here, then tune again", False
    if goodput > high:
        return f"{where}: faster than it was, so the profile asks too little; tune again", False
    return f"{where}: it holds", True


def record(
    model: str, table: Mapping[str, Any], samples: Sequence[Sample], kept: Sequence[float], said: str
) -> dict[str, Any]:
    """The run."""
    results = []
    for number, (sample, goodput) in enumerate(zip(samples, kept, strict=True)):
        made: dict[str, Any] = {
            "config_name": "profile",
            "repeat": number,
            "requests": sample.requests,
            "failed": sample.failed,
            "duration_s": round(sample.duration_s, 4),
            "goodput_per_s": round(goodput, 4),
            "offered_per_s": sample.offered_per_s,
            "quality": dict(sample.quality),
            "rates": dict(sample.rates),
            "knobs": dict(table["knobs"]),
            "held_out": True,
        }
        for name, key in (("ttft", "ttft_ms"), ("tpot", "tpot_ms"), ("e2e", "e2e_ms"), ("lag", "client_lag_ms")):
            if name in sample.percentiles:
                made[key] = sample.percentiles[name]
        results.append(made)
    return {
        "schema": 1,
        "id": new_id("verify", table["workload"]),
        "kind": "verify",
        "when": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "commit": fingerprint.commit(),
        "fingerprint": fingerprint.fingerprint({model: table["revision"]}),
        "suite": table["workload"],
        "config": {"model": model, "task": table["task"], "evidence": list(table["evidence"])},
        "slo": dict(table["slo"]),
        "results": results,
        "notes": [said],
    }
