"""Decides where a request goes: pure functions on values.

What it is: ``plan.plan(policy, seen, candidates)`` gives an ordered list of attempts with everything that was dropped,
or a refusal with its reason. ``plan`` here is the one that needs no policy.toml.
What it refuses to be: anything with I/O, a clock or randomness of its own.
"""

from appliance.policy.plan import least_busy as plan
from appliance.policy.values import Candidate

__all__ = ["Candidate", "plan"]
