"""Decides where a request goes: pure functions on values.

What it is: ``plan(model, candidates)`` gives an ordered list of attempts, or a refusal with its reason.
What it refuses to be: anything with I/O, a clock or randomness of its own.
"""

from appliance.policy.plan import Candidate, plan

__all__ = ["Candidate", "plan"]
