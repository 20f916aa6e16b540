"""The translation host's counters, as Prometheus text.

What it is: one registry a host; it also listens to the batchers.
What it refuses to be: a log of content; no text, no language of a single request.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from appliance.hosts.progress import Working
from appliance.hosts.translate_wire import Usage


class Metrics:
    """All series begin with ``appliance_translate_``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        p, r = "appliance_translate_", self.registry
        self.requests = Counter(p + "requests", "Requests by how they ended", ["outcome"], registry=r)
        self.characters = Counter(p + "characters", "Characters translated", registry=r)
        self.sentences = Counter(p + "sentences", "Sentences through a model, every step counted", registry=r)
        self.tokens = Counter(p + "tokens", "Pieces read and written", ["side"], registry=r)
        self.held = Gauge(p + "held_characters", "Characters admitted and not yet answered", registry=r)
        self.depth = Gauge(p + "queued_sentences", "Sentences waiting for a batch", ["direction"], registry=r)
        self.batches = Histogram(
            p + "batch_size", "Sentences a batch", ["direction"], buckets=(1, 2, 4, 8, 16, 32, 64), registry=r
        )
        self.drops = Counter(p + "dropped_sentences", "Sentences that left unserved", ["why"], registry=r)

    def ended(self, outcome: str) -> None:
        """A request ended ``ok``, ``failed`` or ``cancelled``."""
        self.requests.labels(outcome=outcome).inc()

    def used(self, usage: Usage) -> None:
        """What an answer computed."""
        self.characters.inc(usage.characters)
        self.sentences.inc(usage.sentences)
        self.tokens.labels(side="read").inc(usage.prompt_tokens)
        self.tokens.labels(side="written").inc(usage.completion_tokens)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


class OfDirection:
    """What one direction's batcher tells."""

    def __init__(self, metrics: Metrics, direction: str) -> None:
        self._depth = metrics.depth.labels(direction=direction)
        self._batches = metrics.batches.labels(direction=direction)
        self._drops = metrics.drops

    def queued(self, depth: int) -> None:
        """The queue changed."""
        self._depth.set(depth)

    def dispatched(self, key: Hashable, size: int) -> None:
        """A batch went to a worker."""
        self._batches.observe(size)

    def dropped(self, why: str) -> None:
        """A sentence left unserved."""
        self._drops.labels(why=why).inc()


class Together:
    """The heartbeat of several batchers."""

    def __init__(self, works: Iterable[Working]) -> None:
        self._works = tuple(works)

    @property
    def steps(self) -> int:
        """Batches finished."""
        return sum(work.steps for work in self._works)

    @property
    def running(self) -> int:
        """Items unanswered."""
        return sum(work.running for work in self._works)

    @property
    def longest_step_s(self) -> float:
        """The longest batch so far."""
        return max((work.longest_step_s for work in self._works), default=0.0)
