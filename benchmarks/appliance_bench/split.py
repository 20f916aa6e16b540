"""``appliance bench tune --engine split``: how the engines share one machine while all of them are asked at once.

What it is: the same search as for one engine, where a configuration is a division of the machine (threads and workers
on CPUs; the KV cache and, where NVIDIA MPS runs, a share of the multiprocessors on a GPU), a load is requests of a mix,
and a load counts as met when every engine meets its own targets. Afterwards the chosen division answers each engine's
part alone and all together in turns: each tail beside what the others do to it.
What it refuses to be: a tuner of one engine. Everything else an engine is started with is what its own ``tune`` found
for this machine, or the shipped default. The gateway is not part of it: engines are asked directly.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance_bench import fingerprint, knobs, profiles, rig, sample, slo, tune
from appliance_bench.division import Part, divisions, engine_config, mps_runs, parts_of, versions_of
from appliance_bench.records import RecordError, new_id, without_places, write_run
from appliance_bench.sample import Sample
from appliance_bench.search import SHIPPED, Budget, Found, Search, Tried, Unmeetable
from appliance_bench.shared import Shared
from appliance_bench.slo import Target
from appliance_bench.workloads import ENGINES

SUITE = "mixed"
_ROUNDS, _ALONE = 3, 2
_PROBES, _ROUND_PROBES = 5.0, 2.3
_ROOM_GIB = 16


def plan(limit_s: float, probe_s: float, start_s: float, configurations: int, keeps: bool) -> tuple[Budget, list[str]]:
    """What fits. Raises RecordError where not even the default and one other division do."""
    turn_s = _ROUND_PROBES * probe_s + (0.0 if keeps else start_s)
    # rounds of the default and the best, the better half once more, each engine alone
    after_s = 2 * turn_s * _ROUNDS + 2 * turn_s + _ALONE * len(ENGINES) * probe_s
    each_s = start_s + _PROBES * probe_s
    fit = min(configurations or 8, int((limit_s - after_s) / each_s))
    if fit < 2:
        enough_s = after_s + 2 * each_s
        raise RecordError(
            f"{limit_s / 60:.3g} min are too few: a load of this mix lasts about {probe_s:.0f} s, so two divisions and"
            f" {_ROUNDS} rounds take about {enough_s / 60:.0f} min; write --budget {enough_s / 60 + 1:.0f}m"
        )
    made = Budget(
        limit_s, configurations=fit, rungs=(0, 0), requests=0, finalists=1, repeats=_ROUNDS, tolerance=0.2,
        search_share=fit * each_s / limit_s,
    )  # fmt: skip
    return made, [
        f"loads of about {probe_s:.0f} s; at most {fit} divisions, then the best and the shipped one in {_ROUNDS}"
        f" rounds, and each engine alone: up to {(fit * each_s + after_s) / 60:.0f} of {limit_s / 60:.3g} min"
    ]


def run(args: argparse.Namespace, limit_s: float, directory: Path) -> bool:
    """Search; False where Ctrl-C ended it. Raises RecordError."""
    if args.model or args.slo:
        raise RecordError("--model and --slo are of one engine; a split keeps to the targets of its workloads")
    home = profiles.home()
    on = fingerprint.fingerprint({model: profiles.revision(home / "models", model) for model in rig.MODELS.values()})
    gpus, cores = on["hardware"]["gpus"], int(on["hardware"]["cores"])
    gpu_mib = int(gpus[0].rpartition(",")[2].split()[0]) if gpus else 0
    parts = parts_of(args.workload or SUITE, profiles.path_of(directory), cores, bool(gpus))
    if not gpus and (far := [t for p in parts for t in p.workload.targets if t.percentile > 95]):
        raise RecordError(f"{far[0].name} cannot be claimed on a machine without a GPU; ask for p95")
    # a second engine of each kind beside the first: rounds then need no restart
    keeps = not gpus and int(on["hardware"]["memory_gib"]) >= _ROOM_GIB
    say = tune.Progress(limit_s)
    its = divisions(parts, cores, gpu_mib, mps_runs())
    with Shared(parts, keep=2 if keeps else 1, seed=args.seed) as shared:
        say(f"split: {', '.join(f'{p.workload.name} {p.weight:.0%}' for p in parts)}")
        if gpus and not mps_runs():
            say("  NVIDIA MPS does not run here: memory is split, multiprocessors are not")
        per_s, start_s = shared.speed(its.shipped)
        probe_s = shared.seconds(parts, per_s * 0.5, 0) + 5.0
        planned, said = plan(limit_s - say.spent_s, probe_s, start_s, args.configurations, keeps)
        for line in [f"about {per_s:.3g} requests/s of the mix with many callers, {start_s:.0f} s to start", *said]:
            say(f"  {line}")
        search = Search(
            its.space, its.shipped, its.shipped, shared, (), planned, hints=its.hints, seed=args.seed,
            start_rate=per_s * 0.5, say=say,
        )  # fmt: skip
        alone: list[tuple[int, str, Sample]] = []
        found: Found | None = None
        try:
            found = search.run()
            alone = _alone(shared, found, say)
        except KeyboardInterrupt:
            pass
        except Unmeetable:
            raise RecordError(_nearest(shared)) from None
    made = record(parts, search, shared, found, alone, on, sys.argv[1:])
    path = write_run(made, args.out)
    if found is None:
        say(f"stopped; what was measured is in {path}, and the profile is as it was")
        return False
    for line in _verdict(found, made):
        say(line)
    say(f"run: {path}")
    if args.no_profile:
        return True
    if found.chosen.name == SHIPPED:
        say("the shipped division stays; the profile is as it was")
        return True
    for part in parts:
        written = profiles.write(directory, part.model, table(part, found, shared, made))
    say(f"profile: {written}")
    return True


def _alone(shared: Shared, found: Found, say: Callable[[str], None]) -> list[tuple[int, str, Sample]]:
    """Each engine's part at the chosen load, the others idle."""
    rate = found.chosen.rounds[-1].offered_per_s
    seen = []
    for number in range(_ALONE):
        for part in shared.parts:
            mixed = shared.measure(found.chosen.which, rate, 0, [part], True)
            if mixed.each:
                seen.append((number, part.task, mixed.each[part.task]))
                figures = ", ".join(f"{k} {v:.0f}" for k, v in mixed.each[part.task].figures.items())
                say(f"alone {number + 1}: {part.task}: {figures}")
    return seen


