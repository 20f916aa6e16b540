"""One hour's busy time, from what several gateways saw."""

from __future__ import annotations

import pytest

from appliance.ledger.hours import together

MINUTE = 60 * 1_000_000_000
HOUR = 60 * MINUTE


def test_one_gateway() -> None:
    assert together([(20 * MINUTE, HOUR)]) == 20 * MINUTE


def test_a_restart_adds_up() -> None:
    assert together([(20 * MINUTE, 30 * MINUTE), (15 * MINUTE, 30 * MINUTE)]) == 35 * MINUTE


def test_side_by_side_they_overlap() -> None:
    assert together([(30 * MINUTE, HOUR), (30 * MINUTE, HOUR)]) == pytest.approx(45 * MINUTE)
    assert together([(0, HOUR), (30 * MINUTE, HOUR)]) == 30 * MINUTE


def test_never_more_than_the_hour_or_less_than_the_busiest() -> None:
    assert together([(HOUR, HOUR), (HOUR, HOUR)]) == HOUR
    assert together([(59 * MINUTE, HOUR), (1, HOUR)]) >= 59 * MINUTE
