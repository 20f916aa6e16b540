"""Latency targets: what a request has to keep to, what a run has to, and how many requests a claim needs.

What it is: ``e2e_p95_ms=500`` parsed, requests judged by it, and the binomial arithmetic of "95 % of requests are below
it, and we are 95 % sure": 59 requests without a violation for p95, 299 for p99, 473 with one, 1,049 with five.
What it refuses to be: a guess. A percentile that the requests do not support is not claimed.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from appliance_bench.records import RecordError

METRICS = ("ttft", "tpot", "e2e")
PERCENTILES = (50, 90, 95, 99)
KNOWN = tuple(f"{metric}_p{percentile}_ms" for metric in METRICS for percentile in PERCENTILES)
CONFIDENCE = 0.95


class Target(Struct, frozen=True):
    """``percentile`` % of requests stay within ``limit_ms`` of ``metric``."""

    metric: str
    percentile: int
    limit_ms: float

    @property
    def name(self) -> str:
        """As on the command line."""
        return f"{self.metric}_p{self.percentile}_ms"


class Took(Struct, frozen=True):
    """One request, milliseconds from when it was due. None where there is no such figure; ``failed`` says why."""

    due_s: float
    e2e_ms: float
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    lag_ms: float = 0.0
    failed: str = ""

    def value(self, metric: str) -> float | None:
        """Its figure."""
        return {"e2e": self.e2e_ms, "ttft": self.ttft_ms, "tpot": self.tpot_ms}[metric]


def parse(text: str) -> tuple[Target, ...]:
    """``ttft_p99_ms=500,tpot_p99_ms=50``. Raises RecordError that names the nearest known one."""
    targets = []
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, _, value = part.partition("=")
        if name not in KNOWN:
            near = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(KNOWN)}"
            raise RecordError(f"{name!r} is no SLO; {hint}")
        try:
            limit = float(value)
        except ValueError:
            limit = math.nan
        if not 0 < limit < math.inf:
            raise RecordError(f"{name} is {value!r}; give milliseconds, for example {name}=500")
        metric, percentile = re.fullmatch(r"(\w+)_p(\d+)_ms", name).groups()  # type: ignore[union-attr]
        targets.append(Target(metric, int(percentile), limit))
    if not targets:
        raise RecordError("no SLO is given; write for example --slo e2e_p95_ms=500")
    return tuple(targets)


def as_dict(targets: Sequence[Target]) -> dict[str, float]:
    """As records keep it."""
    return {target.name: target.limit_ms for target in targets}


def from_dict(found: Mapping[str, float]) -> tuple[Target, ...]:
    """The reverse of ``as_dict``."""
    return parse(",".join(f"{name}={limit}" for name, limit in found.items()))


def within(took: Took, targets: Sequence[Target]) -> bool:
    """Whether one request counts for goodput."""
    return not took.failed and not any(violates(took, target) for target in targets)


def violates(took: Took, target: Target) -> bool:
    """Whether a request is past ``target``; a failed one is."""
    if took.failed:
        return True
    value = took.value(target.metric)
    return value is not None and value > target.limit_ms


def allowed(requests: int, percentile: int) -> int:
    """Violations among ``requests`` with which the measured percentile still is within its limit (nearest rank)."""
    return requests - math.ceil(requests * percentile / 100)


def needed(percentile: int, violations: int = 0, confidence: float = CONFIDENCE) -> int:
    """Requests that support a claim with so many ``violations`` among them."""
    low, high = violations + 1, violations + 2
    while not supported(high, violations, percentile, confidence):
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        if supported(middle, violations, percentile, confidence):
            high = middle
        else:
            low = middle + 1
    return low


def supported(requests: int, violations: int, percentile: int, confidence: float = CONFIDENCE) -> bool:
    """Whether "``percentile`` % are within" can be claimed: so few violations are improbable if it were not so."""
    miss = 1 - percentile / 100
    if violations >= requests:
        return False
    # P(X <= violations) for X ~ Binomial(requests, miss), in logarithms: requests may be thousands
    total = sum(
        math.exp(
            math.lgamma(requests + 1)
            - math.lgamma(k + 1)
            - math.lgamma(requests - k + 1)
            + k * math.log(miss)
            + (requests - k) * math.log1p(-miss)
        )
        for k in range(violations + 1)
    )
    return total <= 1 - confidence
