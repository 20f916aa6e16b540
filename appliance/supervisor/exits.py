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


class Exit(IntEnum):
    """Numbers follow sysexits.h where it has a word for the thing."""

    STOPPED = 0  # somebody asked for it
    BAD_ARGUMENTS = 64  # the configuration, or the engine refused its arguments: the same again would fail again
    MODEL_MISSING = 66  # its files are not in the store
    TAKEN = 69  # the socket or the engine's lock belongs to a living process
    CRASHED = 70  # it exited by itself
    KILLED = 71  # a signal that nobody here sent: the kernel's OOM killer, or a person
    NEVER_READY = 73  # no real answer within ready_within_s


_FINAL = frozenset({Exit.STOPPED, Exit.BAD_ARGUMENTS, Exit.MODEL_MISSING, Exit.TAKEN})
_ARGPARSE_REFUSED = 2
_ERROR_LINE = re.compile(rb"^(?:\([^)]*\) )?((?:\w+\.)*\w*(?:Error|Exception): .+|.*: error: .+)$")
_TAIL_BYTES = 64 * 1024


def should_restart(code: int) -> bool:
    """Whether running it again can help. Unknown codes (a supervisor that was killed) count as crashes."""
    return code not in _FINAL


def classify(wait_status: int, was_ready: bool) -> tuple[Exit, str]:
    """An engine's own end nobody asked for, from ``waitpid``'s status: its class and half a sentence."""
    if os.WIFSIGNALED(wait_status):
        number = os.WTERMSIG(wait_status)
        return Exit.KILLED, f"was killed by {signal.Signals(number).name}"
    code = os.waitstatus_to_exitcode(wait_status)
    if code == _ARGPARSE_REFUSED and not was_ready:
        return Exit.BAD_ARGUMENTS, "refused its arguments"
    if code == Exit.MODEL_MISSING and not was_ready:  # our own hosts say so
        return Exit.MODEL_MISSING, "found no model where it should be"
    return Exit.CRASHED, f"exited with code {code}"


def last_error(log: Path) -> str:
    """The last line of ``log`` that reads like an error, or nothing."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        if match := _ERROR_LINE.match(line):
            return match[1].decode("utf-8", "replace")[:300]
    return ""
