"""Caps and buckets: what fits, what has to wait and for how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.ledger.limits import Headroom, Meter, caps_of, limit_headers, limited
from appliance.types import Admission, Key, Limit, Request, Tenant, Turn

TENANT = Tenant("acme", "Acme", "salt", cap_nusd=500)


def key(**limits: int | None) -> Key:
    return Key("key_1", "web", "client", TENANT, **limits)  # type: ignore[arg-type]


def meter(now_ms: int = 0, **limits: int | None) -> Meter:
    its = key(**limits)
    return Meter(its, float(its.requests_per_minute or 0), float(its.tokens_per_minute or 0), now_ms, 0)


def test_where_gateways_share_a_clock_it_alone_fills() -> None:
    bucket = Meter(key(requests_per_minute=60), 0.0, 0.0, 1_000, 0, clock_ms=2_000)
    bucket.fill(3_600_000)
    bucket.fill(-3_600_000)
    assert (bucket.requests, bucket.filled_ms) == (1.0, 2_000)


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(0, 200))
def test_a_cap_is_never_passed(wanted: list[int], cap: int) -> None:
    headroom = Headroom("key", "key_1", cap, 0, 0)
    for nusd in wanted:
        if headroom.fits(nusd):
            headroom.reserved_nusd += nusd
    assert headroom.reserved_nusd <= cap


def test_a_cap_that_is_reached_takes_nothing_more() -> None:
    assert Headroom("key", "key_1", 100, 60, 39).fits(1)
    assert not Headroom("key", "key_1", 100, 60, 39).fits(2)
    assert not Headroom("key", "key_1", 100, 60, 40).fits(0)
    assert not Headroom("key", "key_1", 0, 0, 0).fits(0)


def test_the_refusal_says_whose_cap_and_how_to_move_it() -> None:
    error = Headroom("tenant", "acme", 12_500_000_000, 0, 0).refusal()
    assert (error.status, error.code, error.headers["x-should-retry"]) == (402, "budget_exceeded", "false")
    assert "this tenant's cap of 12.50 USD" in error.message
    assert "appliance tenants set acme" in error.message


def test_a_bucket_holds_a_minute_and_refills_evenly() -> None:
    bucket = meter(requests_per_minute=60)
    for _ in range(60):
        assert bucket.refusal(0) is None
        bucket.take(0)
    refused = bucket.refusal(0)
    assert refused is not None
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["x-ratelimit-reset-requests"] == "1m0s"
    bucket.fill(1_000)
    assert bucket.refusal(0) is None
    bucket.take(0)
    assert bucket.refusal(0) is not None


def test_a_clock_that_jumps_neither_blocks_nor_floods() -> None:
    bucket = meter(now_ms=1_000_000, requests_per_minute=60)
    bucket.take(0)
    bucket.fill(400_000)  # back by ten minutes
    assert bucket.requests == 59.0
    bucket.fill(401_000)
    assert bucket.requests == 60.0
    bucket.fill(90_000_000_000)  # ahead by years: one full bucket, not more
    assert bucket.requests == 60.0


def test_tokens_are_reserved_and_corrected() -> None:
    bucket = meter(tokens_per_minute=1000)
    bucket.take(600)
    refused = bucket.refusal(600)
    assert refused is not None
    assert refused.headers["retry-after"] == "12"  # 200 missing at 1000 a minute
    bucket.give_back(600, 100)
    assert bucket.tokens == 900
    bucket.give_back(0, 50)  # more than was reserved
    assert bucket.tokens == 850


def test_a_request_larger_than_the_bucket_runs_alone() -> None:
    bucket = meter(tokens_per_minute=100)
    assert bucket.refusal(5000) is None
    bucket.take(5000)
    assert bucket.refusal(1) is not None
    bucket.give_back(5000, 40)
    assert bucket.tokens == 60


def test_concurrency_counts_what_runs() -> None:
    bucket = meter(max_concurrent=2)
    bucket.running = 1
    assert bucket.refusal(0) is None
    bucket.take(0)
    refused = bucket.refusal(0)
    assert refused is not None and refused.code == "concurrency_limited"


def test_which_caps_and_limits_a_key_falls_under() -> None:
    request = Request("req_1", key(cap_nusd=9), "completions", "m", False, 1)
    assert caps_of(Admission(request, Turn(), "conv_1")) == [("key", "key_1", 9), ("tenant", "acme", 500)]
    assert not limited(key())
    assert limited(key(max_concurrent=0)) and limited(key(tokens_per_minute=1)) and limited(key(requests_per_minute=1))


@pytest.mark.parametrize(
    ("reset_s", "text"), [(0.0, "0ms"), (0.25, "250ms"), (1.5, "1.5s"), (61.04, "1m1s"), (360.0, "6m0s")]
)
def test_durations_as_openai_writes_them(reset_s: float, text: str) -> None:
    headers = limit_headers("tokens", Limit(10, 3, reset_s))
    assert headers == {
        "x-ratelimit-limit-tokens": "10",
        "x-ratelimit-remaining-tokens": "3",
        "x-ratelimit-reset-tokens": text,
    }


def test_no_moment_counts_twice_however_entries_are_ordered() -> None:
    bucket = meter(now_ms=100_000, requests_per_minute=60)
    for _ in range(60):
        bucket.take(0)
    for ahead_ms in (0, 5_000) * 50:  # two gateways in turn, one clock five seconds ahead
        bucket.fill(100_000 + ahead_ms)
    assert bucket.requests == 5.0


def test_a_limit_that_is_set_later_begins_full() -> None:
    """And is not in debt for what was used without one."""
    bucket = meter(tokens_per_minute=1000)
    for _ in range(500):
        bucket.fill(0)
        bucket.take(10)
    limited_now = Meter(key(requests_per_minute=60), bucket.requests, bucket.tokens, bucket.filled_ms, 0)
    limited_now.fill(1)
    assert limited_now.requests == 60.0
