"""One cell of a suite, measured through a gateway: results as a record has them, and a row a request.

What it is: which generator offers the load (vLLM's ``bench serve``, our own processes, sockets at the speed of speech,
the small loader of the gateway's rate), and the same arithmetic over what came back.
What it refuses to be: a judge of loads. A load that is past what the box does is a result: what was not even sent,
since it only piled up, counts as failed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from appliance_bench import arrivals, quality, rig, sample, slo, vllm_client, workloads
from appliance_bench.clients import Clients
from appliance_bench.drive import Job, Load
from appliance_bench.gateway_rig import environment
from appliance_bench.load import LoadReport
from appliance_bench.load_stats import Spread
from appliance_bench.records import RecordError
from appliance_bench.served import models_dir
from appliance_bench.slo import Target, Took
from appliance_bench.suites import Cell, Part

Found = tuple[list[dict[str, Any]], list[dict[str, Any]]]
_WARM = {"chat": 4, "translate": 32, "transcribe": 2, "pivot": 2}


class Conditions(msgspec.Struct, frozen=True):
    """What is the same for every cell. ``models``: task -> name; ``kind``: of arrivals, empty: the workload's own."""

    models: Mapping[str, str]
    targets: tuple[Target, ...] = ()
    kind: str = ""
    density: tuple[float, ...] = ()
    seed: int = 0
    generator: str = "auto"


def targets_of(part: Part, given: Sequence[Target]) -> tuple[Target, ...]:
    """Those of the command line, else the workload's own."""
    return tuple(given) or part.workload.targets


def measure(cell: Cell, url: str, key: str, clients: Clients, how: Conditions) -> Found:
    """Results, one a part, and rows. Raises RecordError."""
    engine = cell.parts[0].workload.sheet.engine
    if engine == "rate":
        return _rate(cell, url, key, how)
    if engine == "live":
        return _live(cell, url, key, how)
    if uses_vllm(cell, how):
        return _by_vllm(cell, url, key, how)
    return _own(cell, url, key, clients, how)


def uses_vllm(cell: Cell, how: Conditions) -> bool:
    """Whether ``bench serve`` carries this cell. Raises RecordError where it was asked for and cannot."""
    can = len(cell.parts) == 1 and cell.parts[0].workload.sheet.engine == "chat" and not how.density
    if how.generator == "vllm" and not can:
        raise RecordError(f"vllm bench serve cannot offer {cell}: chat alone, Poisson or bursty; use --generator own")
    if how.generator == "vllm" and not vllm_client.installed():
        raise RecordError("vLLM is not installed here; use --generator own")
    return how.generator != "own" and can and vllm_client.installed()


def _jobs(part: Part, count: int, how: Conditions, tag: str) -> list[Job]:
    engine = part.workload.sheet.engine
    model = how.models["chat" if engine == "pivot" else engine]
    jobs = part.workload.jobs(model, True, count, tag)
    return [workloads.through(engine, job, model) for job in jobs]


def _due(part: Part, count: int, how: Conditions, rng: random.Random) -> list[float]:
    kind = how.kind or part.workload.sheet.arrivals
    return arrivals.arrivals(kind, part.load, count, rng, how.density)


def _count(cell: Cell, part: Part) -> int:
    return max(2, round(part.load * cell.seconds))


def _rng(cell: Cell, part: Part, how: Conditions) -> random.Random:
    return random.Random(f"{how.seed} {cell.repeat} {part.name} {part.load:g}")


def _own(cell: Cell, url: str, key: str, clients: Clients, how: Conditions) -> Found:
    warm = [(_jobs(part, _WARM[part.workload.sheet.engine], how, "warm"), part) for part in cell.parts]
    # no limit that anybody waits for: the first requests of an engine may take long
    clients.offer(url, key, [(jobs, [0.05 * n for n in range(len(jobs))], 60_000.0) for jobs, _ in warm])
    offers = []
    for number, part in enumerate(cell.parts):
        count = _count(cell, part)
        tag = f"{how.seed}.{cell.repeat}.{part.load:g}.{number}"
        jobs, due = _jobs(part, count, how, tag), _due(part, count, how, _rng(cell, part, how))
        offers.append((jobs, due, _limit_ms(targets_of(part, how.targets))))
    loads = clients.offer(url, key, offers)
    results, rows = [], []
    for part, load, (jobs, _, _) in zip(cell.parts, loads, offers, strict=True):
        one = result(part, cell.repeat, load.took, load.duration_s, targets_of(part, how.targets), len(jobs))
        one["rates"] = rig.rates_of(jobs, load)
        one["quality"] = _quality(part, jobs, load)
        results.append(one)
        rows += rows_of(part, cell.repeat, load.took)
    return results, rows


def _by_vllm(cell: Cell, url: str, key: str, how: Conditions) -> Found:
    (part,) = cell.parts
    tag = f"{how.seed}.{cell.repeat}.{part.load:g}"
    jobs = part.workload.jobs(how.models["chat"], True, _count(cell, part), tag)
    bodies = [msgspec.json.decode(job.body) for job in jobs]
    name = how.models["chat"]
    took, seconds, tokens = vllm_client.offer(
        url, key, name, models_dir() / name, bodies, part.load, how.kind or part.workload.sheet.arrivals,
        how.seed * 100 + cell.repeat,
    )  # fmt: skip
    one = result(part, cell.repeat, took, seconds, targets_of(part, how.targets), len(took))
    one.pop("client_lag_ms", None)  # it does not say
    one["rates"] = {"output_tokens_per_s": round(tokens / seconds, 3)} if seconds else {}
    one["knobs"] = {"generator": "vllm bench serve"}
    return [one], rows_of(part, cell.repeat, took)


