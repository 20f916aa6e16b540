"""What tests of several rooms share: waiting for something another process does, without sleeping blindly."""

from __future__ import annotations

import time
from collections.abc import Callable

_INTERVAL_S = 0.01


def wait_until(condition: Callable[[], object], within_s: float, what: str) -> None:
    """Poll ``condition`` until it is true. Fails after ``within_s`` seconds, saying ``what`` never happened."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        time.sleep(_INTERVAL_S)


def alive(pid: int) -> bool:
    """Whether ``pid`` still holds anything. A zombie without threads does not, only its parent's attention."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return fields[0] not in (b"Z", b"X") or int(fields[17]) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False
