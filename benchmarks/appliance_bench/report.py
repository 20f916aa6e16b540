"""How long a month's report takes, by how large the month is.

What it is: ``appliance demo`` fills a home of its own with N conversations (five attempts each), ``appliance report``
reports on it, each as a process of its own as an operator would start it; wall time, processor time and the highest
memory of it and its workers together, for three sizes. The second of two reports counts: the first warms the disk's
cache, which is also timed.
What it refuses to be: a look inside. It imports nothing of the appliance, and the ledger it reports on is simulated.
What it costs: some four minutes and 4 GB of disk, nearly all of it filling the largest month.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

SIZES = (10_000, 100_000, 1_000_000)
LIMIT_S = 10.0
LIMIT_BYTES = 1_000_000_000
MONTH = "2026-10"
_SAMPLE_S = 0.05
_PAGE = os.sysconf("SC_PAGE_SIZE")


def run(arguments: list[str], home: Path, environ: dict[str, str]) -> dict[str, float]:
    """One command of the appliance: seconds of wall and processor, and bytes of it and its children at their most."""
    env = {**os.environ, "APPLIANCE_HOME": str(home), **environ}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "appliance", *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    most, stop = [0, 0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, most, stop))
    watcher.start()
    out, err = process.communicate()
    wall_s = time.monotonic() - began
    stop.set()
    watcher.join()
    if process.returncode != 0:
        raise SystemExit(f"appliance {' '.join(arguments)} failed: {err.decode()[-500:]}{out.decode()[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2), "rss_bytes": most[0], "pss_bytes": most[1]}


def _watch(pid: int, most: list[int], stop: threading.Event) -> None:
    """The sum over the process and its children: resident, and with shared pages counted once."""
    while not stop.wait(_SAMPLE_S):
        rss = pss = 0
        for one in [pid, *_children(pid)]:
            try:
                rss += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * _PAGE
                rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
                pss += next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
            except (OSError, StopIteration, IndexError):  # it has just ended
                continue
        most[0], most[1] = max(most[0], rss), max(most[1], pss)


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def measure(size: int, directory: Path, reports: int) -> dict[str, Any]:
    """Fill, and report several times."""
    home = directory / f"demo-{size}"
    filled = run(
        ["demo", "--month", MONTH, "--months", "1", "--conversations", str(size), "--home", str(home)], home, {}
    )
    times = [
        run(["report", "--home", str(home), "--month", MONTH, "--out", str(directory / "out")], home, {})
        for _ in range(reports)
    ]
    counts = json.loads((directory / "out" / f"simulated-report-{MONTH}.json").read_text())
    best = min(times, key=lambda one: one["wall_s"])
    result = {
        "conversations": counts["counts"]["conversations"],
        "requests": counts["requests"],
        "ledger_bytes": (home / "ledger.db").stat().st_size,
        "fill": filled,
        "reports": times,
        "best": best,
        "us_per_request": round(best["cpu_s"] * 1e6 / counts["requests"], 2),
    }
    shutil.rmtree(home)
    return result


def main() -> None:
    """``python -m appliance_bench.report``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="conversations")
    parser.add_argument("--reports", type=int, default=3, help="reports a size")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="appliance-report-") as scratch:
        sizes = []
        for size in asked.sizes:
            found = measure(size, Path(scratch), asked.reports)
            sizes.append(found)
            best = found["best"]
            print(
                f"{size:>9,} conversations, {found['requests']:>9,} requests: {best['wall_s']:6.2f} s"
                f" ({best['cpu_s']:.2f} s of processor), {best['rss_bytes'] / 1e6:,.0f} MB resident"
                f" ({best['pss_bytes'] / 1e6:,.0f} MB with shared pages once)",
                flush=True,
            )
    largest = sizes[-1]["best"]
    result = {
        "bench": "report",
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": {"cores": os.cpu_count(), "load_before": os.getloadavg(), "python": platform.python_version()},
        "limits": {"wall_s": LIMIT_S, "rss_bytes": LIMIT_BYTES},
        "passed": largest["wall_s"] <= LIMIT_S and largest["rss_bytes"] <= LIMIT_BYTES,
        "sizes": sizes,
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / f"report-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
