"""``make bench``: everything for a moment, beside the last committed run of the same machine and versions.

What it is: the suite ``smoke`` by ``run``, then ``compare`` with the newest run of that suite whose fingerprint is the
same and that git knows; where there is none, it says so, and this run is the first.
What it refuses to be: evidence for a release. Three repeats of 20 s find what broke, not two percent.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance_bench import compare, records, run
from appliance_bench.fingerprint import differences
from appliance_bench.records import Run

SUITE = "smoke"


def last(directory: Path, now: Run) -> tuple[Run | None, list[str]]:
    """The newest other committed run of its suite and fingerprint; or, of the newest one, what differs."""
    nearest: list[str] = []
    for entry in reversed(records.index(directory)):
        if entry.suite != now.suite or entry.id == now.id or not _committed(directory / entry.file):
            continue
        one = records.read_run(directory / entry.file)
        found = differences(msgspec.to_builtins(one.fingerprint), msgspec.to_builtins(now.fingerprint))
        if not found:
            return one, []
        nearest = nearest or [f"{one.id}: {each}" for each in found]
    return None, nearest


def _committed(path: Path) -> bool:
    try:
        done = subprocess.run(
            ["git", "-C", str(path.parent), "ls-files", "--error-unmatch", path.name], capture_output=True, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


def beside(directory: Path, now: Run, percent: float) -> tuple[str, int]:
    """What to say, and 1 where something is worse by more than ``percent`` with its whole interval."""
    before, differs = last(directory, now)
    if before is None:
        said = [f"no committed run of this fingerprint: {now.id} is the first; commit it to compare with"]
        return "\n".join([*said, *(f"  differs from {one}" for one in differs)]), 0
    found = compare.compare(before, now)
    bad = compare.worse_than(found, percent)
    lines = [compare.show(found), *(f"worse: {one.config} at {one.load}, {one.metric}: {one.why}" for one in bad)]
    return "\n".join(lines), 1 if bad else 0


def main(argv: Sequence[str]) -> int:
    """The exit status: 0; 1 where something is worse; 130 after Ctrl-C."""
    p = run.parser()
    p.prog, p.description = "appliance bench smoke", (__doc__ or "").partition("\n")[0]
    p.add_argument("--fail-below", type=float, default=5.0, metavar="PERCENT")
    args = p.parse_args([SUITE, *argv])
    out = args.out or records.results_dir()
    rest = [one for n, one in enumerate(argv) if not one.startswith("--fail-below") and argv[n - 1] != "--fail-below"]
    before = {entry.id for entry in records.index(out)}
    status = run.main([SUITE, *rest])
    made = [entry for entry in records.index(out) if entry.id not in before]
    if status or not made:
        return status
    said, bad = beside(out, records.read_run(out / made[-1].file), args.fail_below)
    print(said)
    return bad
