"""What an engine's end is called, and whether to run it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.supervisor.exits import Exit, classify, last_error, should_restart


@pytest.mark.parametrize(
    ("wait_status", "was_ready", "code", "says"),
    [
        (9, True, Exit.KILLED, "was killed by SIGKILL"),
        (11, False, Exit.KILLED, "was killed by SIGSEGV"),
        (1 << 8, True, Exit.CRASHED, "exited with code 1"),
        (0, True, Exit.CRASHED, "exited with code 0"),
        (2 << 8, False, Exit.BAD_ARGUMENTS, "refused its arguments"),
        (2 << 8, True, Exit.CRASHED, "exited with code 2"),
    ],
)
def test_classify(wait_status: int, was_ready: bool, code: Exit, says: str) -> None:
    assert classify(wait_status, was_ready) == (code, says)


def test_only_what_a_second_run_can_mend_is_run_again() -> None:
    assert {code for code in Exit if should_restart(code)} == {Exit.CRASHED, Exit.KILLED, Exit.NEVER_READY}
    assert should_restart(-9)  # the supervisor itself was killed
    assert should_restart(1)


def test_last_error_reads_vllms_prefix_and_skips_the_noise_after_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "ValueError: an earlier one\n"
        "(EngineCore pid=7) RuntimeError: no room for the KV cache\n"
        "nanobind: leaked 3 instances!\n"
    )
    assert last_error(log) == "RuntimeError: no room for the KV cache"


def test_last_error_of_argparse_and_of_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_error(log) == ""
    log.write_text("usage: x\nx.py: error: unrecognized arguments: --no\n")
    assert last_error(log) == "x.py: error: unrecognized arguments: --no"


def test_a_host_that_finds_no_model_is_not_started_again() -> None:
    assert classify(66 << 8, was_ready=False)[0] is Exit.MODEL_MISSING
    assert classify(66 << 8, was_ready=True)[0] is Exit.CRASHED
