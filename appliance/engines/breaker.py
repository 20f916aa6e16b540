"""Whether an engine is asked again yet: one breaker an engine, told how each attempt on it ended.

What it is: closed while attempts succeed; open after a few failures in a row, for twice as long each time; then one
attempt at a time is let through until one succeeds. A Retry-After is obeyed at once, however few failures there were.
What it refuses to be: a clock or a retrier. Times (monotonic seconds) are handed in, and what is tried instead is the
plan's business.
"""

from __future__ import annotations

from appliance.errors import ApplianceError, DeadlineExceeded, EngineFailed, EngineUnavailable, RateLimited

FAILURES = 3
FIRST_S = 2.0
LONGEST_S = 60.0
LONGEST_ASKED_S = 3600.0


class Breaker:
    """Of one engine. ``failures`` in a row open it."""

    def __init__(self, failures: int = FAILURES, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> None:
        self._limit = failures
        self._first_s = first_s
        self._longest_s = longest_s
        self._failed = 0
        self._opened = 0
        self._until_s = 0.0
        self._trial_until_s: float | None = None

    def allows(self, now_s: float) -> bool:
        """Whether an attempt may be made now."""
        if now_s < self._until_s:
            return False
        return self._trial_until_s is None or now_s >= self._trial_until_s

    def waits_s(self, now_s: float) -> float:
        """How long until the next attempt may be made; what a caller is told in Retry-After."""
        return max(0.0, self._until_s - now_s, (self._trial_until_s or 0.0) - now_s)

    def began(self, now_s: float) -> None:
        """An attempt is made. After a pause it is the only one until it has ended (or a minute is over)."""
        if self._opened:
            self._trial_until_s = now_s + self._longest_s

    def succeeded(self) -> None:
        """It gave a whole answer."""
        self._failed = self._opened = 0
        self._until_s, self._trial_until_s = 0.0, None

    def gave_up(self) -> None:
        """The caller left, or could mend its request: that says nothing of the engine."""
        self._trial_until_s = None

    def failed(self, now_s: float, retry_after_s: float | None = None) -> None:
        """It did not. ``retry_after_s``: when it asks to be asked again."""
        self._trial_until_s = None
        self._failed += 1
        if retry_after_s is not None:
            self._until_s = max(self._until_s, now_s + min(max(retry_after_s, 0.0), LONGEST_ASKED_S))
            self._opened = max(self._opened, 1)
        if self._failed >= self._limit or self._opened:
            pause_s = min(self._first_s * 2.0**self._opened, self._longest_s)
            self._opened = min(self._opened + 1, 30)
            if retry_after_s is None:
                self._until_s = max(self._until_s, now_s + pause_s)

    def spare(self, now_s: float, for_s: float) -> None:
        """Not to be asked for so long, by what another process knows."""
        self._until_s = max(self._until_s, now_s + for_s)

    def heard(self, error: ApplianceError | None, now_s: float) -> None:
        """How an attempt ended: None is a whole answer. Errors that the caller can mend are no failures."""
        if error is None:
            self.succeeded()
        elif isinstance(error, EngineFailed | EngineUnavailable | DeadlineExceeded | RateLimited):
            self.failed(now_s, retry_after_of(error))
        else:
            self.gave_up()


def retry_after_of(error: ApplianceError) -> float | None:
    """The seconds an engine's error asks to wait; None where it does not say, or in no way that is understood."""
    try:
        return float(error.headers["retry-after"])
    except (KeyError, ValueError):
        return None
