"""``appliance bench compare A B``: how many times B's figures are A's, each with its interval.

What it is: the ratio of the means over repeats, with a 95 % bootstrap interval. Repeats of one run are compared pair by
pair (they were interleaved), those of two runs each by itself. A bootstrap of a handful of repeats is too narrow, so
its interval is stretched by t·√(n/(n−1))/1.96 (Hesterberg 2015, "What teachers should know about the bootstrap"). Where
the interval holds 1 the verdict is "inconclusive", whatever the ratio looks like.
What it refuses to be: a comparison of different things. Other suites are refused, other SLOs take the goodput out,
another load is another row, another fingerprint is said.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from appliance_bench.fingerprint import differences
from appliance_bench.records import RecordError, Result, Run, read_run

DRAWS = 4000
LEAST_REPEATS = 2
_SEED = 20261126
_Z = 1.959964
# two-sided 95 %, by degrees of freedom; beyond the last it is the normal's within 2 %
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
      2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)  # fmt: skip
_LOWER_IS_BETTER = ("wer", "cer", "loss", "error", "perplexity")

Floats = npt.NDArray[np.float64]
Group = tuple[str, float | None, int | None, bool]


class Ratio(Struct, frozen=True):
    """B ÷ A; ``low`` and ``high`` are None where too little was measured for an interval."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Line(Struct, frozen=True):
    """One metric of one configuration at one load.

    ``verdict``: better, worse or inconclusive; ``why`` says it in words.
    """

    config: str
    load: str
    metric: str
    a: float
    b: float
    repeats: tuple[int, int]
    ratio: Ratio
    verdict: str
    why: str


class Comparison(Struct, frozen=True):
    """Everything that ``compare`` says."""

    a: str
    b: str
    suite: str
    warnings: tuple[str, ...]
    lines: tuple[Line, ...]


def ratio(a: Sequence[float], b: Sequence[float], paired: bool = False, draws: int = DRAWS) -> Ratio:
    """Mean of ``b`` ÷ mean of ``a`` with its 95 % interval; ``paired`` means that the nth of both belong together."""
    left, right = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not len(left) or not len(right) or left.mean() <= 0:
        return Ratio(None)
    value = float(right.mean() / left.mean())
    if min(len(left), len(right)) < LEAST_REPEATS or value <= 0:
        return Ratio(value)
    paired = paired and len(left) == len(right)
    drawn = _drawn(left, right, paired, draws)
    wide = _stretch(left, right, paired)
    middle = math.log(value)
    low, high = (middle + wide * (float(end) - middle) for end in np.quantile(drawn, (0.025, 0.975)))
    return Ratio(value, _exp(low), _exp(high))


def compare(a: Run, b: Run, config_a: str = "", config_b: str = "", draws: int = DRAWS) -> Comparison:
    """Every metric both have. Raises RecordError where they cannot be compared."""
    if a.suite != b.suite:
        raise RecordError(
            f"{a.id} is of the suite {a.suite!r} and {b.id} of {b.suite!r}: their ratio would mean nothing;"
            " compare runs of one suite"
        )
    warnings = _warnings(a, b)
    one, other = _groups(a, config_a), _groups(b, config_b)
    lines: list[Line] = []
    for left, right in _pairs(one, other, bool(config_a or config_b), (a.id, b.id)):
        if left[1:] != right[1:]:
            warnings.append(f"loads differ: {_load(left)} against {_load(right)}")
        paired = a.id == b.id
        mine, yours = _by_metric(one[left]), _by_metric(other[right])
        for metric, values in mine.items():
            if metric not in yours or (metric == "goodput_per_s" and a.slo != b.slo):
                continue
            name = left[0] if left[0] == right[0] else f"{left[0]} → {right[0]}"
            lines.append(_line(name, _load(left), metric, values, yours[metric], paired, draws))
    if not lines:
        raise RecordError(f"{a.id} and {b.id} have no metric in common")
    return Comparison(a.id, b.id, a.suite, tuple(warnings), tuple(lines))


def worse_than(found: Comparison, percent: float) -> list[Line]:
    """Lines whose whole interval is worse by more than ``percent``."""
    bound = percent / 100
    result = []
    for line in found.lines:
        low, high = line.ratio.low, line.ratio.high
        if low is None or high is None:
            continue
        if low > 1 + bound if lower_is_better(line.metric) else high < 1 - bound:
            result.append(line)
    return result


