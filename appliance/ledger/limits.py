"""Whether a request fits: caps as headroom, rate limits as token buckets. Pure; the journal brings and stores the rows.

What it is: ``Headroom`` for one budget row and ``Meter`` for one key, both taken from in the order of the queue inside
one transaction, and the errors that say no.
What it refuses to be: authoritative. A value here lives as long as the transaction that locked its row.
Why buckets and not windows: a window of a minute lets twice the limit pass around its edge, and needs a row a minute.
"""

from __future__ import annotations

import math

from appliance.errors import BudgetExceeded, RateLimited
from appliance.types import SHADOW, Admission, Key, Limit

NEVER_RETRY = {"x-should-retry": "false"}

# Entries of one group are a little out of order; more is a clock that was set back.
CLOCKS_APART_MS = 60_000
# What a bucket holds that has no limit: full, whatever limit it is given one day.
FULL = 1e12


class Headroom:
    """What is left of one month's cap, in nano-USD. ``scope`` is tenant, key or shadow (of a tenant)."""

    def __init__(self, scope: str, scope_id: str, cap_nusd: int, spent_nusd: int, reserved_nusd: int) -> None:
        self.scope = scope
        self.scope_id = scope_id
        self.cap_nusd = cap_nusd
        self.spent_nusd = spent_nusd
        self.reserved_nusd = reserved_nusd

    def fits(self, nusd: int) -> bool:
        """Whether ``nusd`` more may be reserved. A cap that is reached takes nothing more, not even what is free."""
        used = self.spent_nusd + self.reserved_nusd
        return used < self.cap_nusd and used + nusd <= self.cap_nusd

    def refusal(self) -> BudgetExceeded:
        """Says which cap, and who moves it."""
        usd = f"{self.cap_nusd / 1e9:.2f}"
        if self.scope == SHADOW:
            return BudgetExceeded(f"what shadow runs may cost a month ({usd} USD, policy.toml, [shadow]) is used up")
        whose = "this key's" if self.scope == "key" else "this tenant's"
        how = f"`appliance {self.scope}s set {self.scope_id} --cap …`"
        return BudgetExceeded(
            f"{whose} cap of {usd} USD for this month is used up, or held back for requests that run; wait for those,"
            f" or have an operator raise it with {how}",
            headers=dict(NEVER_RETRY),
        )


class Meter:
    """The two buckets of one key; ``requests`` and ``tokens`` are what is left in them.

    ``clock_ms`` is the time by the clock that all gateways share, where there is one; it alone fills then.
    """

    def __init__(
        self,
        key: Key,
        requests: float,
        tokens: float,
        filled_ms: int,
        running: int,
        clock_ms: int | None = None,
    ) -> None:
        self.key = key
        self.requests = requests
        self.tokens = tokens
        self.filled_ms = filled_ms
        self.running = running
        self._clock_ms = clock_ms

    def fill(self, now_ms: int) -> None:
        """Add what has flowed in since. No moment counts twice, and a clock that was set back starts anew."""
        now_ms = self._clock_ms if self._clock_ms is not None else now_ms
        passed_ms = now_ms - self.filled_ms
        if -CLOCKS_APART_MS <= passed_ms < 0:
            return
        minutes = max(0, passed_ms) / 60_000.0
        self.filled_ms = now_ms
        self.requests = _filled(self.requests, self.key.requests_per_minute, minutes)
        self.tokens = _filled(self.tokens, self.key.tokens_per_minute, minutes)

    def refusal(self, tokens: int) -> RateLimited | None:
        """Why a request that may compute ``tokens`` has to wait; None takes nothing yet."""
        key = self.key
        if key.max_concurrent is not None and self.running >= key.max_concurrent:
            return RateLimited(
                f"this key may have {key.max_concurrent} requests running at once and has; wait for one to end",
                code="concurrency_limited",
                headers={"retry-after": "1", **self.headers()},
            )
        if key.requests_per_minute is not None and self.requests < 1.0:
            return self._too_fast("requests", key.requests_per_minute, 1.0 - self.requests)
        if key.tokens_per_minute is not None:
            need = self._charge(tokens)
            if self.tokens < need:
                return self._too_fast("tokens", key.tokens_per_minute, need - self.tokens)
        return None

    def take(self, tokens: int) -> None:
        """Count one request of at most ``tokens``."""
        self.running += 1
        self.requests -= 1.0
        self.tokens -= self._charge(tokens)

    def give_back(self, reserved: int, computed: int) -> None:
        """Correct the bucket by what was reserved and not computed; it sinks where it was more."""
        if self.key.tokens_per_minute is not None:
            self.tokens = min(self.tokens + self._charge(reserved) - computed, float(self.key.tokens_per_minute))

    def _charge(self, tokens: int) -> int:
        """A request larger than the bucket takes all of it, or it could never run."""
        return min(tokens, self.key.tokens_per_minute or 0)

    def limits(self) -> tuple[Limit | None, Limit | None]:
        """Of requests and tokens, for the caller's headers."""
        return (
            _limit(self.key.requests_per_minute, self.requests),
            _limit(self.key.tokens_per_minute, self.tokens),
        )

    def headers(self) -> dict[str, str]:
        """The same as OpenAI's headers."""
        result: dict[str, str] = {}
        for name, limit in zip(("requests", "tokens"), self.limits(), strict=True):
            if limit is not None:
                result.update(limit_headers(name, limit))
        return result

    def _too_fast(self, what: str, per_minute: int, missing: float) -> RateLimited:
        wait_s = max(1, math.ceil(missing * 60.0 / per_minute))
        return RateLimited(
            f"this key may use {per_minute} {what} a minute; try again in {wait_s} s, or have an operator raise it",
            headers={"retry-after": str(wait_s), **self.headers()},
        )


def limited(key: Key) -> bool:
    """Whether ``key`` has any limit that needs a meter."""
    return key.requests_per_minute is not None or key.tokens_per_minute is not None or key.max_concurrent is not None


def caps_of(admission: Admission) -> list[tuple[str, str, int]]:
    """``(scope, scope_id, cap_nusd)`` of the caps this request falls under."""
    key = admission.request.key
    caps = []
    if key.cap_nusd is not None:
        caps.append(("key", key.id, key.cap_nusd))
    if key.tenant.cap_nusd is not None:
        caps.append(("tenant", key.tenant.id, key.tenant.cap_nusd))
    if admission.shadow_cap_nusd is not None:
        caps.append((SHADOW, key.tenant.id, admission.shadow_cap_nusd))
    return caps


def limit_headers(name: str, limit: Limit) -> dict[str, str]:
    """OpenAI's three headers for ``requests`` or ``tokens``; durations as it writes them (``1.2s``, ``6m0s``)."""
    return {
        f"x-ratelimit-limit-{name}": str(limit.limit),
        f"x-ratelimit-remaining-{name}": str(limit.remaining),
        f"x-ratelimit-reset-{name}": _duration(limit.reset_s),
    }


def _duration(seconds: float) -> str:
    whole = max(0.0, seconds)
    if whole < 1.0:
        return f"{round(whole * 1000)}ms"
    minutes, rest = divmod(round(whole, 1), 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"


def _filled(left: float, per_minute: int | None, minutes: float) -> float:
    return FULL if per_minute is None else min(left + per_minute * minutes, float(per_minute))


def _limit(per_minute: int | None, left: float) -> Limit | None:
    if per_minute is None:
        return None
    return Limit(per_minute, max(0, math.floor(left)), max(0.0, (per_minute - left) * 60.0 / per_minute))
