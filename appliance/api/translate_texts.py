"""The texts of one ``/v1/translate``: what a glossary marks, what a memory knows, what is left for the engine.

What it is: the way in (``mark``, ``recall``, ``ask``) and the way back (``told``, ``learn``) of one request.
What it refuses to be: kept. Every request has one of its own.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from appliance.api.params_texts import TranslateParams
from appliance.errors import NotFound
from appliance.languages import ENGLISH, bcp47, resolve
from appliance.translation.glossary import Marked, restore
from appliance.translation.memory import LONGEST
from appliance.types import Key

if TYPE_CHECKING:
    from appliance.api.service import Service
    from appliance.ledger.remembered import Remembered

MEMORY = "translation-memory"
# what one look at the memory may ask for
_AT_ONCE = 200


class Texts:
    """``sources`` are tags as the engine wants them, None where there is nothing to translate."""

    def __init__(self, params: TranslateParams, sources: list[str | None], target: str) -> None:
        self._params, self._sources, self._target = params, sources, target
        self._marked: dict[int, Marked] = {}
        self._known: dict[int, str] = {}
        self._made: list[tuple[int, str]] = []

    @property
    def rememberable(self) -> bool:
        """Whether these are texts that come again: whole, plain, and with one answer each."""
        p = self._params
        return p.mode == "text" and not p.stream and p.alternatives == 0

    @property
    def variant(self) -> str:
        """What else decides a translation."""
        return f"{self._params.glossary or ''} {self._params.digits}"

    def mark(self, service: Service, key: Key) -> None:
        """Mark the glossary's terms; blocks where it was not read before. Raises NotFound."""
        glossary = self._params.glossary
        assert glossary is not None
        found = False
        for n, (text, source) in enumerate(zip(self._params.texts, self._sources, strict=True)):
            if source is None:
                continue
            matcher = service.glossaries.matcher(key.tenant.id, glossary, source, self._target, service.ledger.version)
            found = found or matcher is not None
            if matcher is not None:
                self._marked[n] = matcher.mark(text)
        if not found and any(source is not None for source in self._sources):
            raise NotFound(
                f"there is no glossary {glossary!r}; `appliance glossaries list` shows what there is", param="glossary"
            )

    async def recall(self, memory: Remembered) -> None:
        """Look for translations that are remembered."""
        for source, numbers in self._by_source().items():
            for at in range(0, len(numbers), _AT_ONCE):
                some = numbers[at : at + _AT_ONCE]
                found = await memory.get([self._params.texts[n] for n in some], source, self._target)
                self._known.update({n: text for n, text in zip(some, found, strict=True) if text is not None})

    async def learn(self, memory: Remembered) -> None:
        """Keep what was new and came back without fault."""
        pairs: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for n, text in self._made:
            source = self._sources[n]
            if source is not None:
                pairs[source].append((self._params.texts[n], text))
        for source, some in pairs.items():
            await memory.put(some, source, self._target)

    def _by_source(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for n, source in enumerate(self._sources):
            if source is not None and source != self._target and len(self._params.texts[n]) <= LONGEST:
                found[source].append(n)
        return found

    def ask(self) -> dict[str, Any]:
        """What the engine is asked: everything that is not known."""
        p = self._params
        items = [
            {"text": self._marked[n].text if n in self._marked else text, "source": source}
            for n, (text, source) in enumerate(zip(p.texts, self._sources, strict=True))
            if n not in self._known
        ]
        return {
            "items": items,
            "target": self._target,
            "mode": p.mode,
            "digits": p.digits,
            "alternatives": p.alternatives,
            "stream": p.stream,
            "bulk": p.bulk,
        }

    def restored(self, n: int, text: str) -> str:
        """``text``, a translation of text ``n`` or a part of one, with the glossary's words in place."""
        return restore(self._marked[n], text).text if n in self._marked else text

    def told(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The engine's answer in the order of the request, glossary and memory applied."""
        came = iter(answer["translations"])
        out = []
        for n in range(len(self._params.texts)):
            if n in self._known:
                out.append({"text": self._known[n], "source": self._code(n), "confidence": None, "via": [MEMORY]})
                continue
            one = next(came)
            if n in self._marked:
                one = self._with_terms(n, one)
            if not one.get("issues"):
                self._made.append((n, one["text"]))
            out.append(one)
        size = sum(map(len, self._params.texts))
        return {"translations": out, "usage": {**answer["usage"], "characters": size}}

    def _with_terms(self, n: int, one: dict[str, Any]) -> dict[str, Any]:
        done = restore(self._marked[n], one["text"])
        others = [restore(self._marked[n], text).text for text in one.get("alternatives", [])]
        changed = {**one, "text": done.text, **({"alternatives": others} if others else {})}
        if done.lost and one["text"]:
            changed["issues"] = sorted({*one.get("issues", []), "terms_lost"})
            changed["lost"] = [*one.get("lost", []), *done.lost]
        return changed

    def _code(self, n: int) -> str | None:
        source = self._sources[n]
        return None if source is None else code_of(source)


def code_of(source: str) -> str:
    """BCP 47 of an engine's source, where ``hin_Latn`` is romanised Hindi."""
    if source[4:] == "Latn" and source != ENGLISH:
        return bcp47(resolve(source[:3]).tag, "Latn")
    return bcp47(source)
