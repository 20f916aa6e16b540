"""Train ``appliance/language_id/model.npz``: ``make train-language-id DATA=…/en-indic.tsv.xz``.

What it is: softmax regression over hashed n-grams, one table a script, by AdaGrad in NumPy with everything drawn from
one seed; then one temperature a table from the development part, and int8.
What it refuses to be: in need of a GPU or a framework. What it costs: a few minutes on one core.
"""

from __future__ import annotations

import argparse
import random
import re
import time
import unicodedata
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
from corpus import Corpus, Sample, read, seeds
from numpy.typing import NDArray

from appliance.language_id.features import bins, symbols, units_of
from appliance.language_id.model import MODEL
from appliance.language_id.scripts import SCRIPTS, script_table

BITS = {"Deva": 15, "Beng": 14, "Arab": 14, "Latn": 15}
THRESHOLD = 0.5
_EPOCHS = 8
_BATCH = 128
_RATE = 0.5
_DECAY = 1e-6
# texts an epoch and class; classes with little data of their own get fewer, so that they are not guessed too often
_A_CLASS, _A_RARE_CLASS, _RARE = 10_000, 3_000, 1_000
# how often a text is a seed, and how often one of the data is cut to a few words of it
_SEEDED, _CUT = 0.4, 0.7
_KINDS = script_table()
# letters that Unicode has whole but NFC keeps apart
_WHOLE = {
    unicodedata.normalize("NFC", whole): whole for whole in map(chr, (*range(0x0958, 0x0960), 0x09DC, 0x09DD, 0x09DF))
}
_NUKTA = re.compile("|".join(_WHOLE))


class Trained:
    """One script's weights while they are learned."""

    def __init__(self, script: str, labels: list[str]) -> None:
        self.script, self.labels, self.bits = script, labels, BITS[script]
        self.weights = np.zeros((1 << self.bits, len(labels)), dtype=np.float32)
        self.bias = np.zeros(len(labels), dtype=np.float32)
        self._squares = np.full_like(self.weights, 1e-6)
        self._bias_squares = np.full_like(self.bias, 1e-6)
        self._number = SCRIPTS.index(script)

    def features(self, text: str) -> NDArray[np.uint32] | None:
        """Bins of ``text``; None where it has no letter of the script."""
        units = units_of(text)
        kinds = _KINDS.take(units)
        if not (kinds == self._number).any():
            return None
        return bins(symbols(units, kinds, self._number), self.bits)

    def logits(self, batch: list[NDArray[np.uint32]]) -> NDArray[np.float32]:
        """Texts × labels."""
        sizes = np.array([len(one) for one in batch])
        starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
        sums = np.add.reduceat(self.weights[np.concatenate(batch)], starts, axis=0)
        scaled: NDArray[np.float32] = sums / np.sqrt(sizes, dtype=np.float32)[:, None] + self.bias
        return scaled

    def learn(self, batch: list[NDArray[np.uint32]], truth: NDArray[np.int64]) -> float:
        """One step of AdaGrad; the mean loss before it."""
        chance = softmax(self.logits(batch))
        picked = chance[np.arange(len(truth)), truth]
        chance[np.arange(len(truth)), truth] -= 1.0
        sizes = np.array([len(one) for one in batch])
        each = np.repeat(chance / np.sqrt(sizes, dtype=np.float32)[:, None], sizes, axis=0)
        where, inverse = np.unique(np.concatenate(batch), return_inverse=True)
        step = np.stack([np.bincount(inverse, each[:, k], len(where)) for k in range(each.shape[1])], axis=1)
        step = step.astype(np.float32) / len(batch) + _DECAY * self.weights[where]
        self._squares[where] += step * step
        self.weights[where] -= _RATE * step / np.sqrt(self._squares[where])
        mean = chance.mean(axis=0)
        self._bias_squares += mean * mean
        self.bias -= 0.1 * _RATE * mean / np.sqrt(self._bias_squares)
        return float(-np.log(np.maximum(picked, 1e-9)).mean())


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows that sum to one."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    chance: NDArray[np.float32] = odds / odds.sum(axis=1, keepdims=True)
    return chance


def cut(text: str, rng: random.Random) -> str:
    """A few words of ``text`` in a row."""
    words = text.split()
    length = rng.randint(1, 6)
    start = rng.randint(0, max(0, len(words) - length))
    return " ".join(words[start : start + length])


def respelled(text: str, rng: random.Random) -> str:
    """``text`` composed, decomposed, or with the nukta letters that composition leaves apart: all three are met."""
    form = rng.random()
    if form < 0.15:
        return unicodedata.normalize("NFD", text)
    text = unicodedata.normalize("NFC", text)
    return text if form < 0.6 else _NUKTA.sub(lambda pair: _WHOLE[pair[0]], text)


