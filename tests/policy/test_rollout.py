"""Rollouts: who gets the new version, and that one which does worse is stopped and one which does not is not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.policy.rollout import Counts, Ended, Loaded, accepted, chosen, counted, in_share, stopped, verdict
from appliance.policy.values import BUILT_IN, Policy, Rollout

OLD = Policy(version="old")
NEW = Policy(version="new", rollout=Rollout(share=0.2))
RULE = Rollout(share=0.2)


def test_a_share_of_conversations_gets_the_new_version_and_keeps_it() -> None:
    loaded = accepted(Loaded(OLD), NEW, 5)
    assert (loaded.stable, loaded.trial, loaded.since_ms) == (OLD, NEW, 5)
    versions = [chosen(loaded, "t", f"conv_{n}").version for n in range(5000)]
    assert 0.18 < versions.count("new") / 5000 < 0.22
    assert versions == [chosen(loaded, "t", f"conv_{n}").version for n in range(5000)]
    assert chosen(loaded, "t", "") is OLD


@given(st.text(max_size=20), st.text(max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_holds_every_smaller_one(tenant: str, conversation: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert in_share(large, tenant, conversation) or not in_share(small, tenant, conversation)
    assert in_share(1.0, tenant, conversation) and not in_share(0.0, tenant, conversation)


def test_a_version_for_everybody_ends_the_trial_and_the_old_one_read_again_does_too() -> None:
    trial = accepted(Loaded(OLD), NEW, 5)
    whole = Policy(version="whole")
    assert accepted(trial, whole, 9) == Loaded(whole)
    assert accepted(trial, OLD, 9) == Loaded(OLD)
    assert accepted(trial, NEW, 9) is trial


def test_a_stopped_version_decides_for_nobody_and_is_not_begun_again_by_reading_it_again() -> None:
    loaded = stopped(accepted(Loaded(OLD), NEW, 5), "it was worse")
    assert all(chosen(loaded, "t", f"conv_{n}") is OLD for n in range(100))
    assert accepted(loaded, NEW, 9) is loaded
    other = Policy(version="newer", rollout=RULE)
    assert accepted(loaded, other, 9) == Loaded(OLD, other, 9)


def test_before_anything_was_accepted_the_built_in_policy_stands_beside_the_trial() -> None:
    assert accepted(Loaded(), NEW, 5).stable is BUILT_IN


def test_conversations_are_counted_on_the_side_that_decided_them() -> None:
    rows = [Ended("t", f"conv_{n}", n % 10 == 0, 100) for n in range(1000)]
    under, beside = counted(NEW, rows)
    assert under.ended + beside.ended == 1000
    assert under.ended == sum(in_share(0.2, "t", row.id) for row in rows)
    assert (under.cost_nusd, under.cost_squares) == (100 * under.ended, 10_000.0 * under.ended)
    assert under.unresolved + beside.unresolved == 100


def counts(n: int, unresolved: float, cost: float = 100.0, spread: float = 50.0) -> Counts:
    return Counts(n, round(n * unresolved), round(n * cost), n * (cost * cost + spread * spread))


@pytest.mark.parametrize(
    ("trial", "stable", "expected"),
    [
        (counts(199, 0.9), counts(9000, 0.1), None),  # too few to say
        (counts(9000, 0.9), counts(199, 0.1), None),
        (counts(400, 0.11), counts(4000, 0.1), None),
        (counts(400, 0.2), counts(4000, 0.1), "20.0 % of its 400 conversations are unresolved, against 10.0 % of 4000"),
        (counts(400, 0.05), counts(4000, 0.1), None),  # better is no reason
        (counts(400, 0.1, 102), counts(4000, 0.1), None),
        (counts(400, 0.1, 150), counts(4000, 0.1), "a conversation costs 0.000000 USD more"),
        (counts(400, 0.0), counts(4000, 0.0), None),
        (counts(400, 1.0), counts(4000, 1.0), None),
    ],
)
def test_what_is_worse_beyond_chance_is_stopped(trial: Counts, stable: Counts, expected: str | None) -> None:
    found = verdict(trial, stable, RULE)
    assert (found is None) == (expected is None)
    assert expected is None or (found is not None and found.startswith(expected))


def test_looking_all_the_time_rarely_stops_a_version_that_is_no_worse_and_soon_one_that_is() -> None:
    """Somebody looks after every hundred conversations, for 6,400 of them."""

    def looked(rate: float, seed: int) -> int | None:
        rng = random.Random(seed)
        trial, stable = Counts(), Counts()
        for n in range(100, 6401, 100):
            trial = add(trial, rng, rate)
            for _ in range(4):
                stable = add(stable, rng, 0.15)
            if verdict(trial, stable, RULE) is not None:
                return n
        return None

    def add(so_far: Counts, rng: random.Random, rate: float) -> Counts:
        bad = sum(rng.random() < rate for _ in range(100))
        costs = [int(rng.expovariate(1e-6)) for _ in range(100)]
        squares = so_far.cost_squares + sum(float(c) ** 2 for c in costs)
        return Counts(so_far.ended + 100, so_far.unresolved + bad, so_far.cost_nusd + sum(costs), squares)

    no_worse = [looked(0.15, seed) for seed in range(40)]
    assert sum(stop is not None for stop in no_worse) <= 6
    worse = [looked(0.25, seed) for seed in range(20)]
    assert all(stop is not None and stop <= 1600 for stop in worse)
