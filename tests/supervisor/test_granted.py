"""Grants as settings, and from there as arguments."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from appliance.settings import EngineSettings
from appliance.supervisor.granted import visible_gpus, with_grant
from appliance.supervisor.memory import Grant, Profile

GRANT = Grant("chat", "m", "normal", (), 1, 1, 1, kv_bytes=2_000_000, context_tokens=4096, max_requests=7)
ENGINE = EngineSettings(kind="vllm", model="m", extra_args=("--mine",))


def test_in_ram_the_grant_is_a_cache_and_two_limits() -> None:
    found = with_grant(ENGINE, GRANT)
    assert (found.kv_cache_bytes, found.max_context_tokens, found.max_concurrent) == (2_000_000, 4096, 7)
    assert (found.gpus, found.extra_args) == ((), ("--mine",))


def test_on_gpus_vllm_is_told_its_share_of_each_and_the_operators_arguments_stay_last() -> None:
    found = with_grant(ENGINE, replace(GRANT, gpus=(1, 3), gpu_share=0.4567))
    assert found.kv_cache_bytes == 1_000_000
    assert found.extra_args == ("--gpu-memory-utilization", "0.4567", "--tensor-parallel-size", "2", "--mine")


@pytest.mark.parametrize(
    ("profile", "arguments"),
    [
        ("normal", ()),
        ("careful", ("--max-num-batched-tokens", "2048")),
        ("minimal", ("--max-num-batched-tokens", "512", "--enforce-eager")),
    ],
)
def test_profiles_bound_the_step_and_leave_out_graphs(profile: Profile, arguments: tuple[str, ...]) -> None:
    assert with_grant(ENGINE, replace(GRANT, profile=profile)).extra_args == (*arguments, "--mine")


def test_a_step_holds_a_token_of_every_request() -> None:
    found = with_grant(ENGINE, replace(GRANT, profile="minimal", max_requests=600))
    assert found.extra_args[:2] == ("--max-num-batched-tokens", "600")


def test_other_engines_get_their_place_only() -> None:
    whisper = EngineSettings(kind="whisper", task="transcribe", model="w", extra_args=("--x",))
    found = with_grant(whisper, replace(GRANT, gpus=(2,)))
    assert found == whisper.model_copy(update={"gpus": (2,)})
    assert visible_gpus(found) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "2"}
    assert visible_gpus(whisper) == {}
    shared = whisper.model_copy(update={"gpu_percent": 30})
    assert visible_gpus(shared) == {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "30"}
    assert visible_gpus(found.model_copy(update={"gpu_percent": 30})).keys() == {
        *visible_gpus(found), "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
    }  # fmt: skip
