from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from appliance_models.indictrans2.training.batches import Pairs, endless


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    rng = np.random.default_rng(1)
    arrays = {}
    for name in ("source", "target"):
        lengths = rng.integers(2, 30, 500).astype(np.int32)
        arrays |= {name: rng.integers(4, 90, lengths.sum()).astype(np.uint16), f"{name}_lengths": lengths}
    np.savez(tmp_path / "ids.npz", allow_pickle=False, **arrays)
    return Pairs(tmp_path / "ids.npz")


def test_every_pair_once_an_epoch_within_the_budget(pairs: Pairs) -> None:
    batches = pairs.order(seed=3, epoch=0, tokens=200)
    assert sorted(int(i) for rows in batches for i in rows) == list(range(500))
    for rows in batches:
        widest = max(pairs.source.lengths[rows].max(), pairs.target.lengths[rows].max())
        assert widest * len(rows) <= 200


def test_lengths_in_a_batch_are_close(pairs: Pairs) -> None:
    batches = pairs.order(seed=3, epoch=0, tokens=200)
    padded = sum(int(pairs.target.lengths[rows].max()) * len(rows) for rows in batches)
    assert padded < 1.05 * pairs.target.lengths.sum()


def test_the_order_is_the_seed_s_and_the_epoch_s(pairs: Pairs) -> None:
    def first(seed: int, epoch: int) -> list[int]:
        return [int(i) for i in pairs.order(seed, epoch, 200)[0]]

    assert first(3, 0) == first(3, 0)
    assert first(3, 0) != first(3, 1)
    assert first(3, 0) != first(4, 0)


def test_a_run_that_resumes_sees_the_same_batches(pairs: Pairs) -> None:
    whole = endless(pairs, 3, 200, epoch=0, position=0)
    seen = [next(whole) for _ in range(140)]
    epoch, position, _ = seen[89]
    rest = endless(pairs, 3, 200, epoch, position)
    assert [list(next(rest)[2]) for _ in range(50)] == [list(rows) for _, _, rows in seen[90:]]


def test_a_batch_is_padded_left_and_right(pairs: Pairs) -> None:
    rows = np.array([0, 1, 2])
    source, reads, labels = pairs.batch(rows, start=2, pad=1)
    for i, row in enumerate(rows):
        n, m = pairs.source.lengths[row], pairs.target.lengths[row]
        assert source[i, : source.shape[1] - n].eq(1).all() and source[i, -n:].ne(1).all()
        assert labels[i, m:].eq(1).all() and labels[i, :m].ne(1).all()
        assert reads[i, 0] == 2 and reads[i, 1:].equal(labels[i, :-1])