def lower_is_better(metric: str) -> bool:
    """Times, error rates and word errors; everything else is better when it is more."""
    last = metric.rpartition(".")[2].lower()
    return "_ms" in metric or metric == "failed_share" or any(word in last for word in _LOWER_IS_BETTER)


def student(freedom: float) -> float:
    """Student's t, two-sided 95 %."""
    return _T[min(max(int(freedom), 1), len(_T)) - 1]


def _drawn(left: Floats, right: Floats, paired: bool, draws: int) -> Floats:
    """Log ratios of means of repeats that were drawn again."""
    rng = np.random.default_rng(_SEED)
    picks = rng.integers(0, len(left), (draws, len(left)))
    others = picks if paired else rng.integers(0, len(right), (draws, len(right)))
    below, above = left[picks].mean(axis=1), right[others].mean(axis=1)
    good = (below > 0) & (above > 0)
    drawn: Floats = np.log(above[good] / below[good])
    return drawn


def _stretch(left: Floats, right: Floats, paired: bool) -> float:
    if paired:
        n, freedom = float(len(left)), len(left) - 1.0
    else:
        parts = [float((one.std(ddof=1) / one.mean()) ** 2 / len(one)) for one in (left, right)]
        total = sum(parts)
        # Welch; where nothing varied the smaller side says it
        least = min(len(left), len(right))
        freedom = total**2 / sum(p**2 / (len(one) - 1) for p, one in zip(parts, (left, right), strict=True)) \
            if total > 0 else least - 1.0  # fmt: skip
        n = float(least)
    return student(freedom) / _Z * math.sqrt(n / (n - 1))


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def _warnings(a: Run, b: Run) -> list[str]:
    found = []
    changed = differences(msgspec.to_builtins(a.fingerprint), msgspec.to_builtins(b.fingerprint))
    if changed:
        found.append(f"the fingerprints differ, so more than the code may: {'; '.join(changed)}")
    if a.slo != b.slo:
        found.append(f"the SLOs differ ({_slo(a.slo)} against {_slo(b.slo)}): goodput is left out")
    found += [
        f"{run.id} was made from changed sources ({run.commit})" for run in (a, b) if run.commit.endswith("dirty")
    ]
    return list(dict.fromkeys(found))


def _slo(slo: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in sorted(slo.items())) or "none"


def _groups(run: Run, config: str) -> dict[Group, list[Result]]:
    found: dict[Group, list[Result]] = defaultdict(list)
    for result in run.results:
        if not config or result.config_name == config:
            key = (result.config_name, result.offered_per_s, result.concurrency, result.held_out)
            found[key].append(result)
    if not found:
        names = sorted({result.config_name for result in run.results})
        raise RecordError(
            f"{run.id} has no configuration {config!r}; it has {', '.join(names)}"
            if names
            else f"{run.id} has no results"
        )
    return {key: sorted(results, key=lambda one: one.repeat) for key, results in found.items()}


def _pairs(
    one: Mapping[Group, Any], other: Mapping[Group, Any], named: bool, ids: tuple[str, str]
) -> list[tuple[Group, Group]]:
    """Groups of the same name and load; of the same load where configurations were named; two single ones always."""
    if not named:
        same = [(key, key) for key in one if key in other]
        if same:
            return same
    by_load = {key[1:]: key for key in other}
    if named or (len({key[0] for key in one}) == 1 and len({key[0] for key in other}) == 1):
        same = [(key, by_load[key[1:]]) for key in one if key[1:] in by_load]
        if same:
            return same
        if len(one) == len(other) == 1:
            return [(next(iter(one)), next(iter(other)))]
    mine, yours = (", ".join(sorted({f"{key[0]} at {_load(key)}" for key in keys})) for keys in (one, other))
    raise RecordError(f"nothing in common: {ids[0]} has {mine}; {ids[1]} has {yours}; name one of each as RUN:CONFIG")


def _load(key: Group) -> str:
    if key[1] is not None:
        text = f"{key[1]:g}/s"
    elif key[2] is not None:
        text = f"{key[2]} at once"
    else:
        text = "its own load"
    return text + (", held out" if key[3] else "")


