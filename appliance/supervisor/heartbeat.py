"""Is a running engine still working? Its own counters say so, ``/health`` does not.

What it is: ``read`` takes one look at an engine's ``/metrics``; ``Heartbeat`` judges a series of looks: alive, worth
a one-token question, or hung. ``/health`` answers 200 while vLLM hangs (vllm #36451, #39863).
What it refuses to be: impatient. A long prompt is a step of up to a minute on a CPU, in which no counter moves
(measured: 2,048 tokens in 6 to 15 s on two busy cores), so what a step may take is reckoned from the engine's own
prefill speed. Nor a clock: times are handed in, and time in which this process itself was stopped does not count.
What it costs: one ``GET /metrics`` a beat: vLLM's is 58 KB and takes 10 ms, every 5 s.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from appliance.supervisor.probe import fetch
from appliance.types import EngineKind

# vLLM 0.32. The first is the engine's steps that gave a token. The others move in steps that give none: the pieces of
# a long prompt fill the cache, and a step that finishes or admits a request changes the scheduler's gauges.
VLLM_PROGRESS = (
    "vllm:iteration_tokens_total_count",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total",
    "vllm:prefix_cache_queries_total",
    "vllm:kv_cache_usage_perc",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
)
VLLM_BUSY = ("vllm:num_requests_running", "vllm:num_requests_waiting")
VLLM_PREFILL_TOKENS = "vllm:request_prefill_kv_computed_tokens_sum"
VLLM_PREFILL_S = "vllm:request_prefill_time_seconds_sum"
HOST_PROGRESS = ("appliance_host_steps_total",)
HOST_BUSY = ("appliance_host_running",)
HOST_LONGEST_STEP_S = "appliance_host_longest_step_seconds"

# tokens of one step at most: vLLM's max_num_batched_tokens is 2,048 to 16,384 where nobody sets it
MOST_STEP_TOKENS = 16_384
UNMEASURED_TOKENS_PER_S = 100.0
_MEASURED_FROM_TOKENS = 512
# a step among others is slower than the average says
_SLACK = 2.0
# what a batch of a host may take before one was measured
UNMEASURED_STEP_S = 60.0
_STEP_SLACK = 4.0

Verdict = Literal["alive", "ask", "hung"]


class Beat(Struct, frozen=True):
    """One look. ``progress`` changes whenever the engine did anything; ``busy`` is requests running or waiting.

    ``step_s`` is what one step may take by the engine's own measure.
    """

    progress: tuple[float, ...]
    busy: float
    step_s: float


def read(path: Path, kind: EngineKind, context_tokens: int, timeout_s: float) -> Beat | None:
    """Look at the engine behind the Unix socket ``path``; None when it does not answer. Blocks."""
    try:
        status, body = fetch(path, "GET", "/metrics", timeout_s=timeout_s)
    except (OSError, http.client.HTTPException):
        return None
    return beat_of(body.decode("utf-8", "replace"), kind, context_tokens) if status == 200 else None


def beat_of(text: str, kind: EngineKind, context_tokens: int = 0) -> Beat | None:
    """The beat in an engine's Prometheus text; None where the series it needs are absent."""
    tokens = kind in ("vllm", "fake")
    progress, busy = (VLLM_PROGRESS, VLLM_BUSY) if tokens else (HOST_PROGRESS, HOST_BUSY)
    found = _sums(text)
    if progress[0] not in found or busy[0] not in found:
        return None
    step_s = _prefill_s(found, context_tokens) if tokens else _batch_s(found)
    return Beat(tuple(found.get(name, 0.0) for name in progress), sum(found.get(name, 0.0) for name in busy), step_s)


def _sums(text: str) -> dict[str, float]:
    """Every series, summed over its labels."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith(("vllm:", "appliance_host_")):
            name = line.partition("{")[0].partition(" ")[0]
            try:
                found[name] = found.get(name, 0.0) + float(line.rpartition(" ")[2])
            except ValueError:
                continue
    return found


def _prefill_s(found: Mapping[str, float], context_tokens: int) -> float:
    """The longest step: as many prompt tokens as fit in one, at the measured speed."""
    computed, took_s = found.get(VLLM_PREFILL_TOKENS, 0.0), found.get(VLLM_PREFILL_S, 0.0)
    measured = computed >= _MEASURED_FROM_TOKENS and took_s > 0
    speed = computed / took_s if measured else UNMEASURED_TOKENS_PER_S
    # several prompts share a step, so a short context does not make it shorter than this
    step_tokens = min(max(context_tokens, MOST_STEP_TOKENS // 2), MOST_STEP_TOKENS)
    return _SLACK * step_tokens / speed if measured else step_tokens / speed


def _batch_s(found: Mapping[str, float]) -> float:
    return max(_STEP_SLACK * found.get(HOST_LONGEST_STEP_S, 0.0), UNMEASURED_STEP_S)


class Heartbeat:
    """The judge of one engine, from the moment it was ready. ``heartbeat_s`` is the operator's."""

    def __init__(self, heartbeat_s: float) -> None:
        self._limit_s = heartbeat_s
        self._last: tuple[float, ...] | None = None
        self._silent_s = 0.0
        self._still_s = 0.0
        self._idle_s = 0.0
        self._step_s = 0.0
        self.asking = False
        self.why = ""

    @property
    def every_s(self) -> float:
        """How often to look."""
        return min(max(self._limit_s / 6, 0.1), 5.0)

    @property
    def patience_s(self) -> float:
        """How long a busy engine may stand still."""
        return self._limit_s + self._step_s

    def answered(self) -> None:
        """The question was answered with a token: whatever the counters say, it works."""
        self.asking = False
        self._still_s = self._idle_s = 0.0

    def look(self, beat: Beat | None, elapsed_s: float) -> Verdict:
        """Judge one more look, ``elapsed_s`` after the one before."""
        # while this process was itself stopped (a laptop's lid, a debugger), nobody looked: that proves nothing
        elapsed_s = min(elapsed_s, 2 * self.every_s)
        if beat is None:
            self._silent_s += elapsed_s
            if self._silent_s < self._limit_s:
                return "alive"
            self.why = f"its counters gave no answer for {self._silent_s:.0f} s"
            return "hung"
        self._silent_s = 0.0
        self._step_s = beat.step_s
        moved, self._last = beat.progress != self._last, beat.progress
        if moved:
            self._still_s = self._idle_s = 0.0
            return "alive"
        if beat.busy or self.asking:
            return self._standing_still(beat, elapsed_s)
        self._still_s = 0.0
        self._idle_s += elapsed_s
        # the gauges are the scheduler's, and one that hangs while idle never says that a request came in
        return "ask" if self._idle_s >= self._limit_s else "alive"

    def _standing_still(self, beat: Beat, elapsed_s: float) -> Verdict:
        self._still_s += elapsed_s
        if self._still_s < self.patience_s:
            return "alive"
        work = f"{beat.busy:.0f} requests in it" if beat.busy else "a question of one token in it"
        self.why = f"it did nothing for {self._still_s:.0f} s with {work}"
        return "hung"
