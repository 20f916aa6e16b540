"""The planner, on the machines in ``hardware/``."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.supervisor import hardware
from appliance.supervisor.hardware import Gpu, GpuProcess, Hardware
from appliance.supervisor.memory import PROFILES, RULES, Grant, Kv, Plan, Want, step_down
from appliance.supervisor.plan import Own, plan

RECORDINGS = Path(__file__).parent / "hardware"
GB = 1_000_000_000
MIB = 1024 * 1024

# Sizes as those models have them (their config.json and 16-bit weights); workspace and host are the test's.
CHAT_8B = Want("chat", "qwen3-8b", "chat", 16_400_000_000, 2 * GB, 4 * GB, Kv(147_456), 40_960, divides=True)
CHAT_4B = Want("small", "qwen3-4b", "chat", 8_050_000_000, 2 * GB, 4 * GB, Kv(147_456), 40_960, divides=True)
CHAT_32B = Want("large", "qwen3-32b", "chat", 65_500_000_000, 3 * GB, 6 * GB, Kv(262_144), 40_960, divides=True)
CHAT_14B = Want("middle", "qwen3-14b", "chat", 29_500_000_000, 2 * GB, 4 * GB, Kv(163_840), 40_960, divides=True)
SPEECH = Want("speech", "whisper-large-v3", "transcribe", 3_100_000_000, 1 * GB, 2 * GB, falls_back=True)


def machine(name: str) -> Hardware:
    return hardware.parse(hardware.load(RECORDINGS / f"{name}.json"))


def make(name: str, *wants: Want, tokens: int = 2048, **more: object) -> Plan:
    made = plan(machine(name), wants, tokens, **more)  # type: ignore[arg-type]
    check(made)
    return made


def grant(made: Plan, engine: str) -> Grant:
    found = made.grant(engine)
    assert found is not None, made.left_out
    return found


def check(made: Plan) -> None:
    """What is true of every plan: nothing is given twice, and the headroom stays."""
    for pool in made.pools:
        used = 0
        for each in made.grants:
            if pool.gpu is None:
                used += each.host_bytes if each.gpus else each.budget_bytes
            elif pool.gpu in each.gpus:
                used += each.budget_bytes // len(each.gpus)
        assert used == pytest.approx(pool.granted_bytes, abs=8)
        assert used + pool.headroom_bytes + pool.others_bytes <= pool.total_bytes
    for each in made.grants:
        assert not each.gpus or 0 < each.gpu_share <= 1


# one GPU


def test_24_gb_hold_8b_with_a_shortened_context_and_speech_beside_it() -> None:
    made = make("l4-24gb", CHAT_4B, SPEECH)
    assert made.fits and [each.gpus for each in made.grants] == [(0,), (0,)]
    chat = grant(make("l4-24gb", CHAT_8B), "chat")
    assert 4096 <= chat.context_tokens < 40_960 and chat.context_tokens % 256 == 0
    assert chat.kv_tokens >= chat.context_tokens
    assert "context shortened from 40,960" in " ".join(chat.why)


def test_80_gb_give_8b_its_whole_context() -> None:
    chat = grant(make("h100-80gb", CHAT_8B, SPEECH), "chat")
    assert chat.context_tokens == 40_960
    assert chat.concurrent == chat.kv_bytes // (147_456 * 2048) > 100
    assert chat.max_requests == chat.concurrent


def test_141_gb_hold_32b_and_8b_with_equally_many_requests_each() -> None:
    made = make("h200-141gb", CHAT_32B, CHAT_8B, SPEECH)
    assert made.fits
    large, chat = grant(made, "large"), grant(made, "chat")
    assert abs(large.concurrent - chat.concurrent) <= 1
    assert large.kv_bytes > chat.kv_bytes


def test_more_cache_than_the_useful_requests_need_is_spared() -> None:
    small = replace(CHAT_8B, weights_bytes=GB, kv=Kv(10_000))
    made = make("h100-80gb", small)
    assert grant(made, "chat").max_requests == 256
    assert made.pools[0].spare_bytes > 50 * GB
    assert "more would be idle" in " ".join(grant(made, "chat").why)


def test_a_strangers_process_is_counted_and_named() -> None:
    alone, beside = make("l4-24gb", CHAT_4B), make("stranger-24gb", replace(CHAT_4B, weights_bytes=5 * GB))
    assert beside.pools[0].others == ("/usr/bin/python3 (pid 4711, 9.9 GB)",)
    assert grant(alone, "small").kv_bytes > grant(beside, "small").kv_bytes
    assert not make("stranger-24gb", CHAT_8B).fits


def test_the_share_of_a_gpu_is_never_more_than_is_free() -> None:
    """vLLM refuses to start when share x total is more than what is free."""
    for name in ("l4-24gb", "stranger-24gb", "h100-80gb"):
        want = replace(CHAT_8B, weights_bytes=6 * GB)
        gpu = machine(name).gpus[0]
        found = grant(make(name, want), "chat")
        assert found.gpu_share * gpu.total_bytes <= gpu.free_bytes


# two GPUs, none


def test_two_gpus_are_filled_largest_first_and_nothing_is_divided_that_fits_one() -> None:
    made = make("two-l4", SPEECH, CHAT_8B)
    assert grant(made, "chat").gpus != grant(made, "speech").gpus
    assert all(len(each.gpus) == 1 for each in made.grants)
    assert [each.engine for each in made.grants] == ["speech", "chat"]  # started in the operator's order


def test_a_model_that_fits_no_single_gpu_is_divided() -> None:
    made = make("two-l4", CHAT_14B)
    middle = grant(made, "middle")
    assert middle.gpus == (0, 1)
    assert middle.workspace_bytes == 2 * CHAT_14B.workspace_bytes  # each GPU has its own
    assert "divided over GPU 0, 1" in " ".join(middle.why)
    assert not make("two-l4", replace(CHAT_14B, divides=False)).fits


def test_unlike_gpus_are_not_joined() -> None:
    two = machine("two-l4")
    unlike = replace(two, gpus=(two.gpus[0], replace(two.gpus[1], name="NVIDIA A10G")))
    assert not plan(unlike, [CHAT_14B], 2048).fits


def test_a_divided_engine_gets_what_its_tightest_gpu_has() -> None:
    made = make("two-l4", CHAT_14B, SPEECH)
    middle = grant(made, "middle")
    crowded = grant(made, "speech").gpus[0]
    assert made.fits
    assert next(pool for pool in made.pools if pool.gpu == crowded).spare_bytes < 4 * MIB
    assert middle.kv_bytes % 2 == 0


def test_an_engine_stays_where_it_was_put() -> None:
    assert grant(make("two-l4", replace(CHAT_4B, gpus=(1,))), "small").gpus == (1,)
    absent = make("two-l4", replace(CHAT_4B, gpus=(7,)))
    assert absent.left_out[0].why == "is to run on GPU 7, and this machine has 0, 1"
    assert grant(make("two-l4", replace(CHAT_4B, gpus=(0, 1))), "small").gpus == (0, 1)
    assert grant(make("two-l4", replace(CHAT_4B, gpus=())), "small").gpus == ()


def test_speech_goes_to_ram_where_no_gpu_has_room() -> None:
    made = make("l4-24gb", CHAT_8B, replace(SPEECH, weights_bytes=6 * GB))
    assert made.fits and grant(made, "speech").gpus == ()
    assert "runs in RAM" in grant(made, "speech").why[0]


def test_without_a_gpu_everything_is_in_ram_within_the_control_group() -> None:
    tiny = Want("chat", "tiny", "chat", 270_000_000, GB // 2, 2 * GB, Kv(23_040), 8192)
    free, limited = make("none-24gb", tiny), make("none-cgroup", tiny)
    assert grant(free, "chat").gpus == () and grant(free, "chat").gpu_share == 0
    assert grant(free, "chat").max_requests == 32  # 16 a core
    (pool,) = limited.pools
    assert pool.total_bytes == 8 << 30
    assert not make("none-cgroup", CHAT_4B).fits and make("none-24gb", CHAT_4B).fits


def test_ram_beside_a_gpu_counts_too() -> None:
    hungry = replace(CHAT_4B, host_bytes=100 * GB)
    made = make("l4-24gb", hungry)
    assert made.left_out[0].why.startswith("needs 100.0 GB of RAM for its processes")


# too small


def test_too_small_names_the_largest_set_and_what_would_fit_instead() -> None:
    made = make("l4-24gb", CHAT_32B, CHAT_8B, SPEECH, catalogue=[CHAT_32B, CHAT_8B, CHAT_4B, SPEECH])
    assert [each.engine for each in made.grants] == ["chat", "speech"] and made.grants[1].gpus == ()
    assert [out.engine for out in made.left_out] == ["large"]
    (out,) = make("l4-24gb", CHAT_32B, catalogue=[CHAT_32B, CHAT_8B, CHAT_4B]).left_out
    assert out.instead == ("qwen3-8b", "qwen3-4b")
    assert out.why.startswith("needs 69.6 GB (weights 65.5 GB, workspace 3.0 GB, cache of one request 1.1 GB)")


def test_the_largest_set_covers_most_tasks() -> None:
    other = replace(CHAT_4B, engine="other")
    made = make("l4-24gb", CHAT_4B, other, replace(SPEECH, falls_back=False, weights_bytes=5 * GB))
    assert {each.engine for each in made.grants} == {"small", "speech"}


def test_one_engine_too_many_of_many() -> None:
    wants = [replace(SPEECH, engine=f"e{n}", falls_back=False) for n in range(14)]
    made = make("l4-24gb", *wants)
    assert len(made.grants) == 5 and len(made.left_out) == 9


# what the operator set


def test_a_set_cache_wins_and_its_context_follows() -> None:
    chat = grant(make("h100-80gb", replace(CHAT_8B, kv_cache_bytes=GB)), "chat")
    assert chat.kv_bytes == GB
    assert chat.kv_tokens == GB // (147_456 * 16) * 16
    assert chat.context_tokens == GB // 147_456 // 256 * 256
    assert "kv_cache_bytes = 1,000,000,000 is set" in chat.why


def test_a_set_cache_that_does_not_fit_is_tried_and_said() -> None:
    made = plan(machine("l4-24gb"), [replace(CHAT_8B, kv_cache_bytes=50 * GB)], 2048)
    assert made.fits and "does not fit by this plan" in " ".join(grant(made, "chat").why)


def test_a_set_context_is_not_shortened_and_set_requests_are_kept() -> None:
    set_ = replace(CHAT_8B, context_tokens=20_000, context_set=True, max_concurrent=7)
    chat = grant(make("l4-24gb", set_), "chat")
    assert (chat.context_tokens, chat.max_requests) == (20_000, 7)
    assert not make("l4-24gb", replace(set_, context_tokens=39_000)).fits


def test_a_model_of_which_nothing_is_known_gets_512_mib() -> None:
    made = make("none-24gb", Want("x", "mystery", "chat", unknown="nothing is known"))
    assert grant(made, "x").kv_bytes == 512 * MIB and "nothing is known" in grant(made, "x").why


def test_the_stated_length_decides_how_many_requests_are_expected() -> None:
    short, long = (grant(make("h100-80gb", CHAT_8B, tokens=t), "chat") for t in (1024, 8192))
    assert short.concurrent == 256  # more would be past the knee
    assert long.concurrent == long.kv_bytes // (8192 * 147_456)
    tiny = replace(CHAT_8B, context_tokens=512)
    assert grant(make("h100-80gb", tiny), "chat").request_tokens == 512


# windows


def test_layers_with_a_window_cost_less_in_long_requests() -> None:
    kv = Kv(100_000, 80_000, 1024)
    assert kv.request_bytes(1024) == 100_000 * 1024
    assert kv.request_bytes(10_240) == 20_000 * 10_240 + 80_000 * 1024
    assert kv.longest(kv.request_bytes(5120), 8192, 256) == 5120
    assert kv.longest(0, 8192, 256) == 0


# profiles


def test_every_step_down_takes_less_of_everything() -> None:
    steps = [grant(make("h100-80gb", CHAT_8B, profiles={"chat": p}), "chat") for p in PROFILES]
    assert [each.profile for each in steps] == list(PROFILES)
    for before, after in itertools.pairwise(steps):
        assert after.kv_bytes < 0.8 * before.kv_bytes
        assert after.max_requests < before.max_requests
    assert [step_down(p) for p in PROFILES] == ["careful", "minimal", None]
    assert RULES["minimal"].eager and not RULES["careful"].eager


def test_a_set_cache_steps_down_too_or_nothing_would_change() -> None:
    set_ = replace(CHAT_8B, kv_cache_bytes=10 * GB)
    sizes = [grant(make("h100-80gb", set_, profiles={"chat": p}), "chat").kv_bytes for p in PROFILES]
    assert sizes[0] == 10 * GB and sizes[1] == 7500 * 10**6 // MIB * MIB and sizes[2] == 4 * GB // MIB * MIB


def test_a_set_cache_that_never_fitted_is_what_fits_after_the_first_failure() -> None:
    absurd = replace(CHAT_4B, kv_cache_bytes=1 << 46)
    made = make("l4-24gb", absurd, profiles={"small": "careful"})
    free = make("l4-24gb", CHAT_4B, profiles={"small": "careful"})
    assert grant(made, "small").kv_bytes == grant(free, "small").kv_bytes > GB
    assert "no longer wins" in " ".join(grant(made, "small").why)


# engines that run already


def test_what_runs_keeps_its_grant_and_is_no_stranger() -> None:
    first = make("l4-24gb", CHAT_4B, SPEECH)
    chat = grant(first, "small")
    fresh = machine("l4-24gb")
    taken = 15_000 * MIB
    process = GpuProcess(77, "VLLM::EngineCore", taken)
    gpu = replace(fresh.gpus[0], used_bytes=taken, free_bytes=fresh.gpus[0].free_bytes - taken, processes=(process,))
    running = replace(fresh, gpus=(gpu,), ram_free_bytes=fresh.ram_free_bytes - 3 * GB)
    own = Own(frozenset({77}), 3 * GB)
    again = plan(running, [CHAT_4B, SPEECH], 2048, held={"small": chat}, own=own)
    check(again)
    assert again.grants == first.grants
    assert again.pools[0].others == ()
    # a container's driver does not say which process holds how much: then what was granted counts as ours
    blind = replace(running, gpus=(replace(gpu, processes=(replace(process, used_bytes=None),)),))
    assert plan(blind, [CHAT_4B, SPEECH], 2048, held={"small": chat}, own=own).grants == first.grants


def test_what_an_engine_takes_beyond_its_grant_is_gone() -> None:
    first = make("l4-24gb", CHAT_4B, SPEECH)
    fresh = machine("l4-24gb")
    chat = replace(grant(first, "small"), kv_bytes=GB)
    over = chat.budget_bytes + 2 * GB
    process = GpuProcess(77, "VLLM::EngineCore", over)
    gpu = replace(fresh.gpus[0], used_bytes=over, free_bytes=fresh.gpus[0].free_bytes - over, processes=(process,))
    made = plan(replace(fresh, gpus=(gpu,)), [CHAT_4B, SPEECH], 2048, held={"small": chat}, own=Own(frozenset({77})))
    assert (
        made.pools[0].spare_bytes + grant(made, "speech").budget_bytes + made.pools[0].headroom_bytes <= gpu.free_bytes
    )


def test_a_grant_of_an_engine_that_is_no_longer_wanted_is_not_planned_with() -> None:
    chat = grant(make("l4-24gb", CHAT_4B), "small")
    made = plan(machine("l4-24gb"), [SPEECH], 2048, held={"small": chat})
    assert [each.engine for each in made.grants] == ["speech"]


# whatever is wanted


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    gpus=st.lists(st.integers(8, 150), max_size=3),
    tokens=st.integers(16, 100_000),
)
def test_no_plan_gives_more_than_there_is(sizes: list[int], gpus: list[int], tokens: int) -> None:
    found = Hardware(
        tuple(Gpu(n, f"GPU-{n}", "X", size * GB, 0, size * GB) for n, size in enumerate(gpus)), 64 * GB, 60 * GB, 8
    )
    wants = [
        Want(f"e{n}", "m", "chat", size * GB, GB, 2 * GB, Kv(50_000 + 9_000 * n), 32_768, divides=True)
        if n % 3 < 2
        else Want(f"e{n}", "m", "transcribe", size * GB, GB, GB, falls_back=True)
        for n, size in enumerate(sizes)
    ]
    made = plan(found, wants, tokens)
    check(made)
    assert {each.engine for each in made.grants} | {out.engine for out in made.left_out} == {w.engine for w in wants}
    for each in made.grants:
        if each.context_tokens:
            assert each.kv_tokens >= min(each.context_tokens, 256) and each.max_requests >= 1
