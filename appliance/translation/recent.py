"""Translations of the turns of running conversations, so that each is made once.

What it is: ``Cache``, what ``pivot`` asks of a memory, and ``Recent``, one in this process: the least recently used go.
What it refuses to be: a store. It holds translations under hashes of their texts, ends with the process, and no two
scopes (tenants) ever meet. Keeping for longer is the tenant's translation memory (``ledger/stores/memory.py``).
What it costs: about 20 µs a text, and the translations in memory, 64 MiB of text by default.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol

from appliance.translation.memory import fitted, keys

_BYTES = 64 * 1024 * 1024
_OVERHEAD = 200  # of an entry, roughly


class Cache(Protocol):
    """What is known already, of one tenant and one glossary."""

    async def get(self, texts: Sequence[str], source: str, target: str) -> Sequence[str | None]:
        """The translation of each, None where there is none."""
        ...

    async def put(self, pairs: Sequence[tuple[str, str]], source: str, target: str) -> None:
        """Remember texts with their translations."""
        ...


class Recent:
    """For one process; ``of`` gives a tenant's view. Not for several threads."""

    def __init__(self, most_bytes: int = _BYTES) -> None:
        self._most = most_bytes
        self._size = 0
        self._known: OrderedDict[bytes, str] = OrderedDict()

    def of(self, scope: str, variant: str = "") -> Cache:
        """The view of a tenant; ``variant`` is whatever else decides a translation, such as the glossary's version."""
        return _View(self, f"{len(scope)}:{scope}{variant}")

    def known(self, key: bytes) -> str | None:
        """The translation under ``key``."""
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
        return found

    def learn(self, key: bytes, translation: str) -> None:
        """Remember it, and forget what was not used for longest."""
        self._size -= _size(self._known.pop(key, None))
        self._known[key] = translation
        self._size += _size(translation)
        while self._size > self._most:
            self._size -= _size(self._known.popitem(last=False)[1])


class _View:
    def __init__(self, recent: Recent, variant: str) -> None:
        self._recent = recent
        self._variant = variant

    async def get(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        found = [self._recent.known(self._key(text, source, target)) for text in texts]
        return [None if f is None else fitted(f, text) for f, text in zip(found, texts, strict=True)]

    async def put(self, pairs: Iterable[tuple[str, str]], source: str, target: str) -> None:
        for text, translation in pairs:
            self._recent.learn(self._key(text, source, target), translation.strip())

    def _key(self, text: str, source: str, target: str) -> bytes:
        return keys(text, source, target, self._variant).exact


def _size(translation: str | None) -> int:
    return 0 if translation is None else _OVERHEAD + 4 * len(translation)
