"""One change: a transaction, its line in the audit, and word to the gateways.

What it is: ``Actor`` (who), ``change`` (the transaction) and ``record`` (the line). Secrets are never in it.
What it refuses to be: optional. There is no other way in this package to write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Engine, RowMapping, insert

from appliance.ledger.core import bump, transaction
from appliance.ledger.ids import new_id
from appliance.ledger.schema import audit

_NEVER = frozenset({"secret", "digest", "cache_salt"})
Clock = Callable[[], float]


class Actor(Struct, frozen=True):
    """Who changes something: a key's id, or ``cli:`` and the name of the user on the machine."""

    name: str
    clock: Clock = time.time

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return int(self.clock() * 1000)


class Change:
    """An open transaction of one actor."""

    def __init__(self, connection: Connection, actor: Actor) -> None:
        self.connection = connection
        self.now_ms = actor.now_ms()
        self._actor = actor.name

    def record(
        self,
        action: str,
        target: str,
        *,
        tenant_id: str | None = None,
        before: Mapping[str, Any] | RowMapping | None = None,
        after: Mapping[str, Any] | RowMapping | None = None,
    ) -> None:
        """Its line in the audit; of ``before`` and ``after`` only what differs, secrets left out."""
        was, now = _differing(before, after)
        self.connection.execute(
            insert(audit).values(
                id=new_id("aud", self.now_ms),
                at_ms=self.now_ms,
                actor=self._actor,
                tenant_id=tenant_id,
                action=action,
                target=target,
                before=was,
                after=now,
            )
        )


@contextmanager
def change(engine: Engine, actor: Actor, *, heard: bool = True) -> Iterator[Change]:
    """A transaction that gateways hear of, unless nothing they hold is changed. Raises LedgerUnavailable."""
    with transaction(engine) as connection:
        yield Change(connection, actor)
        if heard:
            bump(connection)


def _differing(
    before: Mapping[str, Any] | RowMapping | None, after: Mapping[str, Any] | RowMapping | None
) -> tuple[str | None, str | None]:
    names = [
        name
        for name in {**(before or {}), **(after or {})}
        if name not in _NEVER and (before is None or after is None or before.get(name) != after.get(name))
    ]

    def text(values: Mapping[str, Any] | RowMapping | None) -> str | None:
        if values is None:
            return None
        return msgspec.json.encode({name: values.get(name) for name in names}).decode()

    return text(before), text(after)
