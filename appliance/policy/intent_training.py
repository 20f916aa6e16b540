"""An intent classifier from a tenant's example utterances, and how good it is on those it has not seen.

What it is: softmax regression on the n-grams of ``intents``, a second for a thousand examples;
``cross_validate`` splits the examples into folds, trains on all others and asks about each, which also gives the
temperature and the threshold of the final model.
What it refuses to be: flattering. Texts that differ only in case, digits or signs stay in one fold, and an abstention
counts as a miss.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from appliance.language_id.features import bins
from appliance.policy.intents import BITS, NO_INTENT, Classifier, alphabet, letters

Floats = NDArray[np.float32]
FEWEST = 5
"""Examples that an intent needs at least."""
MOST = 5000
"""Examples that are trained with at most: the products of each two have to fit into 100 MB."""
_ROUNDS, _RIDGE = 200, 0.03
_COMMON = 0.3  # the weight of an n-gram that every example has
_AT_ONCE = 4096
_RIGHT = 0.9
"""The share of right answers that the threshold is set for, where nobody sets it."""


class Example(Struct, frozen=True):
    """One utterance and what it wants."""

    intent: str
    text: str


class PerIntent(Struct, frozen=True):
    """How one intent is recognised on held-out examples; abstentions count as misses."""

    intent: str
    examples: int
    precision: float
    recall: float
    f1: float


class Held(Struct, frozen=True):
    """What cross-validation found. ``right``: the share of right answers among those given.

    ``none_kept``: the share of the examples of no intent that were given none; None without such examples.
    ``confused``: the most frequent mistakes, as (said, meant, times).
    """

    folds: int
    examples: int
    macro_f1: float
    macro_f1_without_abstaining: float
    abstained: float
    right: float
    none_kept: float | None
    temperature: float
    threshold: float
    intents: tuple[PerIntent, ...]
    confused: tuple[tuple[str, str, int], ...] = ()


def train(
    examples: Sequence[Example], temperature: float = 1.0, threshold: float = 0.5, bits: int = BITS
) -> Classifier:
    """A classifier of ``examples``. The same examples give the same one."""
    labels = tuple(sorted({example.intent for example in examples}))
    wanted = np.array([labels.index(example.intent) for example in examples])
    known = alphabet()
    features = _Features([bins(letters(example.text, known), bits) for example in examples], 1 << bits)
    weights = features.weights(_fit(features.products(), wanted, len(labels))) / np.float32(temperature)
    return Classifier(labels, weights, np.zeros(len(labels), dtype=np.float32), threshold)


class _Features:
    """N-grams by example, each as often as it occurs ÷ √n and × how rare it is."""

    def __init__(self, rows: Sequence[NDArray[np.uint32]], size: int) -> None:
        self._size, self._examples = size, len(rows)
        counted = [np.unique(row, return_counts=True) for row in rows]
        self._bins = np.concatenate([found for found, _ in counted]).astype(np.int64)
        self._rows = np.repeat(np.arange(len(rows)), [len(found) for found, _ in counted])
        scales = [1.0 / math.sqrt(max(len(row), 1)) for row in rows]
        values = [times * scale for (_, times), scale in zip(counted, scales, strict=True)]
        self._seen = np.bincount(self._bins, minlength=size)
        rare = (np.log((1.0 + len(rows)) / (1.0 + self._seen)) + _COMMON).astype(np.float32)
        self._rare = rare[self._bins]
        self._values = np.concatenate(values).astype(np.float32) * self._rare

    def products(self) -> Floats:
        """Of each two examples. What only one example has, half of all, is in its own square alone."""
        shared = self._seen[self._bins] > 1
        squares = np.bincount(self._rows[~shared], self._values[~shared] ** 2, self._examples)
        total = np.diag(squares.astype(np.float32))
        columns, places = np.unique(self._bins[shared], return_inverse=True)
        rows, values = self._rows[shared], self._values[shared]
        for start in range(0, len(columns), _AT_ONCE):
            here = (places >= start) & (places < start + _AT_ONCE)
            part = np.zeros((self._examples, min(_AT_ONCE, len(columns) - start)), dtype=np.float32)
            part[rows[here], places[here] - start] = values[here]
            total += part @ part.T
        return total

    def weights(self, shares: Floats) -> Floats:
        """Of the bins, from each example's share in the answer."""
        out = np.zeros((self._size, shares.shape[1]), dtype=np.float32)
        np.add.at(out, self._bins, (self._values * self._rare)[:, None] * shares[self._rows])
        return out


def _fit(products: Floats, wanted: NDArray[np.int64], classes: int) -> Floats:
    """Softmax regression with a ridge, in the examples' own space (Nesterov's method with its fixed step)."""
    right = np.eye(classes, dtype=np.float32)[wanted]
    # every intent weighs the same, however many examples of it there are
    counts = np.bincount(wanted, minlength=classes)
    weight = (len(wanted) / (classes * counts[wanted])).astype(np.float32)[:, None]
    step = 1.0 / (_largest(products) * 0.5 * float(weight.max()) + _RIDGE)
    shares = ahead = np.zeros_like(right)
    momentum = 1.0
    for _ in range(_ROUNDS):
        logits = products @ ahead
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        slope = (odds / odds.sum(axis=1, keepdims=True) - right) * weight + np.float32(_RIDGE) * ahead
        moved = ahead - np.float32(step) * slope
        faster = (1.0 + math.sqrt(1.0 + 4.0 * momentum * momentum)) / 2.0
        ahead = moved + np.float32((momentum - 1.0) / faster) * (moved - shares)
        shares, momentum = moved, faster
    return shares


