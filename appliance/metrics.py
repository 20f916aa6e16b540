"""What Prometheus is told about the gateway: requests, TTFT, TPOT, queue, errors by route, engine state.

What it is: one ``Metrics`` an application, with a registry of its own, handed to whoever counts.
What it refuses to be: a place for tenant names or prompts; labels are routes, statuses and engine names.
What it costs: under 1 µs a request, which is counted here and told at a scrape. The library's own counters take a
lock each and cost ten times that.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_TTFT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TPOT_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
_TOTAL_BUCKETS_S = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class _Times:
    """A histogram that one thread fills."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_TOTAL_BUCKETS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(_TOTAL_BUCKETS_S, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus has them: each holds what is in the ones before it."""
        names = (*(str(float(bound)) for bound in _TOTAL_BUCKETS_S), "+Inf")
        return list(zip(names, accumulate(self.counts), strict=True))


class _Requests(Collector):
    """What every request is counted in."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "appliance_requests", "Requests by route and HTTP status", labels=("route", "status")
        )
        for (route, status), count in self._metrics.requests.items():
            requests.add_metric((route, str(status)), count)
        yield requests
        total = HistogramMetricFamily("appliance_request_seconds", "Arrival to last byte", labels=("route",))
        for route, times in self._metrics.times.items():
            total.add_metric((route,), times.buckets(), times.sum_s)
        yield total
        yield GaugeMetricFamily("appliance_in_flight", "Requests being worked on", self._metrics.in_flight)


class Metrics:
    """Counters of one gateway process; one thread counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.in_flight = 0
        self.requests: dict[tuple[str, int], int] = {}
        self.times: dict[str, _Times] = {}
        self.registry.register(_Requests(self))
        self._errors = Counter(
            "appliance_errors", "Errors by route and code", ("route", "code"), registry=self.registry
        )
        self._ttft = Histogram(
            "appliance_ttft_seconds", "Time to first token", ("route",), registry=self.registry, buckets=_TTFT_BUCKETS_S
        )
        self._tpot = Histogram(
            "appliance_tpot_seconds", "Time per output token after the first", ("route",), registry=self.registry,
            buckets=_TPOT_BUCKETS_S,
        )  # fmt: skip
        self._queue = Gauge(
            "appliance_engine_in_flight", "Requests inside an engine", ("engine",), registry=self.registry
        )
        self._up = Gauge(
            "appliance_engine_ready", "1 where the engine takes requests", ("engine",), registry=self.registry
        )

    def request(self, route: str, status: int, total_s: float) -> None:
        """Count one finished HTTP request."""
        key = (route, status)
        count = self.requests.get(key)
        if count is None:
            count = 0
            self.times.setdefault(route, _Times())
        self.requests[key] = count + 1
        self.times[route].add(total_s)

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
