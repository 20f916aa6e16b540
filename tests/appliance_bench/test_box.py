"""The simulation against what queueing theory says, and against arithmetic where that is enough."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from appliance_bench.box import BoxProfile, Call, Left, Simulation, Slo, Turn, closed_loop, goodput, open_loop, poisson
from appliance_bench.stations import Batches, Places, Service, Steps


def alone(service: Service, gateway_ms: float = 0.0) -> BoxProfile:
    return BoxProfile({"e": service}, gateway_ms=gateway_ms)


def turn(units: float = 1.0, prompt: float = 0.0) -> Turn:
    return Turn("k", (Call("e", units, prompt),))


def mean_wait_s(service: Places, per_s: float, count: int, rng: random.Random, exponential: bool) -> float:
    schedule = poisson(per_s, count / per_s, rng)
    sizes = [rng.expovariate(1.0) if exponential else 1.0 for _ in schedule]
    left = open_loop(alone(service), schedule, [turn(size) for size in sizes], math.inf)
    assert len(left) == len(schedule)
    return (sum(one.e2e_ms for one in left) - sum(sizes) * service.unit_ms) / len(left) / 1000


def erlang_c(servers: int, load: float) -> float:
    top = load**servers / math.factorial(servers) * servers / (servers - load)
    return top / (sum(load**k / math.factorial(k) for k in range(servers)) + top)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (4, 2.4)])
def test_waiting_of_m_m_c_is_erlang_s(servers: int, load: float) -> None:
    # one run of 12,000 is off by 5 % (the waits of a queue hang together), so the mean of some
    got = [
        mean_wait_s(Places(places=servers, unit_ms=1000), load, 12_000, random.Random(seed), True) for seed in range(3)
    ]
    assert statistics.fmean(got) == pytest.approx(erlang_c(servers, load) / (servers - load), rel=0.08)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_waiting_of_m_d_1_is_pollaczek_and_khinchine_s(load: float) -> None:
    got = mean_wait_s(Places(places=1, unit_ms=1000), load, 20_000, random.Random(4), exponential=False)
    assert got == pytest.approx(load / (2 * (1 - load)), rel=0.08)


def test_waiting_of_m_d_c_is_about_half_of_m_m_c() -> None:
    """Lee and Longton's approximation: half of Erlang's, within some 6 % at this load."""
    got = mean_wait_s(Places(places=4, unit_ms=1000), 3.2, 20_000, random.Random(5), exponential=False)
    assert got == pytest.approx(erlang_c(4, 3.2) / 0.8 / 2, rel=0.1)


def test_one_answer_of_a_stepping_engine_is_arithmetic() -> None:
    service = Steps(4, 100, step_ms=10, sequence_ms=2, prompt_token_ms=0.1, request_ms=3)
    left = open_loop(alone(service, gateway_ms=1), [0.0], [turn(units=5, prompt=250)], math.inf)
    # three steps read 100, 100 and 50 tokens; the third gives the first token, four more steps the others
    read = 3 * 10 + 250 * 0.1
    assert left[0].ttft_ms == pytest.approx(read + 3 + 1)
    assert left[0].e2e_ms == pytest.approx(read + 4 * 12 + 3 + 1)
    assert left[0].tpot_ms == pytest.approx(12)


def test_stepping_engine_decodes_together_up_to_its_most() -> None:
    service = Steps(2, 1000, step_ms=10, sequence_ms=0, prompt_token_ms=0)
    left = open_loop(alone(service), [0.0] * 4, [turn(units=11)] * 4, math.inf)
    assert sorted(round(one.e2e_ms) for one in left) == [110, 120, 220, 230], (
        "who comes within a step waits for the next"
    )


def test_a_full_kv_cache_makes_the_next_one_wait() -> None:
    service = Steps(8, 1000, 10, 0, 0, kv_tokens=100)
    left = open_loop(alone(service), [0.0] * 2, [turn(units=11, prompt=60)] * 2, math.inf)
    assert sorted(round(one.e2e_ms) for one in left) == [110, 220]
    larger_than_all = open_loop(alone(service), [0.0], [turn(units=11, prompt=600)], math.inf)
    assert len(larger_than_all) == 1, "alone it runs, or it would wait for ever"


def test_batches_wait_for_company_and_no_longer() -> None:
    service = Batches(1, 4, max_wait_ms=50, batch_ms=100, item_ms=10, unit_ms=1)
    alone_ms = open_loop(alone(service), [0.0], [turn(5)], math.inf)[0].e2e_ms
    assert alone_ms == pytest.approx(50 + 100 + 10 + 5)
    full = open_loop(alone(service), [0.0] * 4, [turn(5)] * 4, math.inf)
    assert {round(one.e2e_ms) for one in full} == {100 + 40 + 20}


def test_items_share_a_batch_with_their_bucket_only() -> None:
    service = Batches(2, 4, 0, 100, 0, 0, edges=(10.0,))
    left = open_loop(alone(service), [0.0] * 4, [turn(5), turn(50), turn(6), turn(60)], math.inf)
    assert len({one.e2e_ms for one in left}) == 1, "two batches of two beside each other"
    one_worker = Batches(1, 4, 0, 100, 0, 0, edges=(10.0,))
    left = open_loop(alone(one_worker), [0.0] * 2, [turn(5), turn(50)], math.inf)
    assert sorted(round(one.e2e_ms) for one in left) == [100, 200]


def test_a_busy_neighbour_takes_its_share() -> None:
    box = BoxProfile({"e": Places(1, unit_ms=100), "other": Places(1, unit_ms=1000)}, sharing=1.0)
    sim = Simulation(box)
    sim.submit(0.0, Turn("long", (Call("other", 1),)))
    sim.submit(0.1, Turn("short", (Call("e", 1),)))
    sim.run(math.inf)
    took = {one.kind: one.e2e_ms for one in sim.left}
    assert took["short"] == pytest.approx(200)
    assert took["long"] == pytest.approx(1000)
    assert sim.busy_s == pytest.approx(1.0)


def test_a_chain_passes_its_engines_one_after_another() -> None:
    box = BoxProfile({"a": Places(1, unit_ms=10), "b": Places(1, first_ms=5, unit_ms=2)}, sharing=0)
    sim = Simulation(box)
    sim.submit(0.0, Turn("k", (Call("a", 3), Call("b", 10))))
    sim.run(math.inf)
    assert (sim.left[0].ttft_ms, sim.left[0].e2e_ms) == (pytest.approx(35), pytest.approx(55))
    assert sim.left[0].tpot_ms == pytest.approx(20 / 9)


def test_closed_loops_keep_littles_law() -> None:
    seconds, left = closed_loop(alone(Places(3, unit_ms=50)), 5, [turn(1 + n % 3) for n in range(600)])
    per_s, latency_s = len(left) / seconds, sum(one.e2e_ms for one in left) / len(left) / 1000
    assert per_s * latency_s == pytest.approx(5, rel=0.01)


def test_the_same_seed_is_the_same_run_and_a_higher_rate_the_same_draws() -> None:
    slow, fast = poisson(2.0, 100.0, random.Random(9)), poisson(4.0, 100.0, random.Random(9))
    assert [at / 2 for at in slow] == pytest.approx(fast[: len(slow)])
    assert len(slow) == pytest.approx(200, abs=45)


def test_an_engine_that_is_not_there_is_an_error_at_once() -> None:
    with pytest.raises(KeyError):
        Simulation(alone(Places(1))).submit(0.0, Turn("k", (Call("absent", 1),)))


def test_goodput_counts_what_kept_every_bound() -> None:
    left = [
        Left("k", 0, 10, 100, 10),
        Left("k", 0, 60, 100, 10),
        Left("k", 0, 10, 900, 10),
        Left("free", 0, 1e9, 1e9, 1),
    ]
    assert goodput(left, {"k": Slo(ttft_ms=50, e2e_ms=500)}, 2.0) == 1.0
    assert goodput(left, {"k": Slo(tpot_ms=9)}, 1.0) == 2
