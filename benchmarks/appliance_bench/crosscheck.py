"""``python -m appliance_bench.crosscheck --aiperf PATH``: our load generator beside AIPerf on the same fake engine.

What it is: the fake engine on a TCP port, answers of a known length and pace; closed loops of the same number of
callers by ``calling`` and by AIPerf (in a virtual environment of its own: it is no dependency), taking turns;
throughput and time to the first token of both, as a run record.
What it refuses to be: a benchmark of anything. The fake engine's times are given, so whoever measures others is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance_bench import records
from appliance_bench.calling import Ask, Caller, closed_loop
from appliance_bench.fingerprint import commit, fingerprint
from appliance_bench.gateway_rig import environment, free_port, process, wait_ready
from appliance_bench.load_stats import percentile
from appliance_bench.records import RecordError
from appliance_bench.served import models_dir

PACE = {"chunks": 32, "chunk-ms": 10, "ttft-ms": 60}


def ours(port: int, callers: int, count: int) -> dict[str, Any]:
    """A result of our own generator."""
    body = {"model": "fake", "stream": True, "messages": [{"role": "user", "content": "Where is my order?"}]}
    ask = Ask("/v1/chat/completions", json.dumps(body).encode(), 1.0)

    async def run() -> tuple[float, Any]:
        caller = Caller("127.0.0.1", port, "none")
        await closed_loop(caller, [ask] * callers, callers)
        return await closed_loop(caller, [ask] * count, callers)

    seconds, rows = asyncio.run(run())
    good = [row for row in rows if row.ok]
    return _result("ours", callers, count, count - len(good), seconds, [row.ttft_ms for row in good],
                   [row.e2e_ms for row in good])  # fmt: skip


def aiperf(binary: Path, port: int, callers: int, count: int, tokenizer: Path) -> dict[str, Any]:
    """A result of AIPerf. Raises RecordError with what it said."""
    with tempfile.TemporaryDirectory(prefix="aiperf-") as scratch:
        argv = [
            str(binary), "profile", "--model", "fake", "--url", f"http://127.0.0.1:{port}", "--endpoint-type", "chat",
            "--streaming", "--concurrency", str(callers), "--request-count", str(count),
            "--warmup-request-count", str(callers), "--tokenizer", str(tokenizer), "--ui", "none",
            "--synthetic-input-tokens-mean", "8", "--artifact-dir", scratch,
        ]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, timeout=200, check=False, cwd=scratch)
        found = sorted(Path(scratch).rglob("*aiperf.json"))
        if not found:
            raise RecordError(
                f"AIPerf left no result (exit code {done.returncode}): {(done.stderr or done.stdout)[-800:]}"
            )
        told = json.loads(found[0].read_text())
    return of_export(told, callers, count)


def of_export(told: Mapping[str, Any], callers: int, count: int) -> dict[str, Any]:
    """AIPerf's ``profile_export_aiperf.json`` as a result."""
    first, whole = (told.get(name) or {} for name in ("time_to_first_token", "request_latency"))
    errors = told.get("error_request_count") or {}
    failed = int(errors.get("avg") or 0) if isinstance(errors, Mapping) else int(errors)
    per_s = float(told["request_throughput"]["avg"])
    spread = {name: float(first[name]) for name in ("p50", "p95", "p99")}
    return {
        "config_name": "aiperf", "repeat": 0, "requests": count, "failed": failed,
        "duration_s": round((count - failed) / per_s, 4), "goodput_per_s": round(per_s, 4), "ttft_ms": spread,
        "e2e_ms": {name: float(whole[name]) for name in ("p50", "p95", "p99")}, "concurrency": callers,
    }  # fmt: skip


def _result(
    name: str, callers: int, count: int, failed: int, seconds: float, first: list[float], whole: list[float]
) -> dict[str, Any]:
    def spread(values: list[float]) -> dict[str, float]:
        return {f"p{q}": round(percentile(sorted(values), q), 3) for q in (50, 95, 99)}

    return {
        "config_name": name, "repeat": 0, "requests": count, "failed": failed, "duration_s": round(seconds, 4),
        "goodput_per_s": round((count - failed) / seconds, 4), "ttft_ms": spread(first), "e2e_ms": spread(whole),
        "concurrency": callers,
    }  # fmt: skip


def show(results: Sequence[Mapping[str, Any]]) -> str:
    """Differences of means over repeats, a line a load."""
    lines = ["AT ONCE   OURS/S  AIPERF/S    OFF   TTFT P50 OURS  AIPERF    OFF"]
    for callers in sorted({one["concurrency"] for one in results}):
        mine, theirs = (
            [one for one in results if one["concurrency"] == callers and one["config_name"] == name]
            for name in ("ours", "aiperf")
        )
        a, b = (sum(one["goodput_per_s"] for one in side) / len(side) for side in (mine, theirs))
        c, d = (sum(one["ttft_ms"]["p50"] for one in side) / len(side) for side in (mine, theirs))
        lines.append(
            f"{callers:7}  {a:7.2f}  {b:8.2f}  {100 * (a / b - 1):+4.1f}%"
            f"  {c:13.2f}  {d:6.2f}  {100 * (c / d - 1):+4.1f}%"
        )
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    p = argparse.ArgumentParser(prog="python -m appliance_bench.crosscheck", description=__doc__.partition("\n")[0])
    p.add_argument("--aiperf", type=Path, required=True, help="the aiperf command of its own virtual environment")
    p.add_argument("--version", default="unknown", help="of AIPerf, for the record")
    p.add_argument("--callers", type=lambda text: [int(one) for one in text.split(",")], default=[4, 16])
    p.add_argument("--count", type=int, default=300)
    p.add_argument("--repeats", type=int, default=2)
    p.add_argument("--results", type=Path)
    args = p.parse_args(argv)
    results = []
    with tempfile.TemporaryDirectory(prefix="cross-") as scratch:
        port, log = free_port(), Path(scratch) / "fake.log"
        command = [sys.executable, "-m", "appliance.hosts.fake", "--port", str(port)]
        command += [part for name, value in PACE.items() for part in (f"--{name}", str(value))]
        with process(command, None, log, environment()) as child:
            wait_ready(f"http://127.0.0.1:{port}/health", child, log, 20)
            for repeat in range(args.repeats):
                for callers in args.callers:
                    for one in (
                        ours(port, callers, args.count),
                        aiperf(args.aiperf, port, callers, args.count, models_dir() / "smollm2-135m-instruct"),
                    ):
                        results.append({**one, "repeat": repeat})
    record = {
        "schema": records.SCHEMA, "id": records.new_id("crosscheck", "aiperf"), "kind": "crosscheck",
        "when": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(),
        "fingerprint": {**fingerprint(), "versions": {"aiperf": args.version}}, "suite": "crosscheck-aiperf",
        "config": {"fake_engine": PACE, "count": args.count}, "slo": {}, "results": results,
        "notes": "the fake engine sends the first piece after 60 ms and 31 more 10 ms apart: 370 ms an answer",
    }  # fmt: skip
    path = records.write_run(record, args.results)
    print(show(results), f"\nwritten to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
