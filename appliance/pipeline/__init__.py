"""The only composer: admit, plan, run, judge, record.

What it is: ``Pipeline`` (``composer``) takes an admitted request through the rooms: the ledger row commits before
dispatch, the outcome commits before the last byte leaves. ``chain`` goes through the attempts of a plan, ``trial`` is
one of them while it is made, ``asking`` the calls that are made beside an answer.
What it refuses to be: HTTP. It writes into a ``Sink`` and raises ``ApplianceError``.
"""

from appliance.pipeline.composer import Pipeline
from appliance.pipeline.work import CLIENT_LEFT, LEFT, Ask, Sink, Work

__all__ = ["CLIENT_LEFT", "LEFT", "Ask", "Pipeline", "Sink", "Work"]
