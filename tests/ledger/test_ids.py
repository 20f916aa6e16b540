"""Ids sort by time and never meet."""

from __future__ import annotations

from appliance.ledger import HexPool, new_id


def test_ids_sort_by_time_whatever_the_random_part() -> None:
    earlier = new_id("key", 1_700_000_000_000, lambda _: "f" * 16)
    later = new_id("key", 1_700_000_000_001, lambda _: "0" * 16)
    assert earlier == "key_018bcfe56800ffffffffffffffff"
    assert earlier < later


def test_ids_of_one_millisecond_differ() -> None:
    assert len({new_id("req", 1) for _ in range(1000)}) == 1000


def test_pooled_random_parts_have_their_length_and_never_repeat() -> None:
    pool = HexPool()
    parts = [pool(8) for _ in range(3000)] + [pool(5000)]
    assert {len(part) for part in parts} == {16, 10_000}
    assert len(set(parts)) == len(parts)
