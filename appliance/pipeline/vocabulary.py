"""A tenant's own words for the route ``pivot``: all its glossaries together, and its translation memory.

What it is: ``Vocabulary``, of one gateway, and the ``Words`` of one request. ``/v1/translate`` names a glossary; a
conversation has nobody who would, so every term of the tenant holds (the entry that names both languages wins).
What it refuses to be: in the way. A ledger that cannot be read costs the words, not the answer; it is logged.
What it costs: a dictionary's look-up while the ledger's version stands; after a change one query in a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from appliance.errors import LedgerUnavailable
from appliance.languages import ENGLISH
from appliance.ledger.remembered import Remembered
from appliance.translation.glossary import Matcher, Term
from appliance.types import Tenant

if TYPE_CHECKING:
    from sqlalchemy import Engine

_MOST = 256
_DIGITS = "ascii"  # the translation host's own form, in which /v1/translate remembers as well
_log = logging.getLogger("appliance.pipeline")


class Words(Struct, frozen=True):
    """Both directions' terms; ``version`` changes when they do, and is empty where there are none."""

    inward: Matcher
    outward: Matcher
    version: str = ""

    @property
    def variant(self) -> str:
        """Under which the tenant's memory keeps what these terms are part of."""
        return f"{self.version} {_DIGITS}"


class Kept:
    """The memory of one request: asked at once, written when the answer is over."""

    def __init__(self, memory: Remembered) -> None:
        self._memory = memory
        self._new: dict[tuple[str, str], list[tuple[str, str]]] = {}

    async def get(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """What is remembered of each."""
        return await self._memory.get(texts, source, target)

    async def put(self, pairs: Sequence[tuple[str, str]], source: str, target: str) -> None:
        """To be kept by ``flush``."""
        self._new.setdefault((source, target), []).extend(pairs)

    async def flush(self) -> None:
        """Keep it."""
        new, self._new = self._new, {}
        for (source, target), pairs in new.items():
            await self._memory.put(pairs, source, target)


class Vocabulary:
    """``store`` gives the ledger's engine and is called in a thread only; ``version`` is the ledger's."""

    def __init__(self, store: Callable[[], Engine], version: Callable[[], int], now_ms: Callable[[], int]) -> None:
        self._store, self._version, self._now_ms = store, version, now_ms
        self._known: OrderedDict[tuple[str, str], tuple[int, Words]] = OrderedDict()

    async def words(self, tenant_id: str, tag: str) -> Words:
        """The terms between ``tag`` and English, as they stand in the ledger now."""
        key, version = (tenant_id, tag), self._version()
        known = self._known.get(key)
        if known is not None and known[0] == version:
            self._known.move_to_end(key)
            return known[1]
        try:
            words = await asyncio.to_thread(self._read, tenant_id, tag)
        except LedgerUnavailable as e:
            _log.warning("glossaries are not read: %s", e.message)
            return known[1] if known is not None else _words((), tag)
        self._known[key] = version, words
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
        return words

    def memory(self, tenant: Tenant, words: Words, conversation_id: str) -> Kept | None:
        """The tenant's, where it wants one. ``conversation_id``: an erasure finds by it what was kept."""
        if not (tenant.store_text and tenant.translation_memory):
            return None
        variant, conversation = words.variant, conversation_id or None
        return Kept(Remembered(self._store, tenant.id, self._now_ms, variant=variant, conversation_id=conversation))

    def _read(self, tenant_id: str, tag: str) -> Words:
        from appliance.ledger.stores.glossaries import load

        return _words(load(self._store(), tenant_id), tag)


def _words(terms: Sequence[Term], tag: str) -> Words:
    inward, outward = Matcher(terms, tag, ENGLISH), Matcher(terms, ENGLISH, tag)
    if not inward and not outward:
        return Words(inward, outward)
    digest = hashlib.blake2b(digest_size=8)
    for t in terms:
        digest.update("\0".join((t.term, t.translation or "\0", t.case, t.source, t.target, "\n")).encode())
    return Words(inward, outward, digest.hexdigest())
