"""What the gateway bench measures, and what each figure has to reach.

What it is: a table of cases (arguments of the load generator) and pure functions from measurements
to figures. "Added" is through the gateway minus direct, repeat by repeat, so that what the machine
does to both falls out.
What it refuses to be: a judge. A missed target is printed as missed; the bench still ends with 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from appliance_bench.gateway_rig import Measured
from appliance_bench.load_stats import Figure, figure


class Case(msgspec.Struct, frozen=True):
    """One load shape. ``seconds`` of measurement after ``warmup``."""

    name: str
    title: str
    arguments: tuple[str, ...]


CHUNKS, CHUNK_MS, STREAMS = 64, 20, 200

CASES = (
    Case("rate16", "16 connections, small requests", ("--connections", "16")),
    Case("latency1", "1 connection, small requests", ("--connections", "1")),
    Case(
        "ttft1",
        "1 connection, streams of 8 chunks",
        ("--connections", "1", "--stream", "--message", "[[set:chunks=8]][[set:ttft_ms=2]]", "--expect-events", "10"),
    ),
    Case(
        "streams200",
        f"{STREAMS} streams of {CHUNKS} chunks, {CHUNK_MS} ms apart",
        ("--connections", str(STREAMS), "--stream", "--expect-events", str(CHUNKS + 2), "--warmup", "2", "--seconds",
         "8", "--message", f"[[set:chunks={CHUNKS}]][[set:chunk_ms={CHUNK_MS}]]"),
    ),
    Case(
        "paced",
        "500 streams, an event each 20 ms: 25,000 events/s offered, each in a write of its own",
        ("--connections", "500", "--stream", "--warmup", "2", "--message", "[[set:chunks=256]][[set:chunk_ms=20]]"),
    ),
    Case(
        "flood",
        "8 streams of 4,000 chunks as fast as they go",
        ("--connections", "8", "--stream", "--message", "[[set:chunks=4000]]", "--expect-events", "4002"),
    ),
)  # fmt: skip

# what a site with a hosted model has: every turn's language and personal data are looked at, and every request planned
POLICY = """
when_refused = "local"
value_class = "standard"
[hosted]
enabled = true
[personal]
mode = "redact"
formats = ["OD[0-9]{18}"]
[value_classes.standard]
unresolved_usd = "0.50"
[intents.refund]
residency = "hosted_redacted"
ttft_ms = 800
[languages.ta]
scores = { local = 0.61, pivot = 0.74 }
"""

LITELLM_CASES = frozenset({"rate16", "latency1"})

Repeats = Sequence[Mapping[str, Measured]]


class Goal(msgspec.Struct, frozen=True):
    """A figure of one case. ``limit`` None has no target; ``at_most`` says which way is better."""

    case: str
    title: str
    unit: str
    value: Callable[[Measured, Measured], float]
    limit: float | None = None
    at_most: bool = True
    postgres_limit: float | None = None  # where the ledger on PostgreSQL has a target of its own

    def limit_of(self, target: str) -> float | None:
        """What ``target`` has to reach."""
        return self.postgres_limit if "postgres" in target and self.postgres_limit is not None else self.limit


def _added(read: Callable[[Measured], float]) -> Callable[[Measured, Measured], float]:
    return lambda through, direct: read(through) - read(direct)


GOALS = (
    Goal(
        "rate16",
        "requests/s at 16 connections",
        "/s",
        lambda t, _: t.load.requests_per_s,
        3000,
        at_most=False,
        postgres_limit=1500,
    ),
    Goal("rate16", "gateway CPU a request at 16 connections", "µs", lambda t, _: t.target_cpu_us_per_request),
    Goal("latency1", "added p50 at 1 connection", "ms", _added(lambda m: m.load.latency_ms.p50), 0.6),
    Goal("latency1", "added p99 at 1 connection", "ms", _added(lambda m: m.load.latency_ms.p99), 2.0),
    Goal("ttft1", "added TTFT p50 of a stream", "ms", _added(lambda m: m.load.ttft_ms.p50), 1.0),
    Goal("streams200", "200 streams: added inter-chunk p99", "ms", _added(lambda m: m.load.gap_ms.p99), 10.0),
    Goal("streams200", "200 streams: added TTFT p99", "ms", _added(lambda m: m.load.ttft_ms.p99)),
    Goal("paced", "events/s, each in its own write (25,000 offered)", "/s", lambda t, _: t.load.events_per_s),
    Goal("flood", "events/s at full speed", "/s", lambda t, _: t.load.events_per_s, 20000, at_most=False),
    Goal("flood", "events a read at full speed", "", lambda t, _: t.load.events / max(t.load.reads, 1)),
)


def goal_figure(goal: Goal, repeats: Repeats, target: str) -> Figure | None:
    """``goal`` for ``target`` over repeats of its case; None where the target did not run it."""
    values = [goal.value(repeat[target], repeat["direct"]) for repeat in repeats if target in repeat]
    return figure(values) if values else None


def met(goal: Goal, value: Figure, target: str = "gateway") -> bool | None:
    """Whether the median reaches the target's limit; None without one."""
    limit = goal.limit_of(target)
    if limit is None:
        return None
    return value.median <= limit if goal.at_most else value.median >= limit


def errors(repeats: Repeats) -> dict[str, dict[str, int]]:
    """What went wrong, by target; an empty mapping is a clean case."""
    found: dict[str, dict[str, int]] = {}
    for repeat in repeats:
        for name, measured in repeat.items():
            for kind, n in measured.load.errors.items():
                found.setdefault(name, {})[kind] = found.get(name, {}).get(kind, 0) + n
    return found
