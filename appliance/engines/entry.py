"""One engine as the gateway knows it: its state, its adapter, what is in it, and what its answers usually take.

What it is: ``Entry``, which the pipeline enters and leaves, with its ``BusyTime`` for the report and its ``Load`` for
whoever reckons beside the gateway (``appliance policy explain``).
What it refuses to be: a judge. Who is asked is the policy's to say.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from appliance.engines import Engine
from appliance.engines.breaker import Breaker
from appliance.engines.wire import Pool
from appliance.types import EngineState

_LATEST = 0.1  # the weight of the newest answer in what is usual


class BusyTime:
    """For how long at least one request was running, and for how long any could: nanoseconds since last taken."""

    def __init__(self, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._now = monotonic_ns
        self._since: int | None = None
        self._busy_ns = 0
        self._taken_at = monotonic_ns()

    def start(self) -> None:
        """The first request begins."""
        self._since = self._now()

    def stop(self) -> None:
        """The last one has ended."""
        if self._since is not None:
            self._busy_ns += self._now() - self._since
            self._since = None

    def take(self) -> tuple[int, int]:
        """Busy and elapsed time since the last call."""
        now = self._now()
        busy, self._busy_ns = self._busy_ns, 0
        if self._since is not None:
            busy += now - self._since
            self._since = now
        elapsed, self._taken_at = now - self._taken_at, now
        return busy, elapsed


class Load(msgspec.Struct, frozen=True):
    """How busy an engine is, as its gateway knows it: what another process is told who wants to reckon as it does.

    ``first_ms`` is until the first token by the latest answers, None where none was seen, when ``beside`` requests were
    in the engine; ``waits_s`` is for how long it is spared after failures.
    """

    in_flight: int = 0
    elsewhere: int = 0
    first_ms: float | None = None
    beside: float = 0.0
    waits_s: float = 0.0


class Entry:
    """One engine: its last known state, its adapter, how many requests are in it, and how they end."""

    def __init__(self, state: EngineState, engine: Engine, pool: Pool, salted: bool) -> None:
        self.state = state
        self.engine = engine
        self.pool = pool
        self.salted = salted
        self.in_flight = 0
        self.elsewhere = 0  # requests in it that are not this gateway's, when its queue was last looked at
        self.busy = BusyTime()
        self.breaker = Breaker()
        self.usual_s = 0.0  # what a whole answer takes, by the latest of them; 0: none was seen
        self._first_ms: float | None = None  # until the first token, likewise
        self._beside = 0.0  # requests in the engine when that was measured

    @property
    def hosted(self) -> bool:
        """Whether its models run off this site: nothing may be sent to it without a permit."""
        return self.state.kind == "hosted"

    def takes(self, now_s: float) -> bool:
        """Whether it is ready, and not being spared after failures."""
        return self.state.phase == "ready" and self.breaker.allows(now_s)

    @property
    def prefills(self) -> bool:
        """Whether it can take up an answer that another began: vLLM can, and what knows cache salts is vLLM."""
        return self.salted and self.state.task == "chat"

    def took(self, total_s: float, first_ms: float | None = None) -> None:
        """A whole answer, so long; ``first_ms`` until its first token, where it was streamed."""
        self.usual_s += (total_s - self.usual_s) * (_LATEST if self.usual_s else 1.0)
        if first_ms is not None:
            weight = 1.0 if self._first_ms is None else _LATEST
            self._first_ms = (self._first_ms or 0.0) + (first_ms - (self._first_ms or 0.0)) * weight
            self._beside += (self.in_flight + self.elsewhere - self._beside) * weight

    @property
    def predicted_ttft_ms(self) -> float | None:
        """What the next request may expect: as the latest did, by how many more or fewer are in it now."""
        if self._first_ms is None:
            return None
        return self._first_ms * (self.in_flight + self.elsewhere + 1) / (self._beside + 1)

    def load(self, now_s: float) -> Load:
        """How busy it is now."""
        return Load(self.in_flight, self.elsewhere, self._first_ms, self._beside, self.breaker.waits_s(now_s))

    def take_load(self, load: Load, now_s: float) -> None:
        """As busy as another process says: whoever only asks has no requests of its own to go by."""
        self.in_flight, self.elsewhere = load.in_flight, load.elsewhere
        self._first_ms, self._beside = load.first_ms, load.beside
        self.breaker.spare(now_s, load.waits_s)

    def enter(self) -> None:
        """A request begins on it."""
        if self.in_flight == 0:
            self.busy.start()
        self.in_flight += 1

    def leave(self) -> None:
        """A request has ended on it."""
        self.in_flight -= 1
        if self.in_flight == 0:
            self.busy.stop()