def _by_metric(results: Iterable[Result]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for result in results:
        found["goodput_per_s"].append(result.goodput_per_s)
        found["failed_share"].append(result.failed / result.requests if result.requests else 0.0)
        for name in ("ttft_ms", "tpot_ms", "e2e_ms"):
            spread = getattr(result, name)
            for percentile in ("p50", "p95", "p99"):
                value = getattr(spread, percentile) if spread is not None else None
                if value is not None:
                    found[f"{name}.{percentile}"].append(value)
        for prefix, values in (("rates", result.rates), ("quality", result.quality)):
            for name, value in values.items():
                found[f"{prefix}.{name}"].append(value)
    return dict(found)


def _line(
    config: str, load: str, metric: str, a: Sequence[float], b: Sequence[float], paired: bool, draws: int
) -> Line:
    found = ratio(a, b, paired, draws)
    verdict, why = _verdict(metric, found, (len(a), len(b)), (sum(a), sum(b)))
    return Line(config, load, metric, float(np.mean(a)), float(np.mean(b)), (len(a), len(b)), found, verdict, why)


def _verdict(metric: str, found: Ratio, repeats: tuple[int, int], sums: tuple[float, float]) -> tuple[str, str]:
    if found.value is None:
        return ("inconclusive", "none on either side") if sums == (0, 0) else ("inconclusive", "A has none: no ratio")
    if found.low is None or found.high is None:
        if min(repeats) < LEAST_REPEATS:
            return "inconclusive", f"{min(repeats)} repeat says nothing of the next; measure at least 3"
        return "inconclusive", "B has none: no ratio"
    if found.low <= 1 <= found.high:
        if found.low == found.high == 1:
            return "inconclusive", "the same in every repeat"
        return "inconclusive", f"anything from {_percent(found.low)} to {_percent(found.high)}"
    better = (found.value < 1) == lower_is_better(metric)
    return ("better" if better else "worse"), f"{_percent(found.low)} to {_percent(found.high)}"


def _percent(value: float) -> str:
    return f"{100 * (value - 1):+.1f} %" if value < 10 else f"×{value:.3g}"


def show(found: Comparison) -> str:
    """For people."""
    lines = [f"A {found.a}", f"B {found.b}", *(f"warning: {one}" for one in found.warnings), ""]
    heads = ("CONFIG", "LOAD", "METRIC", "A", "B", "B/A", "95 %", "REPEATS", "VERDICT")
    rows = [
        (
            line.config, line.load, line.metric, f"{line.a:.4g}", f"{line.b:.4g}",
            "-" if line.ratio.value is None else f"{line.ratio.value:.3f}",
            "-" if line.ratio.low is None else f"{line.ratio.low:.3f} to {line.ratio.high:.3f}",
            f"{line.repeats[0]}/{line.repeats[1]}", f"{line.verdict}: {line.why}",
        )
        for line in found.lines
    ]  # fmt: skip
    widths = [max(len(row[n]) for row in (heads, *rows)) for n in range(len(heads))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
              for row in (heads, *rows)]  # fmt: skip
    return "\n".join(lines)


def _named(text: str, out: Path | None) -> tuple[Run, str]:
    """RUN or RUN:CONFIG."""
    where, _, config = text.partition(":")
    return read_run(where, out), config


def main(argv: Sequence[str]) -> int:
    """Entry point: 0, or 1 where something is worse than --fail-below allows."""
    parser = argparse.ArgumentParser(prog="appliance bench compare", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "a", metavar="A", help="a run: its file, its id, or the beginning of its id; RUN:CONFIG for one"
    )
    parser.add_argument("b", metavar="B", help="the same; configurations of one run are compared repeat by repeat")
    parser.add_argument("--results", type=Path, help="where runs are (default: benchmarks/results)")
    parser.add_argument("--metric", action="append", help="only metrics that begin so; may be repeated")
    parser.add_argument("--fail-below", type=float, metavar="PERCENT",
                        help="exit code 1 where a metric's whole interval is worse by more than this")  # fmt: skip
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    (a, config_a), (b, config_b) = _named(args.a, args.results), _named(args.b, args.results)
    found = compare(a, b, config_a, config_b)
    if args.metric:
        kept = tuple(line for line in found.lines if line.metric.startswith(tuple(args.metric)))
        if not kept:
            names = ", ".join(sorted({line.metric for line in found.lines}))
            raise RecordError(f"there is no metric {' or '.join(args.metric)}; there are {names}")
        found = msgspec.structs.replace(found, lines=kept)
    print(msgspec.json.format(msgspec.json.encode(found), indent=1).decode() if args.json else show(found))
    bad = worse_than(found, args.fail_below) if args.fail_below is not None else []
    for line in bad:
        print(f"worse than -{args.fail_below:g} %: {line.config} at {line.load}, {line.metric}: {line.why}",
              file=sys.stderr)  # fmt: skip
    return 1 if bad else 0
