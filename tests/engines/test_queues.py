"""What others have in an engine, by its own counters, and what the forecast makes of it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from gateway import HOSTED, gateway

from appliance.engines.queues import look, requests_in
from appliance.hosts.fake_answers import FakeOptions

VLLM = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_running{engine="1",model_name="m"} 3.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 4.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 4.0
"""


def test_running_and_waiting_are_summed_over_vllms_engines() -> None:
    assert requests_in(VLLM) == 9
    assert requests_in(b"# nothing\nvllm:num_requests_running 1.0") == 1


@pytest.mark.parametrize("text", [b"", b"process_cpu_seconds_total 1.0\n", b"\nvllm:num_requests_running many\n"])
def test_what_says_nothing_is_none(text: bytes) -> None:
    assert requests_in(text) is None


async def test_another_gateways_requests_make_a_box_overflow_as_its_own_do() -> None:
    policy = HOSTED + "[intents.quick]\nttft_ms = 100\n"
    quick: dict[str, Any] = {"metadata": {"intent": "quick"}}
    slow = {"a": FakeOptions(ttft_ms=800)}
    async with gateway(engines=slow, policy=policy, hosted=True, residency="hosted_allowed") as g:
        entry = g.service.registry.entries["a"]
        entry.took(1.0, 50.0)  # with nobody beside it
        transport = httpx.AsyncHTTPTransport(uds=str(g.home / "run" / "a.sock"))
        async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=10) as other:
            message = {"model": "fake", "messages": [{"role": "user", "content": "hello"}]}
            theirs = [asyncio.create_task(other.post("/v1/chat/completions", json=message)) for _ in range(3)]
            async with asyncio.timeout(5):
                while g.counters["a"].running < 3:  # noqa: ASYNC110 - the engine has them
                    await asyncio.sleep(0.005)
            own = asyncio.create_task(g.ask("hello"))
            async with asyncio.timeout(5):
                while entry.in_flight == 0 or g.counters["a"].running < 4:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            await look(g.service.registry.entries.values())
            assert (entry.in_flight, entry.elsewhere) == (1, 3)
            busy = await g.ask("hello", **quick)
            assert (busy.headers["x-appliance-route"], busy.headers["x-appliance-reason"]) == (
                "hosted",
                "capacity_overflow",
            )
            await asyncio.gather(own, *theirs)
        await look(g.service.registry.entries.values())
        assert entry.elsewhere == 0


async def test_an_engine_that_does_not_tell_is_taken_as_it_was() -> None:
    async with gateway(engines={"gone": None}) as g:
        entry = g.service.registry.entries["gone"]
        entry.elsewhere = 2
        await look([entry])
        assert entry.elsewhere == 2


async def test_the_gateway_looks_by_itself_where_a_policy_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.engines.registry.LOOK_EVERY_S", 0.02)
    for policy, looked in (("[hosted]\nenabled = false\n", True), (None, False)):
        async with gateway(policy=policy) as g:
            g.service.registry.entries["a"].elsewhere = 7
            await asyncio.sleep(0.3)
            assert (g.service.registry.entries["a"].elsewhere == 0) is looked
