"""``make bench-gateway``: what the gateway costs between a caller and an engine.

What it is: the fake engine and the load generator on core 0, the gateway with real keys and a real
ledger on core 1; every case runs direct and through the gateway in turn, repeat by repeat, and once
more with 4 ms added to every commit, because a customer's fsync may cost that. ``--litellm`` adds
LiteLLM's proxy to the same run; ``--ledger postgres`` puts the ledger into PostgreSQL (its server on core 0 with the
load), ``--ledger both`` measures both in one run; ``--policy`` adds a gateway with a policy.toml in force; ``--against
CHECKOUT`` adds the gateway of another checkout of this
repository; ``--startup`` measures the real engines' second start instead.
What it refuses to be: a test. Targets are printed as met or missed; the exit status stays 0.
Costs about eight minutes of two cores; anything else that runs meanwhile is reported as foreign CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from appliance_bench import gateway_report as report
from appliance_bench.gateway_cases import CASES, LITELLM_CASES, POLICY, Case, Repeats
from appliance_bench.gateway_litellm import VERSION as LITELLM_VERSION
from appliance_bench.gateway_litellm import default_venv, litellm
from appliance_bench.gateway_postgres import postgres
from appliance_bench.gateway_rig import BenchError, Measured, Target, check_cores, gateway, load, rss_mb, upstream
from appliance_bench.gateway_startup import measure_startup
from appliance_bench.load_stats import figure

COMMIT_DELAY_MS = 4.0
RESULTS = Path(__file__).resolve().parent.parent / "results"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m appliance_bench.gateway", description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="measured seconds of a run, after its warm-up")
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="only these cases")
    parser.add_argument("--no-commit-delay", action="store_true", help="leave out the runs with slow commits")
    parser.add_argument("--ledger", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument(
        "--policy", nargs="?", const="", metavar="FILE", help="also with a policy.toml: FILE, or one as most sites have"
    )
    parser.add_argument("--against", type=Path, help="another checkout, whose gateway is measured in turn with ours")
    parser.add_argument("--litellm", action="store_true", help="compare with LiteLLM's proxy (installs it once)")
    parser.add_argument("--litellm-venv", type=Path, default=default_venv())
    parser.add_argument("--startup", action="store_true", help="measure the second start to the first answer")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the dated JSON goes")
    return parser.parse_args(argv)


def _name(ledger: str, delay_ms: float) -> str:
    return f"{ledger}+{delay_ms:g}ms" if delay_ms else ledger


def run_case(case: Case, targets: Sequence[Target], args: argparse.Namespace, console: Console) -> Repeats:
    """Every target in turn, ``--repeats`` times."""
    repeats: list[dict[str, Measured]] = []
    for n in range(args.repeats):
        found: dict[str, Measured] = {}
        for target in targets:
            if target.name == "litellm" and case.name not in LITELLM_CASES:
                continue
            console.print(f"{case.title}: {target.name}, {n + 1} of {args.repeats}", markup=False, highlight=False)
            found[target.name] = load(target, ("--seconds", str(args.seconds), *case.arguments))
        repeats.append(found)
    return repeats


def _ratio(measured: dict[str, Repeats]) -> dict[str, Any] | None:
    """Requests/s of the gateway over LiteLLM's, repeat by repeat."""
    pairs = [r for r in measured.get("rate16", []) if "litellm" in r and "gateway" in r]
    if not pairs:
        return None
    return msgspec.structs.asdict(
        figure([r["gateway"].load.requests_per_s / max(r["litellm"].load.requests_per_s, 0.1) for r in pairs])
    )


def bench(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Start everything, measure every case; the result."""
    check_cores()
    result: dict[str, Any] = {
        "bench": "gateway",
        "machine": report.machine(),
        "versions": report.versions() | ({"litellm": LITELLM_VERSION} if args.litellm else {}),
        "revision": report.revision(),
        "arguments": {"repeats": args.repeats, "seconds": args.seconds, "commit_delay_ms": COMMIT_DELAY_MS},
    }
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ap-")))
        result["disk_sync_ms"] = report.disk_sync_ms(work)
        direct, sock = stack.enter_context(upstream(work))
        targets = [direct]
        delays = (0.0,) if args.no_commit_delay else (0.0, COMMIT_DELAY_MS)
        if args.ledger != "postgres":
            targets += [stack.enter_context(gateway(work, _name("gateway", d), sock, d)) for d in delays]
        if args.ledger != "sqlite":
            server = stack.enter_context(postgres(work))
            result["versions"]["postgresql"] = server.version
            for delay_ms in delays:
                name, url = _name("postgres", delay_ms), next(server.urls)
                started = gateway(work, name, sock, delay_ms, ledger_url=url, helper=server.pid)
                targets.append(stack.enter_context(started))
        if args.policy is not None:
            text = POLICY if args.policy == "" else Path(args.policy).read_text()
            result["policy"] = text
            targets.append(stack.enter_context(gateway(work, "policy", sock, policy=text)))
        if args.against is not None:
            result["against"] = report.revision(args.against)
            targets.append(stack.enter_context(gateway(work, "against", sock, checkout=args.against.resolve())))
        if args.litellm:
            targets.append(stack.enter_context(litellm(work, args.litellm_venv, direct.url)))
        cases = [case for case in CASES if not args.case or case.name in args.case]
        idle = {t.name: rss_mb(t.pid) for t in targets if t.pid}
        measured = {case.name: run_case(case, targets, args, console) for case in cases}
        result["rss_mb"] = {t.name: {"idle": idle[t.name], "after": rss_mb(t.pid)} for t in targets if t.pid}
    names = [t.name for t in targets]
    result |= {"litellm_ratio": _ratio(measured), "figures": report.figures(measured, names), "cases": measured}
    say(console, result, measured, names)
    return result


def say(console: Console, result: dict[str, Any], measured: dict[str, Repeats], names: Sequence[str]) -> None:
    """The table, and what one has to know to believe it."""
    report.show(console, result["figures"], names)
    report.show_errors(console, measured)
    for name, rss in result["rss_mb"].items():
        console.print(f"memory of {name}: {rss['idle']} MB idle, {rss['after']} MB after all cases (gateway: ≤ 150)")
    sync = result["disk_sync_ms"]
    console.print(f"fdatasync on this disk: {sync['p50']:.2f} ms p50, {sync['p99']:.2f} ms p99")
    foreign = [m.foreign_cpu_share for repeats in measured.values() for repeat in repeats for m in repeat.values()]
    console.print(f"CPU used by others on the two cores meanwhile: {max(foreign):.2f} cores in the worst run")
    if result["litellm_ratio"] is not None:
        console.print(f"requests/s over LiteLLM's: {result['litellm_ratio']['median']:.1f}× (target ≥ 15×)")


def main(argv: Sequence[str]) -> int:
    """Entry point; 1 when the bench could not run."""
    args, console = _arguments(argv), Console(width=150)
    try:
        name = "startup" if args.startup else "gateway"
        result = measure_startup(console) if args.startup else bench(args, console)
    except BenchError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    console.print(f"written: {report.write(args.out, name, result).name}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
