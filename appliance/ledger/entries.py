"""What is queued for the ledger's writer.

What it is: three kinds of entry. ``Entering`` asks to be admitted and gets its answer in ``result`` when its group has
committed, also when nobody waits for it any more; a ``Settlement`` refers to it, so that a request whose caller left
while it was admitted is still settled in the right conversation.
"""

from __future__ import annotations

from msgspec import Struct

from appliance.errors import ApplianceError
from appliance.types import Admission, Admitted, Outcome


class Entering(Struct, eq=False):
    """An admission and what became of it. ``month`` is the budget month it is charged to, as 202611."""

    admission: Admission
    month: int
    result: Admitted | ApplianceError | None = None


class Settlement(Struct, frozen=True, eq=False):
    """An outcome, when it was handed in (Unix milliseconds), and what its attempts came to."""

    entering: Entering
    outcome: Outcome
    finished_ms: int
    hosted_nusd: int = 0
    energy_nusd: int = 0
    work_ns: int = 0


class Busy(Struct, frozen=True, eq=False):
    """How long an engine was busy and up within one hour, to be added to what is there."""

    engine: str
    hour_ms: int
    busy_ns: int
    up_ns: int


Entry = Entering | Settlement | Busy
