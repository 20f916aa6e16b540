"""How far two answers to one question agree: what a shadow run leaves for learning.

What it is: ``agreement(one, other)``, 0 to 1: the likeness of their letters, capped where they name different amounts
or dates, or where one of them says nothing.
What it refuses to be: who is right. ``learning`` finds out from outcomes how much agreement is worth.
What it costs: 0.8 ms for answers of 200 characters, off the request's way.
"""

from __future__ import annotations

from appliance.policy.figures import Known, figures
from appliance.translation.signals import distance

_DIFFERENT = 0.2


def agreement(one: str, other: str) -> float:
    """1 for the same letters in any spacing; at most 0.2 where a figure of one is not in the other."""
    if not one.strip() or not other.strip():
        return float(one.strip() == other.strip())
    alike = 1.0 - distance(one, other)
    there, here = Known([other]), Known([one])
    same = all(map(there.holds, figures(one))) and all(map(here.holds, figures(other)))
    return round(alike if same else min(alike, _DIFFERENT), 4)
