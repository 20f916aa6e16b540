"""The weights: one table a script that several languages share.

What it is: a linear model over hashed n-grams for Devanagari, Bengali, Perso-Arabic and Latin letters, read from
``model.npz`` beside this file, and the temperature and threshold that make its confidence mean what it says.
What it refuses to be: trainable. ``models/language_id`` makes the file; its card says from what and how good it is.
What it costs: 10 ms and 8 MB to load, once.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.language_id.features import Codes, bins

MODEL = Path(__file__).with_name("model.npz")
# a class for what is none of the appliance's languages
UNKNOWN = ""


class Scores(NamedTuple):
    """Probabilities by class of a ``Table``, and each n-gram's weights (n-grams × classes) for a look at words."""

    probabilities: list[float]
    weights: NDArray[np.float32]


class Table:
    """One script's classifier. ``labels`` are tags, or ``UNKNOWN``; ``weights`` are 2**bits × classes."""

    def __init__(self, labels: tuple[str, ...], weights: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
        self.labels = labels
        self._weights = weights
        self._bits = len(weights).bit_length() - 1
        self._bias = [float(b) for b in bias]
        self._ones = np.ones(1024, dtype=np.float32)

    def scores(self, found: Codes) -> Scores:
        """What the letters of ``found`` (from ``features.symbols``) say."""
        weights = self._weights.take(bins(found, self._bits), axis=0)
        n = len(weights)
        if n > len(self._ones):
            self._ones = np.ones(2 * n, dtype=np.float32)
        total = (self._ones[:n] @ weights).tolist()
        scale = 1.0 / math.sqrt(n)
        logits = [t * scale + b for t, b in zip(total, self._bias, strict=False)]
        top = max(logits)
        odds = [math.exp(x - top) for x in logits]
        whole = sum(odds)
        return Scores([o / whole for o in odds], weights)


class Model(NamedTuple):
    """Tables by script code; an answer below ``threshold`` is none."""

    tables: dict[str, Table]
    threshold: float


def load(path: Path = MODEL) -> Model:
    """The model of ``path``: weights are stored as int8 with one scale a class, the temperature worked in."""
    tables = {}
    with np.load(path, allow_pickle=False) as file:
        for script in file["scripts"].tolist():
            labels = tuple(file[f"{script}_labels"].tolist())
            quantised = file[f"{script}_weights"]
            # rows of eight or sixteen: whole cache lines, and no ragged end for the vector unit
            width = 8 if len(labels) <= 8 else 16
            weights = np.zeros((len(quantised), width), dtype=np.float32)
            weights[:, : len(labels)] = quantised * file[f"{script}_scales"]
            tables[script] = Table(labels, weights, file[f"{script}_bias"])
        return Model(tables, float(file["threshold"]))
