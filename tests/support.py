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
