"""Who joins next: the oldest says which length, and bulk waits for as long as it said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.hosts.indictrans_schedule import LENGTHS, TOGETHER, Waiting, at_least


def waiting(*items: tuple[str, int, float], most_tokens: int = 4096) -> Waiting[str]:
    queue: Waiting[str] = Waiting(161, most_tokens)
    for item, length, now in items:
        queue.add(item, length, now)
    return queue


def test_the_oldest_says_which_length_and_others_of_it_go_along() -> None:
    queue = waiting(("long", 100, 0.0), ("short", 5, 1.0), ("longer", 128, 2.0), ("very long", 150, 3.0))
    assert queue.take(8) == (128, ["long", "longer"])
    assert queue.take(8) == (8, ["short"])
    assert queue.take(8) == (161, ["very long"])
    assert queue.take(8) == (0, [])


def test_no_more_than_there_are_slots_and_tokens_for() -> None:
    queue = waiting(*((f"{n}", 60, float(n)) for n in range(200)), most_tokens=200)
    assert queue.take(0) == (0, [])
    assert queue.take(2) == (64, ["0", "1"])
    assert queue.take(50) == (64, ["2", "3", "4"])  # 3 times 64 tokens
    assert len(queue) == 195
    one = waiting(("a", 161, 0.0), most_tokens=20)
    assert one.take(9) == (161, ["a"])  # dearer than allowed: alone, not never
    many = waiting(*((f"{n}", 3, 0.0) for n in range(200)))
    assert len(many.take(200)[1]) == TOGETHER[-1]


def test_patience_lets_younger_ones_pass_and_ends() -> None:
    queue = waiting(("first", 8, 10.0))
    queue.add("bulk", 100, 9.0, patience=2.0)
    queue.add("later", 8, 12.0)
    assert queue.take(1)[1] == ["first"]
    assert queue.take(1)[1] == ["bulk"]
    assert queue.take(1)[1] == ["later"]


def test_who_is_cancelled_is_not_taken() -> None:
    queue = waiting(("a", 8, 0.0), ("b", 8, 1.0), ("c", 99, 2.0))
    assert queue.cancel("a") and queue.cancel("c")
    assert not queue.cancel("a") and not queue.cancel("nobody")
    assert queue.take(9) == (8, ["b"])
    assert len(queue) == 0 and not queue.cancel("b")


@given(
    st.lists(st.tuples(st.integers(1, 161), st.floats(0, 9), st.floats(0, 3)), max_size=60),
    st.lists(st.tuples(st.integers(1, 20), st.integers(0, 80)), max_size=30),
)
def test_each_leaves_once_in_the_order_of_its_length(
    items: list[tuple[int, float, float]], takes: list[tuple[int, int]]
) -> None:
    queue: Waiting[int] = Waiting(161)
    for n, (length, now, patience) in enumerate(items):
        queue.add(n, length, now, patience)
    left = set(range(len(items)))
    for free, cancelled in [*takes, *((64, -1),) * len(items)]:
        assert queue.cancel(cancelled) == (cancelled in left)
        left.discard(cancelled)
        length, taken = queue.take(free)
        assert len(taken) <= free and set(taken) <= left
        assert all(at_least(items[n][0], LENGTHS, 161) == length for n in taken)
        due = [items[n][1] + items[n][2] for n in taken]
        assert due == sorted(due)
        if taken:
            assert due[0] == min(items[n][1] + items[n][2] for n in left)
        left -= set(taken)
    assert not left and len(queue) == 0