def _largest(products: Floats) -> float:
    """The largest eigenvalue, from above: the largest sum of a row, of numbers that are none of them negative."""
    return float(products.sum(axis=1).max())


def cross_validate(examples: Sequence[Example], folds: int = 5, seed: int = 0, threshold: float | None = None) -> Held:
    """How a classifier does on examples it was not trained with. ``threshold`` None: found here."""
    place = _folds(examples, folds, seed)
    labels = tuple(sorted({example.intent for example in examples}))
    told: list[list[float]] = [[] for _ in examples]
    for fold in range(folds):
        model = train([e for e, at in zip(examples, place, strict=True) if at != fold])
        for number, example in enumerate(examples):
            if place[number] == fold:
                found = dict(zip(model.labels, model.probabilities(example.text), strict=False))
                told[number] = [found.get(label, 0.0) for label in labels]
    meant = [labels.index(example.intent) for example in examples]
    temperature = _temperature(told, meant)
    sharp = [_sharpened(one, temperature) for one in told]
    at = _threshold(sharp, meant, labels) if threshold is None else threshold
    return _held(sharp, meant, labels, folds, temperature, at)


def _folds(examples: Sequence[Example], folds: int, seed: int) -> list[int]:
    """The fold of each example: spread evenly over each intent, alike texts together."""
    rng = np.random.default_rng(seed)
    groups: dict[tuple[str, str], int] = {}
    next_of: Counter[str] = Counter()
    place = [0] * len(examples)
    for i in rng.permutation(len(examples)):
        example = examples[int(i)]
        key = (example.intent, _alike(example.text))
        if key not in groups:
            groups[key] = next_of[example.intent] % folds
            next_of[example.intent] += 1
        place[int(i)] = groups[key]
    return place


def _alike(text: str) -> str:
    return "".join(c for c in text.casefold() if unicodedata.category(c)[0] in "LM")


def _sharpened(probabilities: Sequence[float], temperature: float) -> list[float]:
    powers = [max(p, 1e-12) ** (1.0 / temperature) for p in probabilities]
    whole = sum(powers) or 1.0
    return [p / whole for p in powers]


def _temperature(told: Sequence[Sequence[float]], meant: Sequence[int]) -> float:
    """The one that makes held-out answers most likely, of forty."""

    def loss(temperature: float) -> float:
        return -sum(
            math.log(max(_sharpened(one, temperature)[label], 1e-12))
            for one, label in zip(told, meant, strict=True)
            if one
        )

    return min((0.25 * 1.1**k for k in range(40)), key=loss)


def _threshold(told: Sequence[Sequence[float]], meant: Sequence[int], labels: Sequence[str]) -> float:
    """The lowest from which on enough of the answers are right."""
    answers = sorted(
        ((max(one), one.index(max(one)) == label) for one, label in zip(told, meant, strict=True) if one),
        reverse=True,
    )
    right, lowest = 0, 0.99
    for given, (confidence, good) in enumerate(answers, 1):
        right += good
        if right >= _RIGHT * given:
            lowest = confidence
    return round(min(max(lowest, 1.0 / max(len(labels), 2)), 0.99), 3)


def _held(
    told: Sequence[Sequence[float]],
    meant: Sequence[int],
    labels: Sequence[str],
    folds: int,
    temperature: float,
    threshold: float,
) -> Held:
    guesses = [one.index(max(one)) if one else -1 for one in told]
    answers = [guess if one and max(one) >= threshold else -1 for guess, one in zip(guesses, told, strict=True)]
    none = labels.index(NO_INTENT) if NO_INTENT in labels else -1
    given = [(a, m) for a, m in zip(answers, meant, strict=True) if a not in (-1, none)]
    nones = [a for a, m in zip(answers, meant, strict=True) if m == none and none >= 0]
    wrong = Counter((labels[a], labels[m]) for a, m in given if a != m)
    intents = _per_intent(answers, meant, labels, none)
    free = _per_intent(guesses, meant, labels, none)
    asked = [a for a, m in zip(answers, meant, strict=True) if m != none or none < 0]
    return Held(
        folds=folds,
        examples=len(meant),
        macro_f1=_mean([one.f1 for one in intents]),
        macro_f1_without_abstaining=_mean([one.f1 for one in free]),
        abstained=sum(a in (-1, none) for a in asked) / max(len(asked), 1),
        right=sum(a == m for a, m in given) / max(len(given), 1),
        none_kept=sum(a in (-1, none) for a in nones) / len(nones) if nones else None,
        temperature=round(temperature, 4),
        threshold=threshold,
        intents=intents,
        confused=tuple((said, meant_, times) for (said, meant_), times in wrong.most_common(5)),
    )


def _per_intent(
    answers: Sequence[int], meant: Sequence[int], labels: Sequence[str], none: int
) -> tuple[PerIntent, ...]:
    found = []
    for number, label in enumerate(labels):
        if number == none:
            continue
        hits = sum(a == m == number for a, m in zip(answers, meant, strict=True))
        said, there = answers.count(number), meant.count(number)
        precision, recall = hits / said if said else 0.0, hits / there
        f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
        found.append(PerIntent(label, there, precision, recall, f1))
    return tuple(found)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
