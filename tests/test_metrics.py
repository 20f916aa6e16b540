"""What a scrape is told, against the library's own counters."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from appliance.metrics import Metrics


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """By name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def scraped(metrics: Metrics) -> dict[Any, float]:
    return samples(generate_latest(metrics.registry).decode())


def test_requests_are_told_as_the_library_would() -> None:
    metrics, registry = Metrics(), CollectorRegistry()
    theirs = Histogram(
        "appliance_request_seconds", "Arrival to last byte", ("route",), registry=registry,
        buckets=(0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
    )  # fmt: skip
    for route, status, seconds in (
        ("/v1/chat/completions", 200, 0.004),
        ("/v1/chat/completions", 200, 0.005),  # a bound belongs to its own bucket
        ("/v1/chat/completions", 503, 0.0051),
        ("/metrics", 200, 1000.0),
    ):
        metrics.request(route, status, seconds)
        theirs.labels(route).observe(seconds)
    found = scraped(metrics)

    for name, value in samples(generate_latest(registry).decode()).items():
        assert found[name] == value, name
    requests = {name[1]: value for name, value in found.items() if name[0] == "appliance_requests_total"}
    assert requests == {
        (("route", "/v1/chat/completions"), ("status", "200")): 2.0,
        (("route", "/v1/chat/completions"), ("status", "503")): 1.0,
        (("route", "/metrics"), ("status", "200")): 1.0,
    }


def test_what_is_being_worked_on() -> None:
    metrics = Metrics()
    metrics.in_flight += 2
    assert scraped(metrics)[("appliance_in_flight", ())] == 2.0
    metrics.in_flight -= 1
    assert scraped(metrics)[("appliance_in_flight", ())] == 1.0
