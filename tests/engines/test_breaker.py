"""When an engine is asked again."""

from __future__ import annotations

import pytest

from appliance.engines.breaker import Breaker, retry_after_of
from appliance.errors import (
    ApplianceError,
    BadRequest,
    DeadlineExceeded,
    EngineFailed,
    EngineUnavailable,
    RateLimited,
)


def opened(at_s: float = 0.0) -> Breaker:
    breaker = Breaker(failures=3, first_s=2.0, longest_s=10.0)
    for _ in range(3):
        assert breaker.allows(at_s)
        breaker.began(at_s)
        breaker.failed(at_s)
    return breaker


def test_a_few_failures_in_a_row_open_it_and_a_success_between_does_not_let_them() -> None:
    breaker = Breaker(failures=3)
    for _ in range(5):
        breaker.failed(0.0)
        breaker.failed(0.0)
        breaker.succeeded()
    assert breaker.allows(0.0)
    assert not opened().allows(1.9)
    assert opened().allows(2.0)


def test_after_the_pause_one_at_a_time_until_one_succeeds() -> None:
    breaker = opened()
    assert breaker.allows(2.0)
    breaker.began(2.0)
    assert not breaker.allows(2.5)
    breaker.succeeded()
    assert breaker.allows(2.5)
    breaker.began(2.5)
    assert breaker.allows(2.5)


def test_each_failed_trial_doubles_the_pause_up_to_a_bound() -> None:
    breaker, at, pauses = opened(), 2.0, []
    for _ in range(5):
        breaker.began(at)
        breaker.failed(at)
        pauses.append(breaker.waits_s(at))
        at += pauses[-1]
    assert pauses == [4.0, 8.0, 10.0, 10.0, 10.0]


def test_retry_after_is_obeyed_at_the_first_failure_and_never_shortens_a_pause() -> None:
    breaker = Breaker()
    breaker.failed(100.0, retry_after_s=17.0)
    assert (breaker.allows(116.9), breaker.allows(117.0), breaker.waits_s(100.0)) == (False, True, 17.0)
    breaker.failed(117.0, retry_after_s=30.0)
    breaker.failed(118.0, retry_after_s=1.0)
    assert breaker.waits_s(118.0) == 29.0


@pytest.mark.parametrize(("asked", "waits"), [(-5.0, 0.0), (1e12, 3600.0)])
def test_a_retry_after_is_held_to_an_hour(asked: float, waits: float) -> None:
    breaker = Breaker()
    breaker.failed(0.0, retry_after_s=asked)
    assert breaker.waits_s(0.0) == waits


def test_a_trial_whose_caller_left_makes_room_for_the_next() -> None:
    breaker = opened()
    breaker.began(2.0)
    breaker.gave_up()
    assert breaker.allows(2.0)


def test_a_trial_that_is_never_told_of_blocks_for_a_bounded_time() -> None:
    breaker = opened()
    breaker.began(2.0)
    assert not breaker.allows(11.9)
    assert breaker.allows(12.0)


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (EngineFailed("x"), True),
        (EngineUnavailable("x"), True),
        (DeadlineExceeded("x"), True),
        (RateLimited("x"), True),
        (BadRequest("x"), False),
        (ApplianceError("x"), False),
    ],
)
def test_what_the_caller_can_mend_is_no_failure(error: ApplianceError, counts: bool) -> None:
    breaker = Breaker(failures=1)
    breaker.heard(error, 0.0)
    assert breaker.allows(0.0) is not counts


def test_it_hears_retry_after_and_success() -> None:
    breaker = Breaker()
    breaker.heard(EngineUnavailable("x", headers={"retry-after": "9"}), 0.0)
    assert breaker.waits_s(0.0) == 9.0
    breaker.heard(None, 1.0)
    assert breaker.allows(1.0)


@pytest.mark.parametrize(("value", "seconds"), [("7", 7.0), ("1.5", 1.5), ("Wed, 21 Oct 2026 07:28:00 GMT", None)])
def test_retry_after_in_seconds_only(value: str, seconds: float | None) -> None:
    assert retry_after_of(EngineUnavailable("x", headers={"retry-after": value})) == seconds
    assert retry_after_of(EngineUnavailable("x")) is None


def test_it_is_spared_as_another_process_says_and_never_shorter_than_it_knows() -> None:
    breaker = Breaker()
    breaker.spare(10.0, 5.0)
    assert (breaker.allows(14.9), breaker.waits_s(12.0), breaker.allows(15.0)) == (False, 3.0, True)
    breaker.spare(10.0, 0.0)
    assert not breaker.allows(14.9)
