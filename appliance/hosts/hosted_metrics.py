"""The hosted process' counters, as Prometheus text, and what its supervisor reads of it.

What it is: requests by how they ended, refusals by code, tokens, and today's cost by its own count.
What it refuses to be: a log of content.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

_NUSD = 1_000_000_000


class Metrics:
    """All series begin with ``appliance_hosted_``. Also the ``Working`` of ``hosts/progress``."""

    longest_step_s = 0.0

    def __init__(self) -> None:
        p, self.registry = "appliance_hosted_", CollectorRegistry()
        r = self.registry
        self._requests = Counter(p + "requests", "Requests by how they ended", ["outcome"], registry=r)
        self._refused = Counter(p + "refused", "Requests that did not leave, by code", ["code"], registry=r)
        self._tokens = Counter(p + "tokens", "Tokens as Google counts them", ["side"], registry=r)
        self._spent = Gauge(p + "spent_today_usd", "Cost of today's answers (UTC), cached tokens in full", registry=r)
        self.running = 0
        self.steps = 0

    def began(self) -> None:
        """A request was admitted."""
        self.running += 1
        self.stepped()

    def stepped(self) -> None:
        """Something moved."""
        self.steps += 1

    def ended(self, outcome: str, spent_nusd: int) -> None:
        """It ended ``ok``, ``failed`` or ``cancelled``."""
        self.running -= 1
        self._requests.labels(outcome=outcome).inc()
        self._spent.set(spent_nusd / _NUSD)
        self.stepped()

    def refused(self, code: str) -> None:
        """It was not even admitted."""
        self._refused.labels(code=code).inc()

    def used(self, prompt: int, completion: int) -> None:
        """What an answer took."""
        self._tokens.labels(side="in").inc(prompt)
        self._tokens.labels(side="out").inc(completion)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
