"""The batcher: who goes when (pure queue), and what callers see (asyncio)."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import DeadlineExceeded, EngineUnavailable
from appliance.hosts.batcher import Batcher, BatchQueue, Limits
from appliance.hosts.progress import progress_text
from appliance.hosts.whisper_wire import RANKS, Params


def add(queue: BatchQueue[str], item: str, *, key: str = "k", cost: float = 1.0, now: float = 0.0):
    return queue.add(item, key=key, cost=cost, deadline=math.inf, now=now)


def items(batch):
    return [entry.item for entry in batch]


def test_nothing_is_taken_before_the_wait_is_over():
    queue: BatchQueue[str] = BatchQueue(Limits(4, 1.0))
    add(queue, "a", now=0.0)
    add(queue, "b", now=0.5)
    assert queue.take(0.9) == []
    assert queue.next_ripe() == 1.0
    assert items(queue.take(1.0)) == ["a", "b"]
    assert len(queue) == 0
    assert queue.next_ripe() == math.inf


def test_a_full_bucket_goes_at_once_and_keeps_its_rest():
    queue: BatchQueue[str] = BatchQueue(Limits(2, 10.0))
    for item in "abc":
        add(queue, item)
    assert items(queue.take(0.0)) == ["a", "b"]
    assert queue.take(0.0) == []
    assert items(queue.take(10.0)) == ["c"]


def test_a_batch_is_shared_out_among_the_workers_that_are_free():
    queue: BatchQueue[str] = BatchQueue(Limits(4, 0.0))
    for item in "abcdefghi":
        add(queue, item)
    assert items(queue.take(0.0, among=2)) == ["a", "b", "c", "d"]  # a full one each
    assert items(queue.take(0.0, among=2)) == ["e", "f", "g"]
    assert items(queue.take(0.0, among=1)) == ["h", "i"]
    add(queue, "j")
    assert items(queue.take(0.0, among=4)) == ["j"]


def test_buckets_do_not_mix_and_the_oldest_head_goes_first():
    queue: BatchQueue[str] = BatchQueue(Limits(2, 1.0))
    add(queue, "old", key="quiet", now=0.0)
    for n, item in enumerate("abcd"):
        add(queue, item, key="busy", now=0.1 + n / 100)
    # The busy bucket is full and goes; once the quiet one is ripe it goes before what is left of the busy one.
    assert items(queue.take(0.5)) == ["a", "b"]
    assert items(queue.take(1.5)) == ["old"]
    assert items(queue.take(1.5)) == ["c", "d"]


def test_cost_closes_a_batch_and_a_dear_item_goes_alone():
    queue: BatchQueue[str] = BatchQueue(Limits(10, 5.0, max_cost=10))
    for item, cost in (("a", 4.0), ("b", 6.0), ("c", 25.0), ("d", 1.0)):
        add(queue, item, cost=cost)
    assert items(queue.take(0.0)) == ["a", "b"]
    assert items(queue.take(0.0)) == ["c"]
    assert queue.take(0.0) == []
    assert items(queue.take(5.0)) == ["d"]


def test_a_cancelled_entry_is_not_taken_and_cannot_be_cancelled_twice():
    queue: BatchQueue[str] = BatchQueue(Limits(2, 0.0))
    first, second = add(queue, "a"), add(queue, "b")
    assert queue.cancel(first) is True
    assert queue.cancel(first) is False
    assert items(queue.take(0.0)) == ["b"]
    assert queue.cancel(second) is False


@pytest.mark.parametrize("bad", [{"max_batch": 0}, {"max_wait_s": -1.0}, {"max_cost": 0.0}])
def test_limits_that_could_never_serve_are_refused(bad):
    with pytest.raises(ValueError, match="max_batch >= 1"):
        Limits(**({"max_batch": 1, "max_wait_s": 0.0} | bad))


operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("xyz"), st.floats(0.1, 8.0)),
        st.tuples(st.just("take"), st.floats(0.0, 3.0)),
        st.tuples(st.just("cancel"), st.integers(0, 60)),
    ),
    max_size=60,
)


@given(operations, st.integers(1, 5), st.floats(0.0, 2.0), st.floats(1.0, 10.0))
def test_every_item_leaves_exactly_once_within_the_limits(script, max_batch, max_wait_s, max_cost):
    queue: BatchQueue[int] = BatchQueue(Limits(max_batch, max_wait_s, max_cost))
    now, entries, left = 0.0, [], Counter[int]()

    def check(batch):
        assert len(batch) <= max_batch
        assert len({entry.key for entry in batch}) <= 1
        assert len(batch) == 1 or sum(entry.cost for entry in batch) <= max_cost
        assert items(batch) == sorted(items(batch)), "first come, first served inside a bucket"
        left.update(items(batch))

    for operation in script:
        if operation[0] == "add":
            entries.append(queue.add(len(entries), key=operation[1], cost=operation[2], deadline=math.inf, now=now))
        elif operation[0] == "take":
            now += operation[1]
            while batch := queue.take(now):
                check(batch)
            assert queue.next_ripe() > now
        elif operation[1] < len(entries) and queue.cancel(entries[operation[1]]):
            left[operation[1]] += 1
    while batch := queue.take(now, everything=True):
        check(batch)
    assert left == Counter(range(len(entries)))
    assert len(queue) == 0


@given(st.lists(st.sampled_from("xyz"), min_size=1, max_size=40), st.integers(1, 4))
def test_no_ripe_item_is_overtaken_by_more_than_one_batch_of_each_other_bucket(keys, max_batch):
    """With everything ripe, a head waits only for older heads: at most the items that came before it."""
    queue: BatchQueue[int] = BatchQueue(Limits(max_batch, 0.0))
    for n, key in enumerate(keys):
        queue.add(n, key=key, cost=1.0, deadline=math.inf, now=float(n))
    heads = []
    while batch := queue.take(1000.0):
        heads.append(batch[0].item)
    assert heads == sorted(heads)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Gate:
    """A batch function that says when it was called and waits until it may go on."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[str]] = []
        self._called = threading.Semaphore(0)
        self._go = threading.Event()
        if not held:
            self._go.set()

    def __call__(self, batch: list[str]) -> Sequence[str | Exception]:
        self.batches.append(batch)
        self._called.release()
        assert self._go.wait(10)
        return [ValueError(item) if item.startswith("bad") else item.upper() for item in batch]

    async def called(self) -> None:
        assert await asyncio.to_thread(self._called.acquire, True, 10)

    def open(self) -> None:
        self._go.set()


