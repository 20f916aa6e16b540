"""``make soak``: does the gateway's memory stay where it was, a million requests later?

What it is: the rig of ``make bench-gateway`` (fake engine and load on core 0, the gateway with its real ledger on core
1), loaded for as long as it takes, whole answers and streams in turn. Memory after 10,000 requests is what it is held
against: by then every cache is warm.
What it refuses to be: a speed test. It may share its machine; it writes what it was answered and what that cost.
Costs six to forty minutes for a million requests; Ctrl-C ends it early and keeps what it saw.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from appliance_bench import gateway_report as report
from appliance_bench.gateway_postgres import postgres
from appliance_bench.gateway_rig import BenchError, Target, check_cores, gateway, load, rss_mb, upstream

RESULTS = Path(__file__).resolve().parent.parent / "results"
WARM_REQUESTS = 10_000
GROWTH = 0.20
_STREAM = ("--stream", "--message", "[[set:chunks=8]]", "--expect-events", "10")
# what each stretch sends; the mix repeats
_MIX: tuple[tuple[str, ...], ...] = ((), (), _STREAM)


class Soak:
    """A gateway under load, request by request nearer to the end."""

    def __init__(self, target: Target, console: Console) -> None:
        self.answers = 0
        self.errors: Counter[str] = Counter()
        self.samples: list[dict[str, float]] = []
        self._target = target
        self._console = console
        self._stretch = 0

    def run_to(self, requests: int, seconds: float) -> float:
        """Load until ``requests`` were answered in all; MB of resident memory then."""
        while self.answers < requests:
            arguments = _MIX[self._stretch % len(_MIX)]
            self._stretch += 1
            measured = load(self._target, ("--connections", "16", "--seconds", f"{seconds:g}", *arguments))
            if not measured.load.answers:
                raise BenchError("the gateway answers nothing any more; look at its log")
            self.answers += measured.load.answers
            self.errors.update(measured.load.errors)
            rss = rss_mb(self._target.pid)
            rate = measured.load.requests_per_s
            self.samples.append({"requests": self.answers, "rss_mb": rss, "requests_per_s": rate})
            self._console.print(f"{self.answers:,} requests: {rss:.1f} MB, {rate:,.0f}/s", highlight=False)
        return rss_mb(self._target.pid)


def soak(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Start everything, load it, compare; the result."""
    check_cores()
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ap-")))
        _, sock = stack.enter_context(upstream(work))
        at: dict[str, Any] = {}
        if args.ledger == "postgres":
            server = stack.enter_context(postgres(work))
            at = {"ledger_url": next(server.urls), "helper": server.pid}
        target = stack.enter_context(gateway(work, "gateway", sock, **at))
        running, idle = Soak(target, console), rss_mb(target.pid)
        warm = running.run_to(WARM_REQUESTS, 2)
        try:
            end = running.run_to(args.requests, 20)
        except KeyboardInterrupt:  # what it saw until then is written all the same
            console.print("stopped early")
            end = rss_mb(target.pid)
        size = sum(f.stat().st_size for f in (work / "gateway").glob("ledger.db*"))
    return {
        "bench": "soak",
        "machine": report.machine(),
        "versions": report.versions(),
        "revision": report.revision(),
        "ledger": args.ledger,
        "requests": running.answers,
        "asked_for": args.requests,
        "errors": dict(running.errors),
        "rss_mb": {"idle": idle, "warm": warm, "end": end},
        "growth": round(end / warm - 1, 4),
        "met": end <= warm * (1 + GROWTH) and not running.errors,
        "ledger_bytes": size,
        "samples": running.samples,
    }


def main(argv: Sequence[str]) -> int:
    """Entry point; 1 when it could not run or memory grew too much."""
    parser = argparse.ArgumentParser(prog="python -m appliance_bench.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--ledger", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the dated JSON goes")
    args, console = parser.parse_args(argv), Console(width=120)
    try:
        result = soak(args, console)
    except BenchError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    rss = result["rss_mb"]
    console.print(
        f"{result['requests']:,} requests: {rss['warm']} MB after {WARM_REQUESTS:,}, {rss['end']} MB at the end"
        f" ({result['growth']:+.1%}; at most +{GROWTH:.0%}), errors: {result['errors'] or 'none'}",
        highlight=False,
    )
    console.print(f"written: {report.write(args.out, 'soak', result).name}", highlight=False)
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
