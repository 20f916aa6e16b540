"""Back-off and breaker, on times that are handed in."""

from __future__ import annotations

from appliance.supervisor import restarts
from appliance.supervisor.restarts import Restarts


def test_delays_double_and_the_fifth_crash_in_ten_minutes_opens_the_breaker() -> None:
    policy = Restarts()
    assert [policy.crashed(now) for now in (0, 10, 20, 30, 40)] == [1, 2, 4, 8, None]


def test_crashes_older_than_the_window_are_forgotten() -> None:
    policy = Restarts()
    assert [policy.crashed(now) for now in (0, 1, 2, 3)] == [1, 2, 4, 8]
    assert policy.crashed(603) == 1
    assert policy.crashed(604) == 2


def test_a_crash_a_few_minutes_apart_never_opens_it() -> None:
    policy = Restarts()
    assert None not in [policy.crashed(n * 151.0) for n in range(50)]


def test_no_delay_is_longer_than_a_minute() -> None:
    policy = Restarts()
    delays = [policy.crashed(n * 0.001) for n in range(restarts.BREAKER_CRASHES - 1)]
    assert all(delay is not None and delay <= restarts.LONGEST_DELAY_S for delay in delays)
