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
    assert {code for code in Exit if not should_restart(code)} == {
        Exit.STOPPED,
        Exit.BAD_ARGUMENTS,
        Exit.MODEL_MISSING,
        Exit.TAKEN,
    }
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


@pytest.mark.parametrize(
    "line",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        # vLLM 0.32 on a machine without a GPU, with a KV cache that does not fit
        "RuntimeError: Worker failed with error 'Available memory on node 0 (10.3/12.96 GiB) on kv cache allocation is"
        " less than requested memory for kv (65192.58 GiB). Decrease --kv-cache-memory-bytes'",
        "(EngineCore pid=7) ValueError: No available memory for the cache blocks.",
        "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.",
    ],
)
def test_out_of_memory_is_told_from_a_crash(tmp_path: Path, line: str) -> None:
    log = tmp_path / "log"
    log.write_text(f"INFO starting\n{line}\nRuntimeError: Engine core initialization failed.\n")
    assert classify(1 << 8, False, log)[0] is Exit.OUT_OF_MEMORY
    assert "memory" in last_error(log) or "MemoryError" in last_error(log)


def test_a_warning_about_memory_is_no_diagnosis(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("WARNING 11-25 Not enough: CUDA out of memory was seen yesterday\nValueError: something else\n")
    assert classify(1 << 8, False, log)[0] is Exit.CRASHED


def test_a_kill_while_the_kernel_killed_for_memory_is_out_of_memory() -> None:
    assert classify(9, True, None, oom_kills=1)[0] is Exit.OUT_OF_MEMORY
    assert classify(15, True, None, oom_kills=1)[0] is Exit.KILLED
