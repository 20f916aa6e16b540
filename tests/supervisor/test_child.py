"""What ``serve`` does about a child that ended."""

from __future__ import annotations

import pytest

from appliance.supervisor.child import Child
from appliance.supervisor.exits import Exit


@pytest.fixture
def child() -> Child:
    return Child("chat", ("engine", "run", "chat"), {}, None)


def test_it_waits_longer_each_time_and_then_gives_up(child: Child) -> None:
    seen = []
    for crash in range(5):
        child.after_exit(Exit.CRASHED, now=100.0 * crash)
        seen.append((child.phase, child.due_at - 100.0 * crash))
    assert seen == [("waiting", 1), ("waiting", 2), ("waiting", 4), ("waiting", 8), ("failed", 0)]
    assert child.settled


@pytest.mark.parametrize("code", [Exit.BAD_ARGUMENTS, Exit.MODEL_MISSING, Exit.TAKEN])
def test_what_a_restart_cannot_mend_is_left(child: Child, code: Exit) -> None:
    child.after_exit(code, now=0.0)
    assert (child.phase, child.tripped) == ("failed", False)


def test_what_was_asked_for_is_no_crash(child: Child) -> None:
    child.after_exit(Exit.STOPPED, now=0.0)
    assert child.phase == "stopped"
    for now in range(10):
        child.after_exit(Exit.RESTART, now=float(now))
        assert (child.phase, child.due_at, child.tripped) == ("due", now, False)


def test_an_open_breaker_is_closed_by_hand_and_the_count_begins_anew(child: Child) -> None:
    for crash in range(5):
        child.after_exit(Exit.HUNG, now=float(crash))
    assert (child.phase, child.tripped) == ("failed", True)
    child.close_breaker()
    assert (child.phase, child.tripped) == ("due", False)
    child.after_exit(Exit.HUNG, now=6.0)
    assert (child.phase, child.due_at) == ("waiting", 7.0)


def test_one_that_waits_for_its_start_can_be_kept_stopped(child: Child) -> None:
    child.after_exit(Exit.CRASHED, now=0.0)
    child.stay_stopped()
    assert child.phase == "stopped"


@pytest.mark.parametrize("code", [Exit.KILLED, Exit.OUT_OF_MEMORY, Exit.NEVER_READY, Exit.HUNG, -9, 1])
def test_everything_else_is_tried_again(child: Child, code: int) -> None:
    child.after_exit(code, now=0.0)
    assert (child.phase, child.due_at) == ("waiting", 1.0)


def test_before_it_runs_it_has_neither_pid_nor_exit_code(child: Child) -> None:
    assert (child.pid, child.exited(), child.settled) == (0, None, False)
