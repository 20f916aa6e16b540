"""A tenant's translation memory as translations use it: off the event loop, and never a reason to fail.

What it is: ``Remembered``, a ``translation.recent.Cache`` over ``stores/memory.py``.
What it refuses to be: in the way. A ledger that cannot be read or written costs the memory, not the translation; it is
logged, and everything counts as unknown.
What it costs: a thread's hop and one query a batch of 200. Whether the tenant opted in is asked each time, in that
query's transaction; a caller who knows that it did not should not make one of these.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from appliance.errors import LedgerUnavailable

if TYPE_CHECKING:
    from sqlalchemy import Engine

_log = logging.getLogger("appliance.ledger")


class Remembered:
    """Of one tenant, for one request. ``conversation_id`` is who said it, so that an erasure finds it."""

    def __init__(
        self,
        engine: Callable[[], Engine],
        tenant_id: str,
        now_ms: Callable[[], int],
        *,
        variant: str = "",
        conversation_id: str | None = None,
    ) -> None:
        self._engine = engine
        self._tenant_id = tenant_id
        self._now_ms = now_ms
        self._variant = variant
        self._conversation_id = conversation_id

    async def get(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """What is remembered of each, exactly or of one that reads alike."""
        try:
            return await asyncio.to_thread(self._get, texts, source, target)
        except LedgerUnavailable as e:
            _log.warning("translation memory is not read: %s", e.message)
            return [None] * len(texts)

    async def put(self, pairs: Sequence[tuple[str, str]], source: str, target: str) -> None:
        """Remember what is new, where the tenant wants that."""
        try:
            await asyncio.to_thread(self._put, pairs, source, target)
        except LedgerUnavailable as e:
            _log.warning("translation memory is not written: %s", e.message)

    def _get(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        from appliance.ledger.stores import memory

        found: list[str | None] = []
        for start in range(0, len(texts), memory.MOST_TEXTS):
            some = texts[start : start + memory.MOST_TEXTS]
            hits = memory.look_up(self._engine(), self._tenant_id, source, target, some, self._now_ms(), self._variant)
            found += [None if hit is None else hit.translation for hit in hits]
        return found

    def _put(self, pairs: Sequence[tuple[str, str]], source: str, target: str) -> None:
        from appliance.ledger.stores import memory

        memory.keep(
            self._engine(),
            self._tenant_id,
            source,
            target,
            pairs,
            self._now_ms(),
            variant=self._variant,
            conversation_id=self._conversation_id,
        )
