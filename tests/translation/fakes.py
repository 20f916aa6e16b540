"""A translation that changes every word and can be undone, so that tests see what was translated and what was not."""

from __future__ import annotations

import re
from collections.abc import Sequence

from appliance.languages import ENGLISH
from appliance.transliterate import from_hub, to_hub
from appliance.transliterate.brahmic import BLOCKS

_KEEP = re.compile(r"(\{\{[^{}]*\}\}|https?://\S+|\S+@\S+|[A-Z]+-?\d+|\d[\d.,]*|[।.,:;!?'\"()₹*`|-]+|\s+)")
_LATIN = "abcdefghijklmnopqrstuvwxyz"
_INDIC = "अबसदएफगहइजकलमनओपखरशतउवथषयझ"
# scripts that are no neighbours of Devanagari's, letter for letter
_OTHERS = {"Arab": "ابتثجحخدذرزسشصضطظعغفقکلمنو", "Olck": range(0x1C5A, 0x1C74), "Mtei": range(0xABC0, 0xABDA)}
_OTHER = {
    script: str.maketrans(dict(zip(_INDIC, (c if isinstance(c, str) else chr(c) for c in letters), strict=True)))
    for script, letters in _OTHERS.items()
}
_THERE = str.maketrans({**dict(zip(_LATIN, _INDIC, strict=True)), **dict(zip(_LATIN.upper(), _INDIC, strict=True))})
_BACK = dict(zip(_INDIC, _LATIN, strict=True))


class Fake:
    """``calls`` are the batches it was given. English letters become Devanagari ones and the reverse."""

    def __init__(self, drop: str = "") -> None:
        self.calls: list[tuple[list[str], str, str]] = []
        self._drop = drop

    async def __call__(self, sentences: Sequence[str], source: str, target: str) -> list[str]:
        self.calls.append((list(sentences), source, target))
        return [self._one(sentence, source, target) for sentence in sentences]

    @property
    def sentences(self) -> list[str]:
        """All that was translated."""
        return [sentence for batch, _, _ in self.calls for sentence in batch]

    def _one(self, sentence: str, source: str, target: str) -> str:
        words = _KEEP.split(sentence)
        if self._drop:
            words = [word for word in words if self._drop not in word]
        return "".join(w if _KEEP.fullmatch(w) and w != "।" else self._word(w, source, target) for w in words)

    def _word(self, word: str, source: str, target: str) -> str:
        if source == ENGLISH:
            hub, script = word.translate(_THERE), target[-4:]
            if script in _OTHER:
                return hub.translate(_OTHER[script])
            return hub if script == "Deva" else from_hub(hub, script, target)
        if word == "।":
            return "."
        hub = to_hub(word, source[-4:]) if source[-4:] in BLOCKS else word
        return "".join(_BACK.get(c, _LATIN[ord(c) % 26]) for c in hub)
