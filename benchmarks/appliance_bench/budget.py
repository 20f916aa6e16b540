"""What can be measured in the time there is, and what may be claimed of it: checked before anything is.

What it is: pure. From how fast the shipped default is with many callers and how long an engine takes to start, the
number of configurations, requests and repeats that fit. A machine without a GPU claims p95, compares at most 8
configurations unless it is told otherwise, and takes at most 300 requests a repeat.
What it refuses to be: optimistic. Where not even both defaults and the repeats fit, it says how long would do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from appliance_bench.records import RecordError
from appliance_bench.search import Budget
from appliance_bench.slo import Target, needed

_PROBES, _ROUND_PROBES = 6.0, 2.3
# requests are offered below what many callers at once reach
_LOAD = 0.6
_SLOW_CONFIGURATIONS, _CONFIGURATIONS = 8, 24
_SIZES_SLOW, _SIZES = (300, 200, 120, 60), (1000, 600, 300)
_FINALISTS, _REPEATS = 2, 5


def seconds(text: str) -> float:
    """``60m``, ``90s``, ``1h``. Raises RecordError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h)?", text.strip())
    if match is None or not float(match[1]):
        raise RecordError(f"{text!r} is no time; write for example 60m")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, None: 60}[match[2]]


def plan(
    limit_s: float, per_s: float, start_s: float, targets: Sequence[Target], *, gpu: bool, configurations: int = 0,
    keeps: bool = False,
) -> tuple[Budget, list[str]]:  # fmt: skip
    """What fits into ``limit_s``, and sentences about it. ``keeps``: finalists stay up beside each other.

    Raises RecordError where too little does, or a percentile is asked for that so few requests do not support.
    """
    slow = not gpu
    if slow and (far := [t for t in targets if t.percentile > 95]):
        raise RecordError(
            f"{far[0].name} cannot be claimed on a machine without a GPU: p99 needs {needed(99)} requests a repeat"
            f" without one violation, and {needed(99, 5)} with five; ask for {far[0].name.replace('p99', 'p95')}"
        )
    most = configurations or (_SLOW_CONFIGURATIONS if slow else _CONFIGURATIONS)
    rate = per_s * _LOAD
    turns = _REPEATS * (_FINALISTS + 2)
    start_turn_s = 0.0 if keeps else start_s

    def rounds_s(size: int) -> float:
        return turns * (_ROUND_PROBES * size / rate + start_turn_s)

    sizes = _SIZES_SLOW if slow else _SIZES
    size = next((n for n in sizes if rounds_s(n) <= 0.4 * limit_s), 0)
    first = min(100, size) if slow else 100
    each_s = start_s + _PROBES * first / rate if first else 0.0
    fit = min(most, int(0.55 * limit_s / each_s)) if each_s else 0
    if not size or fit < 3:
        least = sizes[-1]
        enough_s = max(rounds_s(least) / 0.4, 3 * (start_s + _PROBES * min(100, least) / rate) / 0.55)
        raise RecordError(
            f"{limit_s / 60:.3g} min are too few for this engine at about {per_s:.3g} requests/s: both defaults, one"
            f" more configuration and {_REPEATS} repeats of {least} requests take about {enough_s / 60:.0f} min;"
            f" write --budget {enough_s / 60 + 1:.0f}m"
        )
    budget = Budget(
        limit_s, configurations=fit, rungs=(first, min(size, 3 * first)), requests=size, finalists=_FINALISTS,
        repeats=_REPEATS,
    )  # fmt: skip
    said = [
        f"about {per_s:.3g} requests/s with many callers, {start_s:.1f} s to start",
        f"at most {fit} configurations, {first} requests a probe; then {_FINALISTS} finalists and both defaults in"
        f" {_REPEATS} rounds of {size} requests: up to {(fit * each_s + rounds_s(size)) / 60:.0f} of"
        f" {limit_s / 60:.3g} min",
        f"claims: p95 at most, of {_REPEATS * size} requests"
        if slow
        else f"claims: p99, of {_REPEATS * size} requests",
    ]
    return budget, said
