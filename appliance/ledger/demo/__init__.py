"""Simulated months: what a ledger of an Indian enterprise might hold, so that a report can be seen before there is one.

What it is: ``mix`` (who asks what, invented), ``simulate`` (days of it as columns) and ``fill`` (a ledger of its own,
marked ``simulated`` from its first byte).
What it refuses to be: near a real ledger. It fills a home of its own, a gateway does not start on it, and everything
reported from it says on every page that it is simulated.
"""

from appliance.ledger.demo.fill import Filled, fill

__all__ = ["Filled", "fill"]
