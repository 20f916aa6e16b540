"""The judge of a running engine, on looks and times that are handed in."""

from __future__ import annotations

import pytest

from appliance.supervisor.heartbeat import (
    HOST_LONGEST_STEP_S,
    MOST_STEP_TOKENS,
    UNMEASURED_STEP_S,
    UNMEASURED_TOKENS_PER_S,
    Beat,
    Heartbeat,
    beat_of,
)

LIMIT_S = 30.0


def beat(*progress: float, busy: float = 1.0, step_s: float = 0.0) -> Beat:
    return Beat(progress, busy, step_s)


def looks(judge: Heartbeat, one: Beat | None, seconds: float) -> list[str]:
    """The verdicts of ``seconds`` in which nothing changes."""
    return [judge.look(one, judge.every_s) for _ in range(round(seconds / judge.every_s))]


def test_an_engine_that_does_something_is_alive_however_long_a_request_takes() -> None:
    judge = Heartbeat(LIMIT_S)
    assert {judge.look(beat(float(n)), judge.every_s) for n in range(1000)} == {"alive"}


def test_standing_still_under_requests_is_hung_and_it_says_for_how_long() -> None:
    judge = Heartbeat(LIMIT_S)
    judge.look(beat(1.0, busy=3), judge.every_s)
    assert looks(judge, beat(1.0, busy=3), LIMIT_S) == ["alive"] * 5 + ["hung"]
    assert judge.why == "it did nothing for 30 s with 3 requests in it"


def test_a_long_prefill_is_given_the_time_its_step_takes() -> None:
    judge = Heartbeat(LIMIT_S)
    slow = beat(1.0, step_s=60.0)
    judge.look(slow, judge.every_s)
    assert set(looks(judge, slow, 85)) == {"alive"}
    assert looks(judge, slow, 5) == ["hung"]


def test_silence_is_hung_sooner_than_a_long_step() -> None:
    judge = Heartbeat(LIMIT_S)
    judge.look(beat(1.0, step_s=600.0), judge.every_s)
    assert looks(judge, None, LIMIT_S) == ["alive"] * 5 + ["hung"]
    assert "gave no answer for 30 s" in judge.why


def test_one_late_answer_is_forgiven() -> None:
    judge = Heartbeat(LIMIT_S)
    judge.look(beat(1.0, busy=0), judge.every_s)
    for n in range(10):
        assert set(looks(judge, None, 20)) == {"alive"}
        assert judge.look(beat(float(n), busy=0), judge.every_s) == "alive"


def test_an_idle_engine_is_asked_and_one_that_never_answers_is_hung() -> None:
    judge = Heartbeat(LIMIT_S)
    idle = beat(1.0, busy=0)
    judge.look(idle, judge.every_s)
    assert looks(judge, idle, LIMIT_S) == ["alive"] * 5 + ["ask"]
    judge.asking = True
    assert looks(judge, idle, LIMIT_S) == ["alive"] * 5 + ["hung"]
    assert "with a question of one token in it" in judge.why


def test_an_answer_is_proof_even_where_no_counter_moves() -> None:
    judge = Heartbeat(LIMIT_S)
    idle = beat(1.0, busy=0)
    judge.look(idle, judge.every_s)
    for _ in range(20):
        assert "ask" in looks(judge, idle, LIMIT_S)
        judge.asking = True
        judge.answered()


def test_time_in_which_nobody_looked_proves_nothing() -> None:
    judge = Heartbeat(LIMIT_S)
    judge.look(beat(1.0), judge.every_s)
    assert judge.look(beat(1.0), 8 * 3600.0) == "alive"  # this process itself was stopped for a night


@pytest.mark.parametrize("limit_s", [0.5, 30.0, 600.0])
def test_it_looks_several_times_within_the_limit(limit_s: float) -> None:
    assert Heartbeat(limit_s).every_s <= limit_s / 5


VLLM = """# HELP vllm:num_requests_running …
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:iteration_tokens_total_count{engine="0",model_name="m"} 7.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:request_prefill_kv_computed_tokens_sum{engine="0",model_name="m"} %s
vllm:request_prefill_time_seconds_sum{engine="0",model_name="m"} %s
"""


def test_a_steps_time_is_reckoned_from_the_measured_prefill_speed() -> None:
    found = beat_of(VLLM % ("10000.0", "10.0"), "vllm", 32_768)
    assert found is not None
    assert found.busy == 3.0
    assert found.step_s == pytest.approx(2 * MOST_STEP_TOKENS / 1000)


def test_before_anything_was_measured_a_slow_machine_is_assumed() -> None:
    found = beat_of(VLLM % ("16.0", "0.5"), "vllm", 2048)
    assert found is not None
    assert found.step_s == pytest.approx(MOST_STEP_TOKENS / 2 / UNMEASURED_TOKENS_PER_S)


def test_a_piece_of_a_long_prompt_is_progress_although_it_gives_no_token() -> None:
    before, after = (beat_of(VLLM.replace("0.25", share) % ("0", "0"), "vllm") for share in ("0.25", "0.5"))
    assert before is not None and after is not None
    assert before.progress != after.progress


def test_a_hosts_own_counters() -> None:
    text = f"appliance_host_steps_total 4\nappliance_host_running 2\n{HOST_LONGEST_STEP_S} 30.5\n"
    found = beat_of(text, "whisper")
    assert found == Beat((4.0,), 2.0, 122.0)
    unmeasured = beat_of("appliance_host_steps_total 0\nappliance_host_running 0\n", "whisper")
    assert unmeasured == Beat((0.0,), 0.0, UNMEASURED_STEP_S)


def test_what_has_no_such_series_is_no_beat() -> None:
    assert beat_of("python_gc_objects 1\n", "vllm") is None
    assert beat_of("appliance_host_steps_total 4\n", "vllm") is None
