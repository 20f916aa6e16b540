"""``appliance bench run SUITE``: workloads at given loads through a gateway, as one run record.

What it is: the cells of a suite (``suites``) one after another, each measured by ``cells``, against the appliance at
``--url`` (its key in APPLIANCE_BENCH_KEY or ``--key-file``) or against one of our own that has just the engines a cell
needs. Progress with the time left goes to standard error. Ctrl-C writes what is done; ``--resume ID`` goes on at the
first cell that is missing and writes one whole run.
What it refuses to be: beside another measurement, on this machine. ``--lock FILE`` takes turns with whoever holds the
file: engines are then started and ended within each turn.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from appliance_bench import cells, clients, fingerprint, ledger_times, profiles, records, rig, slo, suites, workloads
from appliance_bench.gateway_rig import get
from appliance_bench.records import RecordError, Run
from appliance_bench.served import models_dir, served
from appliance_bench.suites import Cell
from appliance_bench.tune import alone

_LEAST_MB = 50
_START_S = {"chat": 40.0, "translate": 5.0, "transcribe": 8.0, "fake": 3.0}
_LAG_MS = 20.0


class Options(Struct, frozen=True):
    """What a resumed run has to have in common with the one that was stopped."""

    suite: str
    loads: list[float]
    seconds: float
    repeats: int
    slo: str
    arrivals: str
    seed: int
    clients: int
    generator: str
    models: dict[str, str]
    density: list[float] = []


def parser() -> argparse.ArgumentParser:
    """The command line."""
    known = ", ".join([*suites.names(), *workloads.names()])
    p = argparse.ArgumentParser(
        prog="appliance bench run",
        description=(__doc__ or "").partition("\n")[0],
        epilog=f"suites and workloads: {known}",
    )
    p.add_argument("suite", nargs="?", help="a suite, or a workload with --loads")
    p.add_argument("--workloads", type=Path, default=workloads.HERE, help="directory of workloads of yours")
    p.add_argument("--loads", help="requests/s (sessions, callers) instead of the suite's: 1,2,4")
    p.add_argument("--seconds", type=float, default=0.0, help="of each load (default: the suite's)")
    p.add_argument("--repeats", type=int, default=0, help="of the whole suite (default: the suite's)")
    p.add_argument("--slo", default="", help="ttft_p95_ms=500,… for all (default: each workload's own)")
    p.add_argument("--arrivals", default="", help="poisson, bursty, ledger (the shape of its day), or a file of times")
    p.add_argument("--url", help="a running appliance; its key in APPLIANCE_BENCH_KEY or --key-file")
    p.add_argument("--key-file", type=Path)
    p.add_argument("--chat-model", default=rig.MODELS["chat"])
    p.add_argument("--translate-model", default=rig.MODELS["translate"])
    p.add_argument("--transcribe-model", default=rig.MODELS["transcribe"])
    p.add_argument("--generator", choices=suites.GENERATORS, default="", help="auto: vLLM's bench serve where it can")
    p.add_argument("--clients", type=int, default=0, help="processes of our own generator (default: by the cores)")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--resume", metavar="ID", help="a run that was stopped: measure what it lacks")
    p.add_argument("--lock", type=Path, help="hold this file locked while each cell is measured")
    p.add_argument("--out", type=Path, help="directory for the run (default: benchmarks/results of a checkout)")
    return p


def main(argv: Sequence[str]) -> int:
    """0; 130 where Ctrl-C ended it. Raises RecordError."""
    args = parser().parse_args(argv)
    earlier = records.read_run(args.resume, args.out) if args.resume else None
    options = _options(args, earlier)
    out = args.out or records.results_dir()
    _room(out)
    with alone(profiles.home(), serving=bool(args.url)):
        path, whole = measure(options, args, argv, out, earlier)
    print(path)
    return 0 if whole else 130


def measure(
    options: Options, args: argparse.Namespace, argv: Sequence[str], out: Path, earlier: Run | None = None
) -> tuple[Path, bool]:
    """The run's file, and whether it is whole."""
    sheet = suites.load(options.suite, options.loads, items=args.workloads)
    every = list(suites.cells(sheet, options.repeats, options.seconds, args.workloads))
    done = msgspec.to_builtins(earlier.results) if earlier is not None else []
    missing = [cell for cell in every if cell.key not in measured(earlier)]
    how = cells.Conditions(
        options.models, slo.parse(options.slo) if options.slo else (), options.arrivals, tuple(options.density),
        options.seed, options.generator,
    )  # fmt: skip
    for cell in missing:
        cells.targets_of(cell.parts[0], how.targets)
        if options.generator == "vllm":
            cells.uses_vllm(cell, how)
    rows: list[dict[str, Any]] = []
    progress, notes = Progress(missing), list[str]()
    whole = True
    try:
        with clients.Clients(options.clients) as pool, Target(args, options.models) as target:
            for number, cell in enumerate(missing):
                progress(number, cell)
                with _turn(args.lock):
                    url, key = target.of(cell)
                    found, its_rows = cells.measure(cell, url, key, pool, how)
                    if args.lock:
                        target.close()
                for one in found:
                    progress.say(f"  {told(one)}")
                done += found
                rows += its_rows
    except KeyboardInterrupt:
        whole = False
        notes.append(f"stopped by Ctrl-C; {len(every) - len(missing) + progress.done} of {len(every)} cells are here")
    if not done:
        raise RecordError("stopped before anything was measured; nothing is written")
    path = _write(options, args, argv, out, every, done, rows, [*notes, *_lagging(done)], earlier)
    if not whole:
        progress.say(f"stopped; go on with: appliance bench run --resume {path.stem}")
    return path, whole


