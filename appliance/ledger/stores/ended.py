"""The conversations of a time that have ended, as a policy's rollout counts them.

What it is: ``ended``, one pass over ``conversations_opened``. Unresolved is what its caller called so, or handed to a
person; what a conversation cost is what was paid for it: hosted and energy.
What it refuses to be: an opinion on conversations that are still open.
What it costs: 3 µs a conversation, no memory.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Engine, select

from appliance.ledger.core import reading
from appliance.ledger.schema import conversations

_UNRESOLVED = ("unresolved", "handed_to_human")
_AT_ONCE = 5000


def ended(engine: Engine, since_ms: int) -> Iterator[tuple[str, str, bool, int]]:
    """Tenant, id, whether unresolved, and cost in nano-dollars of what was opened since and is over."""
    c = conversations.c
    query = (
        select(c.tenant_id, c.id, c.state, c.hosted_nusd, c.energy_nusd)
        .where(c.opened_ms >= since_ms, c.state != "open")
        .execution_options(yield_per=_AT_ONCE)
    )
    with reading(engine) as connection:
        for tenant_id, conversation_id, state, hosted_nusd, energy_nusd in connection.execute(query):
            yield tenant_id, conversation_id, state in _UNRESOLVED, hosted_nusd + energy_nusd
