"""The gateway bench's result as one dated JSON file and one table.

What it is: machine, versions, revision, arguments, every repeat and the figures drawn from them.
What it refuses to be: a place for host names or paths; results are committed.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from appliance_bench.gateway_cases import CASES, GOALS, Repeats, errors, goal_figure, met
from appliance_bench.load_stats import spread

_PACKAGES = ("uvicorn", "uvloop", "httptools", "starlette", "msgspec", "sqlalchemy")


def machine() -> dict[str, Any]:
    """CPU, cores, memory, kernel and how busy the machine was when the bench began."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    memory_kb = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(memory_kb * 1024 / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average_before": os.getloadavg()[0],
    }


def disk_sync_ms(directory: Path, n: int = 200) -> dict[str, float]:
    """What one fdatasync of 4 kB costs where the bench's ledgers lie: two of them wait in every answer."""
    path, taken = directory / "sync-probe", []
    with path.open("wb", buffering=0) as probe:
        for _ in range(n):
            probe.write(bytes(4096))
            start = time.perf_counter_ns()
            os.fdatasync(probe.fileno())
            taken.append(time.perf_counter_ns() - start)
    path.unlink()
    found = spread(taken)
    return {"p50": found.p50, "p99": found.p99}


def _lines(path: str) -> list[str]:
    return Path(path).read_text(errors="replace").splitlines()


def versions() -> dict[str, str]:
    """Installed versions of what is on the hot path."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def revision(here: Path = Path(__file__).parent) -> dict[str, Any]:
    """Git revision of the checkout this package lies in (or ``here``), and whether it was clean."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return {"sha": git("rev-parse", "--short=12", "HEAD") or None, "dirty": bool(git("status", "--porcelain"))}


def write(directory: Path, name: str, result: Mapping[str, Any]) -> Path:
    """Write ``result`` as ``NAME-<UTC time>.json``; the file."""
    directory.mkdir(parents=True, exist_ok=True)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    path = directory / f"{name}-{stamp}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    return path


def figures(measured: Mapping[str, Repeats], targets: Sequence[str]) -> list[dict[str, Any]]:
    """Every goal for every target, with its target and whether it was met."""
    rows: list[dict[str, Any]] = []
    for goal in GOALS:
        if goal.case not in measured:
            continue
        for target in targets:
            value = goal_figure(goal, measured[goal.case], target)
            if value is not None:
                least = goal.limit_of(target)
                limit = None if least is None else f"{'≤' if goal.at_most else '≥'} {least:g}"
                row = {"figure": goal.title, "unit": goal.unit, "target": target, "limit": limit}
                rows.append({**row, "met": met(goal, value, target), **msgspec.structs.asdict(value)})
    return rows


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    median, low, high = (_number(row[k]) for k in ("median", "low", "high"))
    spread = f" ({low}…{high})" if row["repeats"] > 1 else ""
    missed = " NO" if row["met"] is False and row["target"] != "direct" else ""
    return f"{median}{row['unit']}{spread}{missed}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def show(console: Console, rows: Sequence[Mapping[str, Any]], targets: Sequence[str]) -> None:
    """The table: one line a figure, one column a target: median and (lowest…highest repeat)."""
    table = Table(title="gateway bench: median (lowest…highest repeat); NO: target missed")
    table.add_column("figure")
    table.add_column("target")
    for target in targets:
        table.add_column(target, justify="right")
    for title in dict.fromkeys(row["figure"] for row in rows):
        by_target = {row["target"]: row for row in rows if row["figure"] == title}
        first = by_target.get("gateway") or next(iter(by_target.values()))
        limits = dict.fromkeys(row["limit"] for row in (first, *by_target.values()) if row["limit"])
        table.add_row(title, "\n".join(limits), *(_cell(by_target.get(target)) for target in targets))
    console.print(table)


def show_errors(console: Console, measured: Mapping[str, Repeats]) -> None:
    """Errors beside the figures they belong to; silence when there were none."""
    titles = {case.name: case.title for case in CASES}
    for name, repeats in measured.items():
        for target, kinds in errors(repeats).items():
            console.print(f"errors in {titles[name]!r} through {target}: {kinds}", markup=False)
