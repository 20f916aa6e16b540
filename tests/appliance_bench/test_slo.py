"""Targets parsed, requests judged, and how many requests a claim needs."""

from __future__ import annotations

import pytest

from appliance_bench import slo
from appliance_bench.records import RecordError
from appliance_bench.sample import grows, mean_interval, ratio_interval, summarise
from appliance_bench.slo import Took

TARGETS = slo.parse("e2e_p95_ms=100")


def test_parses_and_writes_the_same() -> None:
    assert slo.as_dict(slo.parse("ttft_p99_ms=500, tpot_p99_ms=50")) == {"ttft_p99_ms": 500.0, "tpot_p99_ms": 50.0}
    assert slo.from_dict({"e2e_p95_ms": 100.0}) == TARGETS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tfft_p99_ms=5", "did you mean ttft_p99_ms"),
        ("speed=5", "is no SLO"),
        ("e2e_p95_ms=fast", "give milliseconds"),
        ("e2e_p95_ms=-1", "give milliseconds"),
        ("e2e_p95_ms=nan", "give milliseconds"),
        ("", "no SLO is given"),
    ],
)
def test_what_is_no_target_is_refused(text: str, said: str) -> None:
    with pytest.raises(RecordError, match=said):
        slo.parse(text)


@pytest.mark.parametrize(
    ("percentile", "violations", "requests"), [(95, 0, 59), (99, 0, 299), (99, 1, 473), (99, 5, 1049)]
)
def test_requests_that_support_a_claim(percentile: int, violations: int, requests: int) -> None:
    # the figures of the binomial test at 95 %, as MLPerf and the reference have them
    assert slo.needed(percentile, violations) == requests
    assert not slo.supported(requests - 1, violations, percentile)


def test_failed_and_late_requests_are_no_goodput() -> None:
    took = [Took(0.0, 50.0), Took(0.1, 150.0), Took(0.2, 10.0, failed="http_500"), Took(0.3, 90.0)]
    sample = summarise(took, TARGETS, offered_per_s=10, duration_s=2.0, spent_s=2.0)
    assert (sample.within, sample.failed, sample.goodput_per_s) == (2, 1, 1.0)
    assert sample.violations == {"e2e_p95_ms": 2} and sample.errors == {"http_500": 1}
    assert not sample.meets(TARGETS)


def test_a_queue_that_grows_is_seen_before_the_percentile() -> None:
    steady = [Took(n / 10, 40.0 + n % 3) for n in range(60)]
    growing = [Took(n / 10, 20.0 + n * 1.2) for n in range(60)]
    assert not grows(steady, TARGETS)
    assert grows(growing, TARGETS)
    assert max(t.e2e_ms for t in growing) < TARGETS[0].limit_ms


def test_p99_is_not_said_of_few_requests() -> None:
    few = summarise([Took(n, 1.0) for n in range(100)], TARGETS, offered_per_s=1, duration_s=1, spent_s=1)
    many = summarise([Took(n, 1.0) for n in range(300)], TARGETS, offered_per_s=1, duration_s=1, spent_s=1)
    assert set(few.percentiles["e2e"]) == {"p50", "p95"}
    assert set(many.percentiles["e2e"]) == {"p50", "p95", "p99"}


def test_intervals() -> None:
    found = ratio_interval([11.0, 22.0, 33.0], [10.0, 20.0, 30.0])  # drift, and exactly 1.1 in every round
    assert found.value == pytest.approx(1.1) and found.low == pytest.approx(1.1) and found.high == pytest.approx(1.1)
    mean = mean_interval([9.0, 10.0, 11.0])
    assert mean.value == 10.0 and mean.high - mean.value == pytest.approx(4.303 / 3**0.5, rel=1e-3)
    with pytest.raises(ValueError, match="same rounds"):
        ratio_interval([1.0], [1.0, 2.0])
