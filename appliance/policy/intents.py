"""What a customer wants, from the words of one turn: a linear model over hashed character n-grams, in NumPy.

What it is: ``Classifier.recognise(text)``, an intent with its calibrated confidence, or none. Any script, romanised and
code-mixed: nothing here knows a language, the tenant's own examples do. ``intent_training`` makes it from them.
What it refuses to be: the last word. ``metadata.intent`` of the caller wins, and what is not sure is no intent.
What it costs: 28 µs for 200 characters, 2 MB a set of intents; never more than ten times that, for it reads 2,000.
"""

from __future__ import annotations

import io
import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from appliance.language_id.features import BOUNDARY, Codes, bins, units_of
from appliance.language_id.scripts import NONE, script_table

LONGEST = 2000
BITS = 15
NO_INTENT = "none"
"""The name under which a tenant gives examples of what is none of its intents."""
_FORMAT = 1


class Recognised(Struct, frozen=True):
    """``intent`` None: none of them, or not sure. ``confidence`` is the calibrated probability of the best guess."""

    intent: str | None
    confidence: float


_NOTHING = Recognised(None, 0.0)


class NotAModel(ValueError):
    """The bytes are no intent model of this release; the text says what to do."""


def alphabet() -> Codes:
    """65,536 numbers by UTF-16 unit: a letter's own, of whatever script, and ``BOUNDARY`` for what is none."""
    found: Codes = np.where(script_table() != NONE, np.arange(65536), BOUNDARY).astype(np.uint32)
    return found


def letters(text: str, known: Codes) -> Codes:
    """The letters of ``text`` that are in ``known``, with one boundary before, between and after words."""
    units = units_of(text[:LONGEST])
    padded = np.empty(len(units) + 2, dtype=np.uint32)
    padded[0] = padded[-1] = BOUNDARY
    known.take(units, out=padded[1:-1], mode="clip")  # no unit is past the end, and to check costs a copy
    kept = padded.astype(bool)
    kept[1:] |= kept[:-1]  # a letter, and what follows one
    kept[0] = True
    found: Codes = padded.compress(kept)
    return found


class Classifier:
    """The weights (bins × labels), and the threshold below which an answer is none."""

    def __init__(
        self, labels: tuple[str, ...], weights: NDArray[np.float32], bias: NDArray[np.float32], threshold: float
    ) -> None:
        self.labels = labels
        self.threshold = threshold
        # rows of eight or sixteen: whole cache lines, and no ragged end for the vector unit
        self._weights = np.zeros((len(weights), -(-len(labels) // 8) * 8), dtype=np.float32)
        self._weights[:, : len(labels)] = weights
        self._bias = [float(b) for b in bias]
        self._bits = len(weights).bit_length() - 1
        self._known = alphabet()
        self._ones = np.ones(4 * LONGEST + 8, dtype=np.float32)

    def probabilities(self, text: str) -> list[float]:
        """Of each label; empty for a text without letters."""
        found = letters(text, self._known)
        if len(found) <= 1:
            return []
        weights = self._weights.take(bins(found, self._bits), axis=0)
        n = len(weights)
        total = (self._ones[:n] @ weights).tolist()
        scale = 1.0 / math.sqrt(n)
        logits = [t * scale + b for t, b in zip(total, self._bias, strict=False)]
        top = max(logits)
        odds = [math.exp(x - top) for x in logits]
        whole = sum(odds)
        return [o / whole for o in odds]

    def recognise(self, text: str) -> Recognised:
        """The intent of ``text``; any string is taken."""
        probabilities = self.probabilities(text)
        if not probabilities:
            return _NOTHING
        best = max(probabilities)
        label = self.labels[probabilities.index(best)]
        sure = best >= self.threshold and label != NO_INTENT
        return Recognised(label if sure else None, round(best, 4))

    def to_bytes(self) -> bytes:
        """As a file: int8 with one scale a label."""
        weights = self._weights[:, : len(self.labels)]
        scales = np.maximum(np.abs(weights).max(axis=0), 1e-9) / 127.0
        out = io.BytesIO()
        np.savez_compressed(
            out,
            format=np.array(_FORMAT),
            labels=np.array(self.labels),
            weights=np.round(weights / scales).astype(np.int8),
            scales=scales.astype(np.float32),
            bias=np.array(self._bias, dtype=np.float32),
            threshold=np.array(self.threshold),
        )
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Classifier:
        """What ``to_bytes`` wrote. Raises NotAModel."""
        again = "train it again with `appliance policy train-intents`"
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                if int(file["format"]) != _FORMAT:
                    raise NotAModel(f"the intent model is of another release; {again}")
                weights = file["weights"] * file["scales"]
                labels = tuple(file["labels"].tolist())
                return cls(labels, weights.astype(np.float32), file["bias"], float(file["threshold"]))
        except NotAModel:
            raise
        except Exception as e:  # a damaged zip raises whatever its damage leads to
            raise NotAModel(f"the intent model cannot be read ({type(e).__name__}); {again}") from None
