"""The plan of one request: every local engine that serves the model, least busy first.

What it is: today's whole policy. One route exists (``local``); intents, residency and hosted models join
through the same ``Plan``.
What it refuses to be: silent. An empty plan carries the reason why it is empty.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from appliance.types import Attempt, Plan, Reason


class Candidate(Struct, frozen=True):
    """An engine that serves the model: whether it can take requests, and how many are in it."""

    engine: str
    ready: bool
    in_flight: int


def plan(model: str, candidates: Sequence[Candidate]) -> Plan:
    """Attempts on the engines that are ready. The first is routine, the others stand in for a broken one."""
    if not candidates:
        return Plan((), Reason.NOT_INSTALLED)
    ready = [c for c in candidates if c.ready]
    if not ready:
        return Plan((), Reason.ENGINE_UNHEALTHY)
    ready.sort(key=lambda c: (c.in_flight, c.engine))
    return Plan(
        tuple(
            Attempt(i, c.engine, model, "local", Reason.ROUTINE if i == 0 else Reason.ENGINE_UNHEALTHY)
            for i, c in enumerate(ready)
        )
    )