class Source:
    """Texts of one class, drawn without end."""

    def __init__(self, texts: list[str], phrases: list[str], english: list[str], label: str, script: str) -> None:
        self._texts, self._phrases, self._english, self._label = texts, phrases, english, label
        self._romanised = script == "Latn" and label not in ("", "eng_Latn")

    def draw(self, rng: random.Random) -> str:
        """One text, whole, cut, or put together from seeds; romanised ones sometimes with English words between."""
        if self._phrases and (not self._texts or rng.random() < _SEEDED):
            text = " ".join(rng.choice(self._phrases) for _ in range(rng.randint(1, 3)))
            if rng.random() < _CUT:
                text = cut(text, rng)
        else:
            text = rng.choice(self._texts)
            if rng.random() < _CUT:
                text = cut(text, rng)
        if self._romanised and rng.random() < 0.4:
            text = self._mix(text, rng)
        return respelled(text, rng)

    def _mix(self, text: str, rng: random.Random) -> str:
        words = text.split()
        borrowed = rng.choice(self._english).split()
        for _ in range(rng.randint(1, max(1, len(words) // 2))):
            words.insert(rng.randint(0, len(words)), rng.choice(borrowed) if borrowed else "")
        return " ".join(words)


def train(script: str, corpus: Corpus, seed: int, epochs: int) -> Trained:
    """Learn ``script``'s table."""
    phrases = {label: found for (where, label), found in seeds().items() if where == script}
    by_label: dict[str, list[str]] = {}
    for sample in corpus.train:
        if sample.script == script:
            by_label.setdefault(sample.label, []).append(sample.text)
    labels = sorted({*by_label, *phrases})
    rng = random.Random(f"{seed} {script}")
    english = by_label.get("eng_Latn", [])
    sources = [Source(by_label.get(x, []), phrases.get(x, []), english, x, script) for x in labels]
    table = Trained(script, labels)
    wanted = [_A_RARE_CLASS if len(by_label.get(x, [])) < _RARE else _A_CLASS for x in labels]
    for epoch in range(epochs):
        order = [k for k, n in enumerate(wanted) for _ in range(n)]
        rng.shuffle(order)
        loss, steps, began_s = 0.0, 0, time.monotonic()
        batch: list[NDArray[np.uint32]] = []
        truth: list[int] = []
        for k in order:
            found = table.features(sources[k].draw(rng))
            if found is None:
                continue
            batch.append(found)
            truth.append(k)
            if len(batch) == _BATCH:
                loss += table.learn(batch, np.array(truth))
                steps += 1
                batch, truth = [], []
        print(f"{script} epoch {epoch + 1}: loss {loss / steps:.4f}, {time.monotonic() - began_s:.0f} s", flush=True)
    return table


def temperature(table: Trained, dev: list[Sample], seed: int) -> float:
    """What the logits are divided by so that confidence is as often right as it says: least loss, texts cut as well."""
    rng = random.Random(f"{seed} {table.script} temperature")
    batch, truth = [], []
    for sample in dev:
        if sample.script != table.script or sample.label not in table.labels:
            continue
        for text in (sample.text, cut(sample.text, rng)):
            found = table.features(text)
            if found is not None:
                batch.append(found)
                truth.append(table.labels.index(sample.label))
    logits, right = table.logits(batch).astype(np.float64), np.array(truth)
    # classes differ in size by a hundred; each counts the same
    weight = 1.0 / np.bincount(right, minlength=len(table.labels))[right]

    def loss(divisor: float) -> float:
        scaled = logits / divisor
        top = scaled.max(axis=1)
        whole = np.log(np.exp(scaled - top[:, None]).sum(axis=1)) + top
        return float(np.average(whole - scaled[np.arange(len(right)), right], weights=weight))

    return min((round(0.5 + 0.05 * step, 2) for step in range(51)), key=loss)


def quantise(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 and what to multiply it by; a few outliers are cut off so that the many keep their steps."""
    scales = np.maximum(np.quantile(np.abs(weights), 0.9995, axis=0), 1e-6).astype(np.float32) / 127.0
    return np.clip(np.rint(weights / scales), -127, 127).astype(np.int8), scales


def write(path: Path, arrays: dict[str, NDArray[np.generic]]) -> int:
    """An ``.npz`` without a clock in it: the same arrays give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(arrays):
            buffer = BytesIO()
            np.save(buffer, arrays[name], allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_DEFLATED, 9)
    return path.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="en-indic.tsv.xz: tag, English, Indic")
    parser.add_argument("--out", type=Path, default=MODEL)
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--epochs", type=int, default=_EPOCHS)
    options = parser.parse_args()
    corpus = read(options.data, options.seed)
    print(f"{len(corpus.train)} texts to train on, {len(corpus.dev)} for temperatures, {len(corpus.test)} held out")
    arrays: dict[str, NDArray[np.generic]] = {"scripts": np.array(sorted(BITS)), "threshold": np.array(THRESHOLD)}
    for script in BITS:
        table = train(script, corpus, options.seed, options.epochs)
        divisor = temperature(table, corpus.dev, options.seed)
        print(f"{script}: {len(table.labels)} classes, temperature {divisor}")
        quantised, scales = quantise(table.weights)
        arrays[f"{script}_labels"] = np.array(table.labels)
        arrays[f"{script}_weights"] = quantised
        arrays[f"{script}_scales"] = (scales / divisor).astype(np.float32)
        arrays[f"{script}_bias"] = (table.bias / divisor).astype(np.float32)
    print(f"{options.out}: {write(options.out, arrays)} bytes")


if __name__ == "__main__":
    main()
