"""The plan: least busy first, stand-ins behind it, and a reason where there is none."""

from __future__ import annotations

from appliance.policy import Candidate, plan
from appliance.types import Reason


def test_the_least_busy_engine_leads_and_the_others_stand_in() -> None:
    result = plan("m", [Candidate("b", True, 2), Candidate("a", True, 5), Candidate("c", False, 0)])
    assert [(a.engine, a.ordinal, a.reason) for a in result.attempts] == [
        ("b", 0, Reason.ROUTINE),
        ("a", 1, Reason.ENGINE_UNHEALTHY),
    ]


def test_equal_load_is_decided_by_name_so_that_the_plan_is_a_function() -> None:
    assert plan("m", [Candidate("b", True, 0), Candidate("a", True, 0)]).attempts[0].engine == "a"


def test_no_engine_is_not_installed_and_no_ready_engine_is_unhealthy() -> None:
    assert plan("m", []).refusal is Reason.NOT_INSTALLED
    assert plan("m", [Candidate("a", False, 0)]).refusal is Reason.ENGINE_UNHEALTHY
