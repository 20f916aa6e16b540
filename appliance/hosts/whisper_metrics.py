"""A speech host's counters, as Prometheus text.

What it is: one registry a host; it also listens to the batcher.
What it refuses to be: a log of content; no text, no language of a single request.
"""

from __future__ import annotations

from collections.abc import Hashable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """All series begin with ``appliance_whisper_``, or another host's ``prefix``."""

    def __init__(self, prefix: str = "appliance_whisper_") -> None:
        self.registry = CollectorRegistry()
        p, r = prefix, self.registry
        self.requests = Counter(p + "requests", "Requests by how they ended", ["outcome"], registry=r)
        self.audio = Counter(p + "audio_seconds", "Seconds of audio transcribed", registry=r)
        self.held = Gauge(p + "held_audio_seconds", "Seconds of audio admitted and not yet answered", registry=r)
        self.depth = Gauge(p + "queued_windows", "Windows waiting for a batch", registry=r)
        self.batches = Histogram(
            p + "batch_size", "Windows a batch", ["window_s"], buckets=(1, 2, 4, 6, 8, 16, 32, 64), registry=r
        )
        self.drops = Counter(p + "dropped_windows", "Windows that left unserved", ["why"], registry=r)
        self.fallbacks = Counter(p + "fallbacks", "Windows decoded again because the text was implausible", registry=r)

    def queued(self, depth: int) -> None:
        """The batcher's queue changed."""
        self.depth.set(depth)

    def dispatched(self, key: Hashable, size: int) -> None:
        """A batch went to a worker; the key's first part is its length in frames."""
        frames = key[0] if isinstance(key, tuple) else 0
        self.batches.labels(window_s=f"{frames / 100:g}").observe(size)

    def dropped(self, why: str) -> None:
        """A window left unserved."""
        self.drops.labels(why=why).inc()

    def ended(self, outcome: str) -> None:
        """A request ended ``ok``, ``failed`` or ``cancelled``."""
        self.requests.labels(outcome=outcome).inc()

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