def result(
    part: Part, repeat: int, took: Sequence[Took], seconds: float, targets: Sequence[Target], wanted: int
) -> dict[str, Any]:
    """Of an open loop that should have had ``wanted`` requests."""
    found = sample.summarise(took, targets, offered_per_s=part.load, duration_s=seconds, spent_s=seconds)
    unsent = max(0, wanted - found.requests)
    one: dict[str, Any] = {
        "config_name": part.name, "repeat": repeat, "requests": found.requests + unsent,
        "failed": found.failed + unsent,
        "duration_s": round(seconds, 4), "goodput_per_s": round(found.goodput_per_s, 4),
        "offered_per_s": round(part.load, 4),
        "errors": {**found.errors, **({"not_sent_queue_too_long": unsent} if unsent else {})},
    }  # fmt: skip
    for name, field in (("ttft", "ttft_ms"), ("tpot", "tpot_ms"), ("e2e", "e2e_ms"), ("lag", "client_lag_ms")):
        if name in found.percentiles:
            one[field] = found.percentiles[name]
    return one


def rows_of(part: Part, repeat: int, took: Sequence[Took]) -> list[dict[str, Any]]:
    """A row a request."""
    head = {"config_name": part.name, "repeat": repeat, "load": round(part.load, 4)}
    return [
        {**head, **{k: round(v, 3) if isinstance(v, float) else v for k, v in msgspec.structs.asdict(one).items()}}
        for one in took
    ]


def _quality(part: Part, jobs: Sequence[Job], load: Load) -> dict[str, float]:
    name = part.workload.sheet.quality
    answered = [(text, job.reference) for text, job in zip(load.texts, jobs, strict=True) if text is not None]
    if not name or not answered:
        return {}
    return {name: round(quality.MEASURES[name]([a for a, _ in answered], [b for _, b in answered]), 3)}


def _limit_ms(targets: Sequence[Target]) -> float:
    return max((t.limit_ms for t in targets if t.metric != "tpot"), default=10_000.0)


def _rate(cell: Cell, url: str, key: str, how: Conditions) -> Found:
    (part,) = cell.parts
    argv = [
        sys.executable, "-P", "-m", "appliance_bench.load", "--url", f"{url}/v1/chat/completions", "--connections",
        str(round(part.load)), "--seconds", str(cell.seconds), "--model", how.models["fake"],
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="ab-") as scratch:
        done = subprocess.run(
            argv, env=environment({"APPLIANCE_BENCH_KEY": key}), cwd=scratch, capture_output=True, text=True,
            timeout=cell.seconds + 60, check=False,
        )  # fmt: skip
    try:
        told = msgspec.json.decode(done.stdout.encode(), type=LoadReport)
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise RecordError(
            f"the load generator left no result; it said: {(done.stderr or done.stdout)[-500:]}"
        ) from None
    failed = sum(told.errors.values())

    def spread(of: Spread) -> dict[str, float]:
        return {"p50": of.p50, **({"p99": of.p99} if of.n >= 299 else {})}

    one = {
        "config_name": part.name, "repeat": cell.repeat, "requests": told.requests + failed, "failed": failed,
        "duration_s": told.seconds, "goodput_per_s": told.requests_per_s, "concurrency": round(part.load),
        "e2e_ms": spread(told.latency_ms), "client_lag_ms": spread(told.lag_ms), "errors": told.errors,
    }  # fmt: skip
    return [one], []


def _live(cell: Cell, url: str, key: str, how: Conditions) -> Found:
    from appliance_bench.hearing_live import sessions_of  # websockets, faster-whisper's detector

    (part,) = cell.parts
    host, _, port = url.removeprefix("http://").partition(":")
    clips = [clip for n, (clip, _) in enumerate(part.workload.clips()) if n % 2]
    count, sessions = max(1, round(part.load)), round(part.load)
    most = max(count, int(count * cell.seconds / 4.5))
    began = time.monotonic()
    turns = asyncio.run(
        sessions_of(
            [clips[n % len(clips)] for n in range(most)], f"ws://{host}:{int(port) + 1}/v1/realtime", key, sessions
        )
    )
    seconds = time.monotonic() - began
    took = [
        Took(n, one["completed"]) if "completed" in one else Took(n, 0.0, failed="no_final")
        for n, one in enumerate(turns)
    ]
    found = result(part, cell.repeat, took, seconds, targets_of(part, how.targets), most)
    del found["offered_per_s"]
    found.pop("client_lag_ms", None)
    return [{**found, "concurrency": sessions}], rows_of(part, cell.repeat, took)


def engines_toml(engines: Sequence[str], models: Mapping[str, str]) -> str:
    """Settings of an appliance of our own."""
    lines = []
    for name in engines:
        kind = rig.KINDS.get(name, "fake")
        lines += [f"[engines.{'chat' if name == 'fake' else name}]", f'kind = "{kind}"',
                  f"model = {json.dumps(models[name])}"]  # fmt: skip
        lines += [f'task = "{name}"'] if name != "fake" else ['extra_args = ["--chunks", "4"]']
    return "\n".join(lines) + "\n"


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))


def slo_of(cells: Sequence[Cell], given: Sequence[Target]) -> dict[str, float]:
    """For the record: plain names where all parts have the same targets, else with the workload before them."""
    each = {part.workload.name: slo.as_dict(targets_of(part, given)) for cell in cells for part in cell.parts}
    if len({json.dumps(one, sort_keys=True) for one in each.values()}) == 1:
        return next(iter(each.values()))
    return {f"{name}.{metric}": limit for name, targets in each.items() for metric, limit in targets.items()}


def data_dir(path: Path) -> str:
    """How a directory of workloads is named in a record."""
    return "shipped" if path == workloads.HERE else path.name