def _nearest(shared: Shared) -> str:
    """What the mix comes to at its lowest load."""
    loads = [one for one in shared.seen if one.each]
    if not loads:
        return f"no division serves at all ({shared.seen[-1].whole.broken}); see the engines' logs"
    lowest = min(loads, key=lambda one: one.whole.offered_per_s)
    past = [
        f"{part.task} {t.name} {lowest.each[part.task].figures[t.name]:.0f} of {t.limit_ms:g}"
        for part in shared.parts
        for t in part.workload.targets
        if lowest.each[part.task].figures.get(t.name, 0.0) > t.limit_ms
    ]
    return (
        f"no division meets the targets of this mix, even at {lowest.whole.offered_per_s:.3g} requests/s"
        f" ({'; '.join(past) or 'answers failed'}); ask for a lighter mix, or for other targets in its workloads"
    )


def record(
    parts: Sequence[Part], search: Search, shared: Shared, found: Found | None,
    alone: Sequence[tuple[int, str, Sample]], on: dict[str, Any], argv: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """The run: of each division its best load, of the finalists every round whole and by engine, each engine alone."""
    results = []
    for tried in search.tried:
        if tried.best is not None or tried.samples:
            results.append(_result(tried, tried.best or tried.samples[-1], 0, False, tried.name))
            results[-1]["goodput_per_s"] = round(tried.score, 4)
    for tried in search.finalists:
        for number, whole in enumerate(tried.rounds):
            results.append(_result(tried, whole, number, True, tried.name))
            results[-1]["goodput_per_s"] = round(search.kept(whole), 4)
            for task, one in shared.each(whole).items():
                results.append(_result(tried, one, number, True, f"{tried.name}, {task} in the mix"))
    if found is not None:
        for number, task, one in alone:
            results.append(_result(found.chosen, one, number, True, f"{found.chosen.name}, {task} alone"))
    notes = [f"{t.name}: {t.dropped}" for t in search.tried if t.dropped]
    if found is None:
        notes.append("stopped by Ctrl-C")
    else:
        notes.append(f"chosen: {found.chosen.name} ({knobs.told(found.chosen.which)}); {found.why_chosen}")
        notes += tails(parts, found, shared, alone)
    return {
        "schema": 1,
        "id": new_id("tune", "split"),
        "kind": "tune",
        "when": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "commit": fingerprint.commit(),
        "fingerprint": on,
        "suite": "split",
        "config": {
            "command": " ".join(["appliance bench", *without_places(argv)]),
            "mix": {part.workload.name: round(part.weight, 4) for part in parts},
            "engines": {part.task: dict(knobs.as_dict(part.base)) for part in parts},
            "chosen": found.chosen.name if found is not None else None,
            "knobs": dict(knobs.as_dict(found.chosen.which)) if found is not None else None,
            "spent_s": round(search.spent_s, 1),
        },
        "slo": {f"{p.task}.{name}": limit for p in parts for name, limit in slo.as_dict(p.workload.targets).items()},
        "results": results,
        "notes": notes,
    }  # fmt: skip


def _result(tried: Tried, one: Sample, repeat: int, held_out: bool, name: str) -> dict[str, Any]:
    made = tune.result(tried, one, repeat, held_out)
    made["config_name"] = name
    made["offered_per_s"] = one.offered_per_s
    return made


def tails(parts: Sequence[Part], found: Found, shared: Shared, alone: Sequence[tuple[int, str, Sample]]) -> list[str]:
    """Of each engine, medians of rounds: its figures alone and in the mix, at the same rate of its own."""
    said = []
    for part in parts:
        mixed = [shared.each(whole)[part.task] for whole in found.chosen.rounds if not whole.broken]
        single = [one for _, task, one in alone if task == part.task]
        for target in part.workload.targets:
            inside, outside = _middle(mixed, target), _middle(single, target)
            if inside is not None and outside is not None:
                said.append(
                    f"{part.task} at {mixed[-1].offered_per_s:.3g}/s: {target.name} {outside:.0f} alone,"
                    f" {inside:.0f} in the mix ({inside / outside:.1f}x), {target.limit_ms:g} allowed"
                )
    return said


def _middle(samples: Sequence[Sample], target: Target) -> float | None:
    values = sorted(one.figures[target.name] for one in samples if target.name in one.figures)
    return values[len(values) // 2] if values else None


def _verdict(found: Found, made: Mapping[str, Any]) -> list[str]:
    g = found.goodput
    lines = [
        f"chosen: {found.chosen.name}: {knobs.told(found.chosen.which)}",
        f"  {found.why_chosen}",
        f"  goodput of the mix {g.value:.3g}/s (95 % interval {g.low:.3g} to {g.high:.3g})",
    ]
    for name, ratio in found.against.items():
        unsure = "" if ratio.low > 1 or ratio.high < 1 else ": inconclusive"
        lines.append(f"  against {name}: {ratio.value:.2f}x ({ratio.low:.2f} to {ratio.high:.2f}){unsure}")
    return lines + [f"  {note}" for note in made["notes"]]


def table(part: Part, found: Found, shared: Shared, made: Mapping[str, Any]) -> dict[str, Any]:
    """The model's part of the profile under the chosen division."""
    own = engine_config(found.chosen.which, part)
    rounds = [shared.each(whole)[part.task] for whole in found.chosen.rounds if not whole.broken]
    goodput = sample.mean_interval([one.goodput_per_s for one in rounds])
    ratio = found.against.get(SHIPPED)
    return {
        "task": part.task,
        "kind": rig.KINDS[part.task],
        "revision": profiles.revision(profiles.home() / "models", part.model),
        "args": list(knobs.arguments(own)),
        **knobs.settings(own),
        "workload": part.workload.name,
        "goodput_per_s": round(goodput.value, 4),
        "goodput_low_per_s": round(goodput.low, 4),
        "goodput_high_per_s": round(goodput.high, 4),
        "load_per_s": round(sum(one.offered_per_s for one in rounds) / len(rounds), 4),
        "requests": rounds[0].requests,
        "evidence": [*part.tuned.get("evidence", []), made["id"]],
        "written": made["when"],
        "slo": slo.as_dict(part.workload.targets),
        "versions": versions_of(part.task, made["fingerprint"]["versions"]),
        "knobs": dict(knobs.as_dict(own)),
        "coefficients": dict(part.tuned.get("coefficients", {})),
        **({"against_default": [round(v, 4) for v in (ratio.value, ratio.low, ratio.high)]} if ratio else {}),
    }
