"""The gate: the strictest rule wins, and every refusal has its reason."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from appliance.policy.gate import Asked, must_redact, refusal, strictest
from appliance.types import Reason, Residency

OPEN = Asked("hosted_allowed", ("asia-south1",), personal_data="allow")
LEVELS: tuple[Residency, ...] = ("local_only", "hosted_redacted", "hosted_allowed")


@pytest.mark.parametrize("levels", list(itertools.product(LEVELS, repeat=3)))
def test_nobody_can_loosen_what_another_has_tightened(levels: tuple[Residency, Residency, Residency]) -> None:
    found = strictest(levels[0], None, *levels[1:])
    assert LEVELS.index(found) == min(map(LEVELS.index, levels))


def test_what_nothing_speaks_against_may_leave() -> None:
    assert refusal(OPEN, "asia-south1", 10) is None
    assert not must_redact(OPEN)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"residency": "local_only"}, Reason.RESIDENCY),
        ({"regions": ("europe-west1",)}, Reason.REGION),
        ({"regions": ()}, Reason.REGION),
        ({"personal": True, "personal_data": "block"}, Reason.PERSONAL_DATA),
        ({"media": True, "residency": "hosted_redacted"}, Reason.PERSONAL_DATA),
        ({"media": True, "personal": True, "personal_data": "redact"}, Reason.PERSONAL_DATA),
        ({"budget_nusd": 9}, Reason.BUDGET),
        ({"cap_nusd": 9}, Reason.COST_CAP),
    ],
)
def test_each_rule_alone_keeps_it_here(change: dict[str, object], reason: Reason) -> None:
    assert refusal(replace(OPEN, **change), "asia-south1", 10) is reason


def test_a_request_is_local_only_unless_somebody_says_otherwise() -> None:
    assert refusal(Asked(), "asia-south1", 0) is Reason.RESIDENCY


def test_money_that_is_exactly_there_is_enough() -> None:
    assert refusal(replace(OPEN, budget_nusd=10, cap_nusd=10), "asia-south1", 10) is None


def test_personal_data_that_is_redacted_may_leave_where_nothing_else_forbids_it() -> None:
    found = replace(OPEN, personal=True, personal_data="redact")
    assert refusal(found, "asia-south1", 10) is None
    assert must_redact(found)
