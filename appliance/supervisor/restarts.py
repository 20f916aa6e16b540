"""When to start a crashed process again: back-off 1 s·2ⁿ up to 60 s, and a breaker.

What it is: arithmetic on crash times that are handed in. Five crashes within ten minutes open the breaker:
what fails that often fails for a reason (gpustack #5850 is an endless loop of out-of-memory restarts).
What it refuses to be: a clock or a process.
"""

from __future__ import annotations

from collections import deque

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
BREAKER_CRASHES = 5
BREAKER_WINDOW_S = 600.0


class Restarts:
    """The crashes of one process. Times are seconds of any clock that only goes forward."""

    def __init__(self) -> None:
        self._crashes: deque[float] = deque()

    def crashed(self, now: float) -> float | None:
        """Note a crash: seconds to wait before the next start, or None when the breaker has opened."""
        self._crashes.append(now)
        while self._crashes[0] <= now - BREAKER_WINDOW_S:
            self._crashes.popleft()
        if len(self._crashes) >= BREAKER_CRASHES:
            return None
        return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** (len(self._crashes) - 1)))
