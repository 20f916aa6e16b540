"""What Prometheus is told about the gateway: requests, TTFT, TPOT, queue, errors by route, engine state.

What it is: one ``Metrics`` an application, with a registry of its own, handed to whoever counts.
What it refuses to be: a place for tenant names or prompts; labels are routes, statuses and engine names.
What it costs: about 3 µs a request; children are looked up once and kept.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_TTFT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TPOT_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
_TOTAL_BUCKETS_S = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Counters of one gateway process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "appliance_requests", "Requests by route and HTTP status", ("route", "status"), registry=self.registry
        )
        self._errors = Counter(
            "appliance_errors", "Errors by route and code", ("route", "code"), registry=self.registry
        )
        self._total = Histogram(
            "appliance_request_seconds",
            "Arrival to last byte",
            ("route",),
            registry=self.registry,
            buckets=_TOTAL_BUCKETS_S,
        )
        self._ttft = Histogram(
            "appliance_ttft_seconds", "Time to first token", ("route",), registry=self.registry, buckets=_TTFT_BUCKETS_S
        )
        self._tpot = Histogram(
            "appliance_tpot_seconds", "Time per output token after the first", ("route",), registry=self.registry,
            buckets=_TPOT_BUCKETS_S,
        )  # fmt: skip
        self.in_flight = Gauge("appliance_in_flight", "Requests being worked on", registry=self.registry)
        self._queue = Gauge(
            "appliance_engine_in_flight", "Requests inside an engine", ("engine",), registry=self.registry
        )
        self._up = Gauge(
            "appliance_engine_ready", "1 where the engine takes requests", ("engine",), registry=self.registry
        )
        self._children: dict[tuple[str, str], Counter] = {}
        self._totals: dict[str, Histogram] = {}

    def request(self, route: str, status: int, total_s: float) -> None:
        """Count one finished HTTP request."""
        key = (route, str(status))
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._requests.labels(*key)
            self._totals[route] = self._total.labels(route)
        child.inc()
        self._totals[route].observe(total_s)

    def error(self, route: str, code: str) -> None:
        """Count one error by its code."""
        self._errors.labels(route, code).inc()

    def answer(self, route: str, ttft_s: float | None, total_s: float, completion_tokens: int) -> None:
        """Record the speed of a streamed answer; without a first-token time there is nothing to say."""
        if ttft_s is None:
            return
        self._ttft.labels(route).observe(ttft_s)
        if completion_tokens > 1:
            self._tpot.labels(route).observe((total_s - ttft_s) / (completion_tokens - 1))

    def engine(self, name: str, ready: bool, in_flight: int) -> None:
        """Set one engine's gauges, at scrape time."""
        self._up.labels(name).set(1 if ready else 0)
        self._queue.labels(name).set(in_flight)

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)
