"""When an engine fails before its first byte: who stands in, what the caller hears, and when it is asked again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gateway import HOSTED, gateway, text_of

from appliance.hosts.fake_answers import FakeOptions
from appliance.hosts.fake_gemini import Options

GONE: dict[str, Any] = {
    "engines": {"gone": None},
    "policy": HOSTED,
    "hosted": True,
    "residency": "hosted_allowed",
}
WORDS = Options(text="from far away")


@pytest.mark.parametrize("stream", [False, True])
async def test_hosted_answers_for_a_box_that_is_down(stream: bool) -> None:
    async with gateway(**GONE, gemini=WORDS) as g:
        response = await g.ask("hello", model="gone", stream=stream)
        assert text_of(response) == "from far away"
        _, attempts, _ = g.entry(response.headers["x-request-id"])
        assert [(a["engine"], a["status"], a["reason"]) for a in attempts] == [
            ("gone", "failed", "routine"),
            ("gemini", "ok", "engine_unhealthy"),
        ]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "code"),
    [("status=400", "invalid_request"), ("status=503", "hosted_overloaded"), ("status=500", "engine_failed")],
)
async def test_what_hosted_says_does_not_hide_what_failed_here(fault: str, code: str, stream: bool) -> None:
    async with gateway(**GONE) as g:
        response = await g.ask(f"[[fault:{fault}]]", model="gone", stream=stream)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "engine_unavailable")
        request, attempts, _ = g.entry(response.headers["x-request-id"])
        assert (request["status"], request["error_code"]) == ("failed", "engine_unavailable")
        assert [(a["engine"], a["error_code"]) for a in attempts] == [("gone", "engine_unavailable"), ("gemini", code)]


async def test_a_permit_that_is_refused_does_not_either() -> None:
    async with gateway(**GONE) as g:
        offer = g.service._pipeline.offer
        g.service._pipeline.offer = lambda engine, model: None  # type: ignore[method-assign]  # its price is gone
        response = await g.ask("hello", model="gone")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "engine_unavailable")
        assert g.gemini is not None and g.gemini.counters.last is None
        g.service._pipeline.offer = offer  # type: ignore[method-assign]


async def test_a_400_of_hosted_that_was_asked_first_is_the_callers() -> None:
    async with gateway(**{**GONE, "engines": {}}) as g:
        response = await g.ask("[[fault:status=400]]", model="gemini-3.1-flash-lite")
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")


async def test_after_its_pause_one_request_tries_the_engine_and_its_success_lets_all_back() -> None:
    slow = {"a": FakeOptions(chunks=2)}
    async with gateway(engines=slow, policy=HOSTED, hosted=True, residency="hosted_allowed", gemini=WORDS) as g:
        entry, now = g.service.registry.entries["a"], g.service.monotonic
        for _ in range(3):
            entry.breaker.failed(now())
        assert (await g.ask("hello")).headers["x-appliance-route"] == "hosted"  # it is spared
        entry.breaker._until_s = now()  # the pause is over
        trying = asyncio.create_task(g.ask("[[set:ttft_ms=800]]"))
        async with asyncio.timeout(5):
            while g.counters["a"].running == 0:  # noqa: ASYNC110 - the engine has it
                await asyncio.sleep(0.005)
        beside = await asyncio.gather(*(g.ask(f"hello {n}") for n in range(4)))
        assert [r.headers["x-appliance-route"] for r in beside] == ["hosted"] * 4
        assert [r.headers["x-appliance-reason"] for r in beside] == ["engine_unhealthy"] * 4
        assert (await trying).headers["x-appliance-route"] == "local"
        after = await asyncio.gather(*(g.ask(f"hello {n}") for n in range(4)))
        assert [r.headers["x-appliance-route"] for r in after] == ["local"] * 4


async def test_a_trial_that_fails_is_answered_elsewhere_and_doubles_the_pause() -> None:
    async with gateway(**GONE, gemini=WORDS) as g:
        entry, now = g.service.registry.entries["gone"], g.service.monotonic
        for _ in range(3):
            at = now()
            assert text_of(await g.ask("hello", model="gone")) == "from far away"
        assert entry.breaker.waits_s(at) >= 2.0
        entry.breaker._until_s = at = now()
        assert text_of(await g.ask("hello", model="gone")) == "from far away"
        assert entry.breaker.waits_s(at) >= 4.0
