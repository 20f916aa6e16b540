"""The orders in which answers would be sent to the strong model: the judge's and those it has to beat.

What it is: one score a case for each method, larger means sooner. ``judge`` and ``judge by hand`` come from
``appliance policy score`` in a process of its own; ``knn`` and ``static per intent`` learn from the other folds of the
file and see the prompt only; ``oracle`` knows the answers; ``random`` knows nothing.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance_bench.routing_data import Case

Floats = NDArray[np.float64]
FOLDS = 5
_NEIGHBOURS = 20
_HASHED = 4096
_ORDERS = (2, 3, 4)


def judged(file: Path, folds: int | None) -> Floats:
    """P(fail) of each line by the judge: as set by hand, or fitted to the other folds. Raises RuntimeError."""
    command = [sys.executable, "-m", "appliance", "policy", "score", str(file)]
    if folds is not None:
        command += ["--folds", str(folds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"appliance policy score ended with {done.returncode}")
    return np.array([msgspec.json.decode(line)["p_fail"] for line in done.stdout.splitlines()], dtype=np.float64)


def fold_of(cases: Sequence[Case]) -> NDArray[np.int64]:
    """Which part each case belongs to; a conversation is in one."""
    return np.array([int(hashlib.sha256(one.group.encode()).hexdigest()[:8], 16) % FOLDS for one in cases])


def static_per_intent(cases: Sequence[Case]) -> Floats:
    """What the strong model gains in the case's intent, in the other folds: the best fixed table there is."""
    folds = fold_of(cases)
    gain = np.array([float(one.strong) - float(one.weak) for one in cases])
    scores = np.zeros(len(cases))
    for k in range(FOLDS):
        sums: dict[str, list[float]] = defaultdict(list)
        for one, value, fold in zip(cases, gain, folds, strict=True):
            if fold != k:
                sums[one.intent].append(value)
        rest = gain[folds != k]
        overall = float(np.mean(rest)) if len(rest) else 0.0
        for place in np.flatnonzero(folds == k):
            known = sums.get(cases[place].intent)
            scores[place] = float(np.mean(known)) if known else overall
    return scores


def knn(cases: Sequence[Case]) -> Floats:
    """How often the weak model failed on the nearest prompts of the other folds, by runs of letters (any script)."""
    folds = fold_of(cases)
    vectors = _vectors([one.prompt for one in cases])
    failed = np.array([float(not one.weak) for one in cases])
    scores = np.zeros(len(cases))
    for k in range(FOLDS):
        inside, outside = np.flatnonzero(folds == k), np.flatnonzero(folds != k)
        if not len(inside) or not len(outside):
            continue
        most = min(_NEIGHBOURS, len(outside))
        for start in range(0, len(inside), 512):
            some = inside[start : start + 512]
            near = vectors[some] @ vectors[outside].T
            nearest = np.argpartition(-near, most - 1, axis=1)[:, :most]
            weight = np.maximum(np.take_along_axis(near, nearest, axis=1), 1e-6)
            scores[some] = (weight * failed[outside][nearest]).sum(axis=1) / weight.sum(axis=1)
    return scores


def oracle(cases: Sequence[Case]) -> Floats:
    """First where the strong model is right and the weak one is not, last where it is the other way round."""
    return np.array([float(one.strong) - float(one.weak) for one in cases])


def oracle_risk(cases: Sequence[Case]) -> Floats:
    """The order that keeps wrong answers longest away: wrong ones first."""
    return np.array([float(not one.weak) for one in cases])


def _vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """Hashed runs of 2 to 4 letters, weighted by how rare they are, of length one."""
    counted = [
        Counter(
            int.from_bytes(hashlib.blake2b(text[i : i + n].encode("utf-8", "replace"), digest_size=4).digest(), "big")
            % _HASHED
            for n in _ORDERS
            for i in range(len(text) - n + 1)
        )
        for text in (f" {text[:500].casefold()} " for text in texts)
    ]
    found = np.zeros((len(texts), _HASHED), dtype=np.float32)
    for row, counts in enumerate(counted):
        for column, number in counts.items():
            found[row, column] = np.log1p(number)
    rarity = np.log(len(texts) / np.maximum((found > 0).sum(axis=0), 1.0)).astype(np.float32)
    found *= rarity
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.where(length > 0, length, 1.0), dtype=np.float32)
