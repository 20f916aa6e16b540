"""How an engine's run ended, as exit codes of ``appliance engine run``.

What it is: one table. systemd (``RestartPreventExitStatus=64 66 69``) and ``appliance serve`` read the
same codes, so both restart the same things.
What it refuses to be: a diagnosis. What the engine itself wrote is in its log; ``last_error`` quotes it.
"""

from __future__ import annotations

import os
import re
import signal
from enum import IntEnum
from pathlib import Path

from appliance.logs import plain


class Exit(IntEnum):
    """Numbers follow sysexits.h where it has a word for the thing."""

    STOPPED = 0  # somebody asked for it
    BAD_ARGUMENTS = 64  # the configuration, or the engine refused its arguments: the same again would fail again
    MODEL_MISSING = 66  # its files are not in the store
    TAKEN = 69  # the socket or the engine's lock belongs to a living process
    CRASHED = 70  # it exited by itself
    KILLED = 71  # a signal that nobody here sent: a person, or a segmentation fault
    OUT_OF_MEMORY = 72  # it said so, or the kernel's OOM killer took it: the next run is one memory profile down
    NEVER_READY = 73  # no real answer within ready_within_s
    HUNG = 74  # it stopped making progress under requests and was killed
    RESTART = 75  # somebody asked for a restart

    @property
    def word(self) -> str:
        """For machines and tables: ``out_of_memory``."""
        return self.name.lower()


_FINAL = frozenset({Exit.STOPPED, Exit.BAD_ARGUMENTS, Exit.MODEL_MISSING, Exit.TAKEN})
_ARGPARSE_REFUSED = 2
_ERROR_LINE = re.compile(rb"^(?:\([^)]*\) )?((?:\w+\.)*\w*(?:Error|Exception): .+|.*: error: .+)$")
# What torch, CUDA and vLLM 0.32 write. A cache that is too small for one request of full length is here as well:
# the profile below asks for a shorter context.
_OUT_OF_MEMORY = re.compile(
    rb"OutOfMemoryError|CUDA out of memory|can't allocate memory|Cannot allocate memory|MemoryError|std::bad_alloc"
    rb"|CUBLAS_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation|No available memory for the cache blocks"
    rb"|larger than the available KV cache memory|is less than desired GPU memory utilization"
    rb"|is less than requested memory for kv"
)
_TAIL_BYTES = 64 * 1024


def should_restart(code: int) -> bool:
    """Whether running it again can help. Unknown codes (a supervisor that was killed) count as crashes."""
    return code not in _FINAL


def classify(wait_status: int, was_ready: bool, log: Path | None = None, oom_kills: int = 0) -> tuple[Exit, str]:
    """An engine's own end nobody asked for: its class and half a sentence.

    ``wait_status`` is ``waitpid``'s; ``oom_kills`` how many processes the kernel's OOM killer took meanwhile.
    """
    if os.WIFSIGNALED(wait_status):
        number = os.WTERMSIG(wait_status)
        if number == signal.SIGKILL and oom_kills:
            return Exit.OUT_OF_MEMORY, "was killed by the kernel because memory ran out"
        if said_out_of_memory(log):
            return Exit.OUT_OF_MEMORY, f"ran out of memory and died of {signal.Signals(number).name}"
        return Exit.KILLED, f"was killed by {signal.Signals(number).name}"
    code = os.waitstatus_to_exitcode(wait_status)
    if code == _ARGPARSE_REFUSED and not was_ready:
        return Exit.BAD_ARGUMENTS, "refused its arguments"
    if code == Exit.MODEL_MISSING and not was_ready:  # our own hosts say so
        return Exit.MODEL_MISSING, "found no model where it should be"
    if oom_kills or said_out_of_memory(log):
        # a worker that the kernel took makes the main process exit with a code of its own
        return Exit.OUT_OF_MEMORY, f"ran out of memory (exit code {code})"
    return Exit.CRASHED, f"exited with code {code}"


def _tail(log: Path) -> list[bytes]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            return [plain(line) for line in file.read().splitlines()]
    except OSError:
        return []


def said_out_of_memory(log: Path | None) -> bool:
    """Whether an error line at the end of ``log`` speaks of memory."""
    if log is None:
        return False
    return any(_OUT_OF_MEMORY.search(line) and b"WARNING" not in line for line in _tail(log))


def last_error(log: Path) -> str:
    """The last line of ``log`` that reads like an error, or nothing. Of several, the one about memory is the cause."""
    found = [match[1] for line in _tail(log) if (match := _ERROR_LINE.match(line))]
    memory = [line for line in found if _OUT_OF_MEMORY.search(line)]
    return (memory or found)[-1].decode("utf-8", "replace")[:300] if found else ""


def oom_kills() -> int:
    """How many processes the kernel has killed for memory since it booted; 0 where it does not say."""
    try:
        text = Path("/proc/vmstat").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)