def measured(run: Run | None) -> set[tuple[tuple[str, float], int]]:
    """Keys of the cells a run has."""
    return {
        ((one.config_name, round(one.offered_per_s if one.offered_per_s is not None else one.concurrency or 0, 4)),
         one.repeat)
        for one in (run.results if run is not None else [])
    }  # fmt: skip


class Target:
    """Where requests go: the appliance that was named, or one of our own with the engines of the cell."""

    def __init__(self, args: argparse.Namespace, models: dict[str, str]) -> None:
        self._models = models
        self._open = contextlib.ExitStack()
        self._engines: tuple[str, ...] = ()
        self._now = ("", "")
        self._url = args.url.rstrip("/") if args.url else ""
        if self._url:
            self._now = (self._url, _key(args.key_file))
            _answers(*self._now)

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def of(self, cell: Cell) -> tuple[str, str]:
        """Address and key."""
        if self._url:
            if "fake" in cell.engines:
                raise RecordError("the gateway's own rate needs its fake engine: measure it without --url")
            return self._now
        if cell.engines != self._engines:
            self.close()
            names = tuple("chat" if name == "fake" else name for name in cell.engines)
            to = self._open.enter_context(served(cells.engines_toml(cell.engines, self._models), names))
            self._engines, self._now = cell.engines, (f"http://127.0.0.1:{to.port}", to.key)
        return self._now

    def close(self) -> None:
        """End our own."""
        self._open.close()
        self._engines = ()


class Progress:
    """Lines on standard error with the time that is left, by what the cells so far took beyond their seconds."""

    def __init__(self, todo: Sequence[Cell]) -> None:
        self._todo, self._began, self.done = list(todo), time.monotonic(), 0

    def __call__(self, number: int, cell: Cell) -> None:
        self.done = number
        left = self._todo[number:]
        expected = sum(one.seconds for one in left) + sum(_START_S[e] for e in {e for c in left for e in c.engines})
        planned = sum(one.seconds for one in self._todo[:number])
        if planned:
            expected *= max(1.0, (time.monotonic() - self._began) / planned)
        self.say(f"[{number + 1} of {len(self._todo)}, about {expected / 60:.1f} min left] {cell}, {cell.seconds:g} s")

    def say(self, line: str) -> None:
        """For people."""
        print(line, file=sys.stderr, flush=True)


def told(one: dict[str, Any]) -> str:
    """A result in a line."""
    parts = [f"{one['config_name']}: {one['requests']} requests, {one['failed']} failed",
             f"{one['goodput_per_s']:.4g}/s within the SLO"]  # fmt: skip
    for name in ("ttft_ms", "e2e_ms"):
        if one.get(name):
            spread = one[name]
            last = next(p for p in ("p99", "p95", "p50") if spread.get(p) is not None)
            parts.append(
                f"{name[:-3]} p50 {spread['p50']:.4g} ms" + (f", {last} {spread[last]:.4g}" if last != "p50" else "")
            )
    if lag := one.get("client_lag_ms"):
        parts.append(f"client late by {lag['p50']:.2g} ms")
    return ", ".join([*parts, *(f"{name} {value:g}" for name, value in one.get("quality", {}).items())])