class Watcher:
    def __init__(self) -> None:
        self.depths: list[int] = []
        self.sizes: list[tuple[object, int]] = []
        self.why: list[str] = []

    def queued(self, depth: int) -> None:
        self.depths.append(depth)

    def dispatched(self, key: object, size: int) -> None:
        self.sizes.append((key, size))

    def dropped(self, why: str) -> None:
        self.why.append(why)


async def settled(condition: Callable[[], object]) -> None:
    """Let the loop run until ``condition``; fails after 10 s."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition is another task's doing, not an event
            await asyncio.sleep(0)


async def test_concurrent_callers_share_a_batch_and_get_their_own_results():
    gate, watcher = Gate(), Watcher()
    batcher: Batcher[str, str] = Batcher(gate, Limits(3, 60.0), observer=watcher)
    batcher.start()
    results = await asyncio.gather(*(batcher.submit(item, key="k") for item in ("a", "b", "c")))
    assert results == ["A", "B", "C"]
    assert gate.batches == [["a", "b", "c"]]
    assert watcher.sizes == [("k", 3)]
    assert max(watcher.depths) == 3 and watcher.depths[-1] == 0
    await batcher.close()


async def test_a_bad_item_harms_only_its_own_caller():
    batcher: Batcher[str, str] = Batcher(Gate(), Limits(2, 60.0))
    batcher.start()
    good, bad = await asyncio.gather(batcher.submit("a", key=1), batcher.submit("bad", key=1), return_exceptions=True)
    assert good == "A"
    assert isinstance(bad, ValueError)
    await batcher.close()


async def test_a_failing_batch_is_told_to_all_in_it_and_the_next_batch_runs():
    calls = []

    def run(batch: list[str]) -> list[str | Exception]:
        calls.append(batch)
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return list(batch)

    batcher: Batcher[str, str] = Batcher(run, Limits(2, 0.0))
    batcher.start()
    with pytest.raises(RuntimeError, match="out of memory"):
        await batcher.submit("a", key=1)
    assert await batcher.submit("b", key=1) == "b"
    await batcher.close()


async def test_a_wrong_number_of_results_is_an_error_not_a_mixed_up_answer():
    batcher: Batcher[str, str] = Batcher(lambda batch: [], Limits(1, 0.0))
    batcher.start()
    with pytest.raises(RuntimeError, match="1 items came back with 0"):
        await batcher.submit("a", key=1)
    await batcher.close()


async def test_the_wait_is_measured_on_the_given_clock():
    clock, gate = Clock(), Gate()
    batcher: Batcher[str, str] = Batcher(gate, Limits(8, 5000.0), clock=clock)
    batcher.start()
    waiting = asyncio.ensure_future(batcher.submit("a", key=1))
    await settled(lambda: batcher.depth == 1)
    assert gate.batches == []
    clock.now += 5000.0
    batcher.poke()
    assert await waiting == "A"
    await batcher.close()


async def test_an_item_whose_deadline_passes_in_the_queue_never_runs():
    clock, gate, watcher = Clock(), Gate(), Watcher()
    batcher: Batcher[str, str] = Batcher(gate, Limits(8, 5000.0), clock=clock, observer=watcher)
    batcher.start()
    waiting = asyncio.ensure_future(batcher.submit("a", key=1, deadline=clock.now + 50.0))
    await settled(lambda: batcher.depth == 1)
    clock.now += 50.0
    batcher.poke()
    with pytest.raises(DeadlineExceeded):
        await waiting
    assert gate.batches == []
    assert watcher.why == ["deadline"]
    await batcher.close()


async def test_a_deadline_that_has_passed_already_is_not_served_even_when_a_worker_is_free():
    clock, gate = Clock(), Gate()
    batcher: Batcher[str, str] = Batcher(gate, Limits(1, 0.0), clock=clock)
    batcher.start()
    with pytest.raises(DeadlineExceeded):
        await batcher.submit("a", key=1, deadline=clock.now)
    assert gate.batches == []
    await batcher.close()


async def test_a_deadline_during_the_batch_frees_the_caller_and_spares_the_others():
    clock, gate = Clock(), Gate(held=True)
    batcher: Batcher[str, str] = Batcher(gate, Limits(2, 60.0), clock=clock)
    batcher.start()
    late = asyncio.ensure_future(batcher.submit("a", key=1, deadline=clock.now + 1.0))
    patient = asyncio.ensure_future(batcher.submit("b", key=1))
    await gate.called()
    clock.now += 1.0
    batcher.poke()
    with pytest.raises(DeadlineExceeded):
        await late
    gate.open()
    assert await patient == "B"
    await batcher.close()


async def test_a_cancelled_caller_is_dropped_before_dispatch():
    gate, watcher = Gate(held=True), Watcher()
    batcher: Batcher[str, str] = Batcher(gate, Limits(1, 0.0), observer=watcher)
    batcher.start()
    running = asyncio.ensure_future(batcher.submit("a", key=1))
    await gate.called()
    queued = asyncio.ensure_future(batcher.submit("b", key=1))
    await settled(lambda: batcher.depth == 1)
    queued.cancel()
    await asyncio.gather(queued, return_exceptions=True)
    assert batcher.depth == 0
    gate.open()
    assert await running == "A"
    await batcher.close()
    assert gate.batches == [["a"]]
    assert watcher.why == ["cancelled"]


async def test_a_running_batch_outlives_a_cancelled_caller_and_its_result_is_discarded():
    gate = Gate(held=True)
    batcher: Batcher[str, str] = Batcher(gate, Limits(2, 60.0))
    batcher.start()
    leaving = asyncio.ensure_future(batcher.submit("a", key=1))
    staying = asyncio.ensure_future(batcher.submit("b", key=1))
    await gate.called()
    leaving.cancel()
    gate.open()
    assert await staying == "B"
    assert leaving.cancelled() or isinstance((await asyncio.gather(leaving, return_exceptions=True))[0], BaseException)
    await batcher.close()


async def test_two_workers_run_two_batches_at_a_time_and_never_three():
    gate = Gate(held=True)
    batcher: Batcher[str, str] = Batcher(gate, Limits(1, 0.0), workers=2)
    batcher.start()
    tasks = [asyncio.ensure_future(batcher.submit(item, key=item)) for item in "abc"]
    await gate.called()
    await gate.called()
    assert len(gate.batches) == 2
    assert batcher.depth == 1
    gate.open()
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]
    await batcher.close()


async def test_items_that_came_together_go_to_both_workers():
    gate = Gate(held=True)
    batcher: Batcher[str, str] = Batcher(gate, Limits(8, 0.0), workers=2, share_out=True)
    tasks = [asyncio.ensure_future(batcher.submit(item, key="k")) for item in "abcd"]
    await asyncio.sleep(0)
    batcher.start()
    await gate.called()
    await gate.called()
    assert sorted(map(len, gate.batches)) == [2, 2]
    gate.open()
    assert await asyncio.gather(*tasks) == ["A", "B", "C", "D"]
    await batcher.close()


async def test_close_finishes_what_runs_and_refuses_what_waits():
    gate = Gate(held=True)
    batcher: Batcher[str, str] = Batcher(gate, Limits(1, 0.0))
    batcher.start()
    running = asyncio.ensure_future(batcher.submit("a", key=1))
    await gate.called()
    waiting = asyncio.ensure_future(batcher.submit("b", key=1))
    await settled(lambda: batcher.depth == 1)
    closing = asyncio.ensure_future(batcher.close())
    with pytest.raises(EngineUnavailable):
        await waiting
    assert not closing.done()
    gate.open()
    assert await running == "A"
    await closing
    assert batcher.alive is False
    with pytest.raises(EngineUnavailable):
        await batcher.submit("c", key=1)
    await batcher.close()


async def test_a_stuck_batch_shows_in_its_counters():
    """What the supervisor's heartbeat reads: no step, something running."""
    go = threading.Event()
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stuck(batch: list[int]) -> list[int]:
        loop.call_soon_threadsafe(begun.set)
        go.wait(10)
        return batch

    batcher: Batcher[int, int] = Batcher(stuck, Limits(2, 60.0))
    batcher.start()
    asked = [asyncio.create_task(batcher.submit(n, key="k")) for n in (1, 2)]
    await begun.wait()
    assert (batcher.steps, batcher.running, batcher.longest_step_s) == (0, 2, 0.0)
    go.set()
    assert await asyncio.gather(*asked) == [1, 2]
    assert batcher.steps == 1 and batcher.running == 0 and batcher.longest_step_s > 0
    text = progress_text(batcher).decode()
    assert f"appliance_host_steps_total {batcher.steps}\nappliance_host_running 0\n" in text.replace(
        "# TYPE appliance_host_running gauge\n", ""
    )
    await batcher.close()


