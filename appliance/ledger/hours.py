"""How long an engine was busy in an hour, from what one or several gateways saw of it.

What it is: ``together``. Gateways that followed one another (a restart) saw different parts of the hour, so their
times add up; gateways that ran side by side each saw only their own requests, so the union of their times is taken as
for independent ones: 1 − Π(1 − share). It is never below the busiest gateway, never above their sum or the hour.
What it refuses to be: exact side by side. Only the engine itself could say when it ran for two at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.ledger.months import HOUR_MS

_HOUR_NS = HOUR_MS * 1_000_000
_SLACK_NS = 60 * 1_000_000_000  # what the ten seconds between two measurements can move over the hour's edges


def together(parts: Sequence[tuple[int, int]]) -> int:
    """Busy nanoseconds of one hour from each gateway's busy and up nanoseconds."""
    busy = [part[0] for part in parts]
    if len(parts) == 1 or sum(part[1] for part in parts) <= _HOUR_NS + _SLACK_NS:
        return min(sum(busy), _HOUR_NS) if len(parts) > 1 else busy[0]
    free = 1.0
    for one in busy:
        free *= 1 - min(1.0, one / _HOUR_NS)
    return min(_HOUR_NS, sum(busy), max(*busy, round((1 - free) * _HOUR_NS)))