def _options(args: argparse.Namespace, earlier: Run | None) -> Options:
    if earlier is not None:
        try:
            return msgspec.convert(earlier.config["options"], Options)
        except (KeyError, msgspec.ValidationError):
            raise RecordError(f"{earlier.id} was not made by `run`, so it cannot be gone on with") from None
    if not args.suite:
        raise RecordError(f"which suite? there are {', '.join(suites.names())}, and workloads with --loads")
    try:
        loads = [float(one) for one in (args.loads or "").split(",") if one]
    except ValueError:
        raise RecordError(f"--loads is {args.loads!r}; write for example --loads 1,2,4") from None
    if loads and min(loads) <= 0:
        raise RecordError("a load is above 0")
    if args.slo:
        slo.parse(args.slo)
    sheet = suites.load(args.suite, loads, items=args.workloads)
    kind, density = args.arrivals, list[float]()
    if kind == "ledger":
        kind, density = "shaped", ledger_times.density(profiles.home())
    elif kind and kind not in ("poisson", "bursty"):
        kind, density = "shaped", ledger_times.density_of_file(Path(kind))
    models = {"chat": args.chat_model, "translate": args.translate_model, "transcribe": args.transcribe_model,
              "fake": "fake-model"}  # fmt: skip
    return Options(
        args.suite, loads, args.seconds, args.repeats, args.slo, kind, args.seed,
        args.clients or clients.default_count(), args.generator or sheet.generator, models, density,
    )  # fmt: skip


def _key(path: Path | None) -> str:
    if path is not None:
        try:
            return path.read_text().strip()
        except OSError as e:
            raise RecordError(f"the key in {path} cannot be read ({e.strerror})") from None
    return os.environ.get("APPLIANCE_BENCH_KEY", "")


def _answers(url: str, key: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or not parts.port or parts.path:
        raise RecordError(f"{url!r} is no address of an appliance; write http://host:port")
    try:
        get(f"{url}/health/ready")
    except OSError as e:
        raise RecordError(f"no engine answers at {url} ({e}); start it, see `appliance status`") from None
    try:
        get(f"{url}/v1/models", key)
    except OSError as e:
        raise RecordError(f"{url} does not take this key ({e}); set APPLIANCE_BENCH_KEY or --key-file") from None


def _room(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        free_mb = shutil.disk_usage(directory).free // 2**20
    except OSError as e:
        raise RecordError(f"{directory} cannot be made ({e.strerror}); name another place with --out") from None
    if free_mb < _LEAST_MB or not os.access(directory, os.W_OK):
        raise RecordError(
            f"{directory} has {free_mb} MB free and has to be writable with {_LEAST_MB}; nothing was measured:"
            " make room or name another place with --out"
        )


@contextlib.contextmanager
def _turn(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _lagging(results: Sequence[dict[str, Any]]) -> list[str]:
    late = {
        one["config_name"] for one in results
        if (lag := one.get("client_lag_ms")) and max(lag.get("p95") or 0.0, lag["p50"]) > _LAG_MS
    }  # fmt: skip
    return (
        [f"the client sent {', '.join(sorted(late))} more than {_LAG_MS:g} ms late: it is part of these times"]
        if late
        else []
    )


def _write(
    options: Options, args: argparse.Namespace, argv: Sequence[str], out: Path, every: Sequence[Cell],
    results: list[dict[str, Any]], rows: list[dict[str, Any]], notes: list[str], earlier: Run | None,
) -> Path:  # fmt: skip
    run_id = records.new_id("run", options.suite)
    if rows:
        name = records.write_requests(run_id, rows, out).name
        keys = {(row["config_name"], row["repeat"]) for row in rows}
        results = [
            {"requests_file": name, **one} if (one["config_name"], one["repeat"]) in keys else one
            for one in results
        ]  # fmt: skip
    needed = sorted({name for cell in every for name in cell.engines if name != "fake"})
    used = {options.models[name]: profiles.revision(models_dir(), options.models[name]) for name in needed}
    record = {
        "schema": records.SCHEMA, "id": run_id, "kind": "run", "when": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "commit": fingerprint.commit(), "fingerprint": fingerprint.fingerprint(used), "suite": options.suite,
        "config": {
            "command": " ".join(["appliance bench run", *records.without_places(argv)]),
            "options": msgspec.to_builtins(options), "against": "a running appliance" if args.url else "its own",
            **({"goes_on_from": earlier.id} if earlier is not None else {}),
        },
        "slo": cells.slo_of(every, slo.parse(options.slo) if options.slo else ()),
        "results": results, "notes": notes,
    }  # fmt: skip
    return records.write_run(record, out)