def test_what_has_patience_lets_others_pass_but_not_for_ever() -> None:
    queue: BatchQueue[str] = BatchQueue(Limits(max_batch=1, max_wait_s=0.0))
    queue.add("bulk", key="a", cost=1, deadline=math.inf, now=0.0, patience_s=10.0)
    queue.add("late", key="a", cost=1, deadline=math.inf, now=20.0)
    queue.add("soon", key="b", cost=1, deadline=math.inf, now=9.0)
    taken = [queue.take(20.0)[0].item for _ in range(3)]
    assert taken == ["soon", "bulk", "late"]
    assert queue.take(99.0) == []
    assert len(queue) == 0


def test_patience_is_no_reason_to_share_a_batch() -> None:
    queue: BatchQueue[str] = BatchQueue(Limits(max_batch=4, max_wait_s=0.0))
    for name, patience_s in (("bulk", 10.0), ("one", 0.0), ("two", 0.0)):
        queue.add(name, key="a", cost=1, deadline=math.inf, now=0.0, patience_s=patience_s)
    assert [e.item for e in queue.take(1.0)] == ["one", "two"]
    entry = queue.add("left", key="a", cost=1, deadline=math.inf, now=1.0, patience_s=10.0)
    assert queue.cancel(entry)
    assert [e.item for e in queue.take(1.0)] == ["bulk"]


def test_live_goes_before_interactive_before_bulk_and_nobody_starves() -> None:
    patience = {rank: Params(rank=rank).patience_s for rank in RANKS}
    queue: BatchQueue[str] = BatchQueue(Limits(max_batch=1, max_wait_s=0.0))
    for at, rank in ((0.0, "bulk"), (0.2, "interactive"), (0.4, "live"), (1.3, "live"), (10.0, "interactive")):
        queue.add(f"{rank} {at}", key="a", cost=1, deadline=math.inf, now=at, patience_s=patience[rank])
    taken = [queue.take(20.0)[0].item for _ in range(5)]
    # the live one of 1.3 s comes after an interactive one that has waited for more than its second
    assert taken == ["live 0.4", "interactive 0.2", "live 1.3", "bulk 0.0", "interactive 10.0"]
