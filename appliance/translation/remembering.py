"""A translation that asks a memory first: sentences that are known are not translated again.

What it is: ``Remembering``, which wraps a function that translates a batch, and is one itself. Of a batch each unknown
sentence goes to the translation once; what comes back is kept.
What it refuses to be: a store. The memory is passed in: one in this process (``recent``), or the tenant's own in the
ledger (``ledger/remembered.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from appliance.translation.recent import Cache

Translate = Callable[[Sequence[str], str, str], Awaitable[Sequence[str]]]


class Remembering:
    """``translate`` behind ``memory``. ``translated`` counts the sentences that were new, ``remembered`` the others."""

    def __init__(self, translate: Translate, memory: Cache) -> None:
        self._translate = translate
        self._memory = memory
        self.translated = 0
        self.remembered = 0

    async def __call__(self, sentences: Sequence[str], source: str, target: str) -> list[str]:
        """The translations, in order. Whatever ``translate`` raises passes."""
        found = list(await self._memory.get(sentences, source, target))
        new = list(dict.fromkeys(s for s, known in zip(sentences, found, strict=True) if known is None))
        made = await self._translate(new, source, target) if new else []
        pairs = list(zip(new, made, strict=True))
        if pairs:
            await self._memory.put(pairs, source, target)
        self.translated += len(new)
        self.remembered += len(sentences) - len(new)
        fresh = dict(pairs)
        return [fresh[sentence] if known is None else known for sentence, known in zip(sentences, found, strict=True)]
