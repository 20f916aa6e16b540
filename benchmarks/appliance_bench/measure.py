"""``appliance bench measure ENGINE``: how long an engine's work takes, as a profile, and how well it predicts.

What it is: an appliance of its own with that engine alone, everything through its gateway. Closed loops of few and of
many callers are measured, the profile is fitted to them and to nothing else; then requests come at random at several
loads, and what the simulation says of each load is put beside what was measured there. Written as one run record (every
request in its rows) and one profile. Strangers on the machine are watched: a load during which they took more than a
tenth of a core is kept and not judged.
What it refuses to be: a tuner, and a check of a mix: one engine at a time, what engines do to each other is not
measured.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from appliance_bench import records
from appliance_bench.box import BoxProfile, Call, Slo, Turn, goodput, open_loop, poisson
from appliance_bench.calling import Ask, Caller, Row
from appliance_bench.calling import closed_loop as ask_closed
from appliance_bench.calling import open_loop as ask_open
from appliance_bench.fingerprint import commit, fingerprint
from appliance_bench.fitting import Fit, Loop, Values, fit
from appliance_bench.load_stats import percentile
from appliance_bench.records import RecordError
from appliance_bench.served import Served, models_dir, served
from appliance_bench.stations import Batches, Places, Service, Steps
from appliance_bench.strangers import MOST, Watch

HELD_OUT = Path(__file__).resolve().parents[2] / "tests" / "data" / "indictrans2" / "held-out.tsv"
SHARES = (0.5, 0.75, 0.9, 1.05)
_SEEDS = tuple(range(100, 120))
_TRIES = 4


class Subject(Struct, frozen=True):
    """An engine that can be measured: settings, requests, the callers of its closed loops, and what is fitted."""

    name: str
    toml: str
    model: str
    callers: tuple[int, ...]
    slo: Mapping[str, float]
    asks: Callable[[], list[Ask]]
    make: Callable[[Values], Service]
    start: Values
    first: bool


class Load(Struct):
    """One open loop: what was predicted of it, and what came."""

    share: float
    rate: float
    schedule: list[float]
    asks: list[Ask]
    predicted: float = 0.0
    predicted_other_times: float = 0.0
    strangers: float = 0.0
    rows: list[Row] = []


def translate() -> Subject:
    """IndicTrans2 on CTranslate2, sentences that it never saw."""

    def asks() -> list[Ask]:
        rows = [line.split("\t") for line in HELD_OUT.read_text(encoding="utf-8").splitlines()[1:]]
        return [
            Ask("/v1/translate", json.dumps({"input": text, "source": "eng_Latn", "target": tag}).encode(), len(text))
            for tag, text, _ in rows
            if len(text.split()) >= 3 and not any(mark in text[:-1] for mark in ".?!\n")
        ]

    def make(v: Values) -> Service:
        # pieces by powers of two share a batch; a piece is some 3 characters of this text, and two tags stand before
        edges = tuple((2.0**k - 3) * v["chars_a_piece"] for k in (3, 4, 5, 6))
        gain = min(v["gain"], 0.9)
        return Batches(2, 32, 5.0, v["batch_ms"], v["item_ms"], v["unit_ms"], v["beside"], gain, edges, v["request_ms"])

    toml = '[engines.translate]\nkind = "translate"\ntask = "translate"\nmodel = "indictrans2-embedded"\n'
    start = {
        "batch_ms": 12.0,
        "item_ms": 6.0,
        "unit_ms": 0.3,
        "beside": 0.3,
        "request_ms": 4.0,
        "chars_a_piece": 3.5,
        "gain": 0.15,
    }
    return Subject("translate", toml, "indictrans2-embedded", (1, 2, 4, 8, 16, 32, 64), {"e2e_ms": 500.0}, asks, make,
                   start, False)  # fmt: skip


def chat() -> Subject:
    """SmolLM2 on vLLM, streamed, answers of 16 to 48 tokens at most."""
    rng = random.Random(5)
    words = ["order", "refund", "parcel", "address", "invoice", "account", "delivery", "number", "city", "payment"]
    words += ["coupon", "date", "status", "return", "exchange", "warranty", "store", "card", "balance", "transfer"]

    def asks() -> list[Ask]:
        found = []
        for _ in range(400):
            count, most = rng.randrange(20, 140), rng.randrange(16, 49)
            text = "Tell a long story about: " + " ".join(rng.choice(words) for _ in range(count))
            body = {"model": "smollm2-135m-instruct", "stream": True, "max_tokens": most,
                    "messages": [{"role": "user", "content": text}]}  # fmt: skip
            found.append(Ask("/v1/chat/completions", json.dumps(body).encode(), most, count * 1.2 + 40))
        return found

    def make(v: Values) -> Service:
        return Steps(int(v.get("max_num_seqs", 256)), 2048, v["step_ms"], v["sequence_ms"], v["prompt_token_ms"],
                     request_ms=v["request_ms"])  # fmt: skip

    toml = '[engines.chat]\nkind = "vllm"\ntask = "chat"\nmodel = "smollm2-135m-instruct"\n'
    start = {"step_ms": 25.0, "sequence_ms": 3.0, "prompt_token_ms": 0.5, "request_ms": 5.0}
    return Subject("chat", toml, "smollm2-135m-instruct", (1, 2, 4, 8, 16), {"ttft_ms": 2000.0, "e2e_ms": 5000.0}, asks,
                   make, start, True)  # fmt: skip


def fake() -> Subject:
    """The fake engine with four places, 100 ms to the first of 16 pieces and 20 ms between them: 400 ms each."""

    def asks() -> list[Ask]:
        body = {"model": "fake-model", "stream": True, "messages": [{"role": "user", "content": "Where is my order?"}]}
        return [Ask("/v1/chat/completions", json.dumps(body).encode(), 16.0)] * 64

    def make(v: Values) -> Service:
        return Places(4, v["first_ms"], 0.0, v["unit_ms"])

    arguments = ["--max-num-seqs", "4", "--chunks", "16", "--chunk-ms", "20", "--ttft-ms", "100"]
    toml = f'[engines.chat]\nkind = "fake"\nmodel = "fake-model"\nextra_args = {json.dumps(arguments)}\n'
    return Subject("fake", toml, "fake-model", (1, 4, 8), {"ttft_ms": 500.0}, asks, make,
                   {"first_ms": 90.0, "unit_ms": 18.0}, True)  # fmt: skip


SUBJECTS = {"translate": translate, "chat": chat, "fake": fake}


def calibrate(subject: Subject, to: Served, per_loop_s: float) -> list[Loop]:
    """Closed loops of so many seconds each, after a warm-up."""
    asks = subject.asks()
    found = []
    per_s = _closed(to, asks[:32], 4)[0]
    for callers in subject.callers:
        some = _some(asks, max(callers * 3, min(int(per_s * per_loop_s), 2000)), callers)
        tries = []
        for _ in range(_TRIES):
            watch = Watch(to.pid)
            per_s, rows = _closed(to, some, callers)
            if any(not row.ok for row in rows):
                raise RecordError(f"of {len(rows)} requests some failed: {_failure(rows)}")
            tries.append((watch.cores(), per_s, rows))
            if tries[-1][0] <= MOST:
                break
        strangers, per_s, rows = min(tries, key=lambda one: one[0])
        latency, first = (statistics.fmean(getattr(row, name) for row in rows) for name in ("e2e_ms", "ttft_ms"))
        found.append(Loop(callers, per_s, latency, first, tuple((row.units, row.prompt) for row in rows)))
        _say(f"  {callers:3} at once: {per_s:.2f}/s, {latency:.0f} ms, first {first:.0f}; others {strangers:.2f} cores")
    return found


def predict(subject: Subject, service: Service, loads: Sequence[Load], seconds: float) -> None:
    """Goodput of each load: of these very arrivals, and of twenty other draws at the same rate."""
    box, slos = BoxProfile({"e": service}, 0.0), {"": Slo(**subject.slo)}

    def good(schedule: Sequence[float], asks: Sequence[Ask]) -> float:
        turns = (Turn("", (Call("e", one.units, one.prompt),)) for one in asks)
        return goodput(open_loop(box, schedule, turns, math.inf), slos, seconds)

    for load in loads:
        load.predicted = good(load.schedule, load.asks)
        others = []
        for seed in _SEEDS:
            rng = random.Random(seed)
            times = poisson(load.rate, seconds, rng)
            others.append(good(times, rng.choices(load.asks, k=len(times))))
        load.predicted_other_times = statistics.fmean(others)


def loads_of(subject: Subject, most_per_s: float, shares: Sequence[float], seconds: float, seed: int) -> list[Load]:
    """Poisson arrivals at shares of what the engine reached in the closed loop."""
    asks, found = subject.asks(), []
    for number, share in enumerate(shares):
        rng = random.Random(seed * 1000 + number)
        schedule = poisson(share * most_per_s, seconds, rng)
        found.append(Load(share, share * most_per_s, schedule, rng.choices(asks, k=len(schedule))))
    return found


def measure(to: Served, loads: Sequence[Load], order: random.Random) -> None:
    """Run each load; in an order of chance, so that what the machine does meanwhile falls on all of them."""
    for load in order.sample(list(loads), len(loads)):
        watch = Watch(to.pid)
        load.rows = asyncio.run(_with(to, partial(ask_open, asks=load.asks, schedule=load.schedule)))
        load.strangers = watch.cores()
        _say(f"  {load.rate:.2f}/s: {sum(row.ok for row in load.rows)} of {len(load.rows)} answered;"
             f" others {load.strangers:.2f} cores")  # fmt: skip


def result_of(subject: Subject, load: Load, seconds: float, repeat: int) -> dict[str, Any]:
    """The load as a result of a run record; predictions stand in ``rates``."""
    good = [row for row in load.rows if row.ok]
    kept = sum(_kept(row, subject.slo) for row in good) / seconds
    return {
        "config_name": "default", "repeat": repeat, "requests": len(load.rows), "failed": len(load.rows) - len(good),
        "duration_s": seconds, "goodput_per_s": round(kept, 4), "ttft_ms": _spread([row.ttft_ms for row in good]),
        "tpot_ms": None, "e2e_ms": _spread([row.e2e_ms for row in good]),
        "client_lag_ms": _spread([row.lag_ms for row in load.rows]), "quality": {},
        "offered_per_s": round(load.rate, 4),
        "rates": {
            "predicted_goodput_per_s": round(load.predicted, 4),
            "predicted_goodput_other_times_per_s": round(load.predicted_other_times, 4),
        },
        "knobs": {"share_of_closed_loop": load.share, "strangers_cores": round(load.strangers, 3)},
    }  # fmt: skip


def undisturbed(result: Mapping[str, Any]) -> bool:
    """Whether the machine was its own while this was measured."""
    return bool(result["knobs"]["strangers_cores"] <= MOST)


def off_by(result: Mapping[str, Any], which: str = "predicted_goodput_per_s") -> float:
    """Predicted ÷ measured − 1."""
    return float(result["rates"][which] / result["goodput_per_s"] - 1) if result["goodput_per_s"] else math.inf


def profile_toml(subject: Subject, service: Service, found: Mapping[str, Any], run_id: str, off: float) -> str:
    """The profile, as ``capacity`` reads it."""
    name = f"{subject.model}, {found['hardware']['cores']} cores"
    lines = [
        f"# made by `appliance bench measure {subject.name}`; {run_id}: predictions off by {100 * off:.1f} % at most",
        f"name = {json.dumps(name)}",
        f"evidence = [{json.dumps(run_id)}]", "", "[fingerprint]",
        f"driver = {json.dumps(found['driver'])}", "", "[fingerprint.hardware]",
        *(f"{name} = {json.dumps(value)}" for name, value in found["hardware"].items()), "",
        f"[service.{'chat' if subject.name == 'fake' else subject.name}]",
        *(f"{name} = {json.dumps(value)}" for name, value in msgspec.to_builtins(service).items()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _closed(to: Served, asks: Sequence[Ask], callers: int) -> tuple[float, list[Row]]:
    seconds, rows = asyncio.run(_with(to, lambda caller: ask_closed(caller, asks, callers)))
    return len(rows) / seconds, rows


async def _with(to: Served, what: Callable[[Caller], Any]) -> Any:
    caller = Caller("127.0.0.1", to.port, to.key)
    gc.collect()
    gc.disable()
    try:
        return await what(caller)
    finally:
        gc.enable()
        caller.close()


def _some(asks: Sequence[Ask], count: int, seed: int) -> list[Ask]:
    return random.Random(seed).choices(asks, k=count)


def _kept(row: Row, slo: Mapping[str, float]) -> bool:
    return all(getattr(row, name) <= bound for name, bound in slo.items())


def _spread(values: Sequence[float]) -> dict[str, float | None] | None:
    """None for percentiles that the number of values does not support (docs: 59 for p95, 299 for p99)."""
    if not values:
        return None
    ordered = sorted(values)
    p50, p95, p99 = (round(percentile(ordered, q), 3) for q in (50, 95, 99))
    return {"p50": p50, "p95": p95 if len(ordered) >= 59 else None, "p99": p99 if len(ordered) >= 299 else None}


def _failure(rows: Sequence[Row]) -> str:
    row = next(row for row in rows if not row.ok)
    return row.error or f"status {row.status}: {row.body[:200]!r}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _row(row: Row, repeat: int, load: Load) -> dict[str, Any]:
    fields = msgspec.to_builtins(msgspec.structs.replace(row, body=b""))
    del fields["body"]
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in fields.items()}
    return {"repeat": repeat, "offered_per_s": round(load.rate, 4), **rounded}


def _run(subject: Subject, args: argparse.Namespace) -> tuple[Fit, Service, list[Loop], list[tuple[int, Load]]]:
    with served(subject.toml, (subject.name.replace("fake", "chat"),)) as to:
        _say(f"measuring {subject.model} through the gateway")
        loops = calibrate(subject, to, args.loop_s)
        began = time.monotonic()
        fitted = fit(subject.make, subject.start, loops, subject.first)
        service = subject.make(fitted.values)
        _say(f"  fitted in {time.monotonic() - began:.0f} s, off by {100 * fitted.error:.1f} %: {fitted.values}")
        done = []
        for repeat in range(args.repeats):
            loads = loads_of(subject, loops[-1].per_s, args.shares, args.seconds, args.seed + repeat)
            predict(subject, service, loads, args.seconds)  # before they are measured
            measure(to, loads, random.Random(repeat))
            done += [(repeat, load) for load in loads]
    return fitted, service, loops, done


def main(argv: Sequence[str]) -> int:
    """Entry point: 0; 1 where a prediction was off by more than --within-percent; 3 where nothing can be said."""
    p = argparse.ArgumentParser(prog="appliance bench measure", description=__doc__.partition("\n")[0])
    p.add_argument("engine", choices=sorted(SUBJECTS))
    p.add_argument("--seconds", type=float, default=25.0, help="of each load (default 25)")
    p.add_argument("--loop-s", type=float, default=6.0, help="of each closed loop (default 6)")
    p.add_argument("--repeats", type=int, default=1)
    p.add_argument("--shares", type=lambda text: tuple(float(one) for one in text.split(",")), default=SHARES,
                   help="loads as shares of the closed loop's throughput")  # fmt: skip
    p.add_argument("--slo", help="such as e2e_ms=500 (default: the engine's)")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--within-percent", type=float, default=15.0)
    p.add_argument("--results", type=Path, help="where to write (default: benchmarks/results)")
    p.add_argument("--profile-out", type=Path, help="where to write the profile (default: beside the run)")
    args = p.parse_args(argv)
    subject = SUBJECTS[args.engine]()
    if args.slo:
        subject = msgspec.structs.replace(subject, slo=_slo(args.slo))
    fitted, service, loops, done = _run(subject, args)
    run_id = records.new_id("capacity", subject.name)
    found = fingerprint({subject.model: revision(subject.model)})
    results = [result_of(subject, load, args.seconds, repeat) for repeat, load in done]
    rows = records.write_requests(
        run_id, (_row(row, repeat, load) for repeat, load in done for row in load.rows), args.results
    )
    for result in results:
        result["requests_file"] = rows.name
    record = {
        "schema": records.SCHEMA, "id": run_id, "kind": "capacity",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(), "fingerprint": found, "suite": f"capacity-{subject.name}",
        "config": {
            "argv": records.without_places(_without_places(argv)), "seed": args.seed, "engine": subject.toml,
            "service": msgspec.to_builtins(service),
            "fit_error": round(fitted.error, 4),
            "closed_loops": [
                {"callers": one.callers, "per_s": round(one.per_s, 3), "latency_ms": round(one.latency_ms, 2),
                 "ttft_ms": round(one.ttft_ms, 2), "simulated_per_s": round(sim[1], 3),
                 "simulated_latency_ms": round(sim[2], 2)}
                for one, sim in zip(loops, fitted.simulated, strict=True)
            ],
        },
        "slo": dict(subject.slo), "results": results,
        "notes": "predicted from the closed loops alone, before the open loops were run",
    }  # fmt: skip
    path = records.write_run(record, args.results)
    judged = [one for one in results if undisturbed(one)]
    worst = max((abs(off_by(one)) for one in judged), default=math.inf)
    target = args.profile_out or path.with_name(f"{run_id}.profile.toml")
    target.write_text(profile_toml(subject, service, found, run_id, worst), encoding="utf-8")
    print(show(subject, results))
    print(f"written to {path} and {target}")
    if not judged:
        print("inconclusive: others used the machine during every load; measure again when nothing else runs on it")
        return 3
    return 0 if worst * 100 <= args.within_percent else 1


def _without_places(argv: Sequence[str]) -> list[str]:
    """What was asked for; where the files went says something of this machine and nothing of the run."""
    places = ("--results", "--profile-out")
    return [one for n, one in enumerate(argv) if one not in places and (n == 0 or argv[n - 1] not in places)]


def show(subject: Subject, results: Sequence[Mapping[str, Any]]) -> str:
    """For people."""
    asked = ", ".join(f"{name} ≤ {bound:g}" for name, bound in subject.slo.items())
    lines = [f"goodput ({asked}) by offered load, a second",
             "OFFERED  REPEAT  MEASURED  PREDICTED    OFF  OTHER ARRIVALS    OFF"
             "  LAG P99 MS  FAILED  OTHERS"]  # fmt: skip
    for one in results:
        other = one["rates"]["predicted_goodput_other_times_per_s"]
        lag = one["client_lag_ms"] or {}
        lines.append(
            f"{one['offered_per_s']:7.2f}  {one['repeat']:6}  {one['goodput_per_s']:8.2f}"
            f"  {one['rates']['predicted_goodput_per_s']:9.2f}  {100 * off_by(one):+4.1f}%  {other:14.2f}"
            f"  {100 * off_by(one, 'predicted_goodput_other_times_per_s'):+4.1f}%"
            f"  {lag.get('p99') or lag.get('p95') or 0:10.1f}  {one['failed']:6}"
            f"  {one['knobs']['strangers_cores']:.2f}{'' if undisturbed(one) else ' not judged'}"
        )
    return "\n".join(lines)


def revision(model: str) -> str:
    """What the store's manifest says."""
    try:
        manifest = json.loads((models_dir() / model / "manifest.json").read_text())
    except (OSError, ValueError):
        return "unknown"
    return str(manifest.get("recipe") or "unknown")[:16]


def _slo(text: str) -> dict[str, float]:
    found = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name not in ("ttft_ms", "tpot_ms", "e2e_ms"):
            raise RecordError(f"the SLO {part!r} is unknown here; write ttft_ms=…, tpot_ms=… or e2e_ms=…")
        try:
            found[name] = float(value)
        except ValueError:
            raise RecordError(f"the SLO {part!r} has no number; write {name}=500") from None
    return found
