"""Batches of nearly equal lengths, in an order that a seed and an epoch number decide.

What it is: pairs sorted by both lengths and cut so that a batch holds at most so many target tokens, padding included;
most batches of short sentences then have no padding at all. The order of batches is shuffled.
What it refuses to be: a loader with workers; a batch of 1,500 tokens takes under a millisecond to make.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ints = npt.NDArray[np.int64]


class Rows:
    """Sequences of ids, stored end to end."""

    def __init__(self, ids: npt.NDArray[np.uint16], lengths: npt.NDArray[np.int32]) -> None:
        self.ids = ids
        self.lengths: Ints = lengths.astype(np.int64)
        self.starts: Ints = np.concatenate([[0], np.cumsum(self.lengths)])

    def padded(self, rows: Ints, left: bool, pad: int) -> Ints:
        """The named rows as one matrix."""
        width = int(self.lengths[rows].max())
        out = np.full((len(rows), width), pad, np.int64)
        for i, row in enumerate(rows):
            ids = self.ids[self.starts[row] : self.starts[row + 1]]
            if left:
                out[i, width - len(ids) :] = ids
            else:
                out[i, : len(ids)] = ids
        return out


class Pairs:
    """Sources and targets of one direction and part."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self.source = Rows(arrays["source"], arrays["source_lengths"])
            self.target = Rows(arrays["target"], arrays["target_lengths"])

    def __len__(self) -> int:
        return len(self.source.lengths)

    def order(self, seed: int, epoch: int, tokens: int) -> list[Ints]:
        """The epoch's batches, as row numbers."""
        rng = np.random.default_rng([seed, epoch])
        by_length = np.lexsort((rng.random(len(self)), self.source.lengths, self.target.lengths))
        longest = np.maximum(self.source.lengths, self.target.lengths)[by_length]
        batches, start = [], 0
        while start < len(by_length):
            widest = np.maximum.accumulate(longest[start : start + tokens])
            fits = int((widest * np.arange(1, len(widest) + 1) <= tokens).sum())
            batches.append(by_length[start : start + max(fits, 1)])
            start += max(fits, 1)
        return [batches[i] for i in rng.permutation(len(batches))]

    def batch(self, rows: Ints, start: int, pad: int) -> tuple[Tensor, Tensor, Tensor]:
        """Left-padded sources, what the decoder reads (from the start token on), and what it should write."""
        labels = self.target.padded(rows, left=False, pad=pad)
        reads = np.concatenate([np.full((len(rows), 1), start), labels[:, :-1]], axis=1)
        source = self.source.padded(rows, left=True, pad=pad)
        return torch.from_numpy(source), torch.from_numpy(reads), torch.from_numpy(labels)


def endless(pairs: Pairs, seed: int, tokens: int, epoch: int, position: int) -> Iterator[tuple[int, int, Ints]]:
    """Epoch, position after it, and rows, of every batch from a given place on."""
    while True:
        batches = pairs.order(seed, epoch, tokens)
        for i in range(position, len(batches)):
            yield epoch, i + 1, batches[i]
        epoch, position = epoch + 1, 0
