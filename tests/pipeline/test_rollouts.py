"""A rollout in a running gateway: conversations take sides, outcomes and costs are counted, the worse version stops."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from gateway import HOSTED, Gateway, gateway

from appliance.api import policing
from appliance.api.policies import Policies
from appliance.hosts.fake_answers import FakeOptions

CLASS = 'value_class = "gold"\n'
FIRST = '[value_classes.gold]\nunresolved_usd = "4.00"\nhosted_first = {}\n'
TRIAL = "[rollout]\nshare = 0.5\nleast = 30\n"
BOX: dict[str, Any] = {"engines": {"a": FakeOptions(chunks=1)}, "hosted": True, "residency": "hosted_allowed"}


def version(hosted_first: bool, rollout: str = "") -> str:
    return CLASS + HOSTED + FIRST.format(str(hosted_first).lower()) + rollout


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway's own task, which looks once a second and at a rollout every five minutes."""
    monkeypatch.setattr(policing, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(policing, "_ROLLOUT_EVERY", 1)


async def conversations(g: Gateway, number: int, outcome: Callable[[str], bool]) -> Counter[str]:
    """So many, each with the outcome that ``outcome`` gives its route."""
    routes: Counter[str] = Counter()

    async def one(n: int) -> None:
        answer = await g.ask(f"question {n} of {number}")
        route = answer.headers["x-appliance-route"]
        routes[route] += 1
        path = f"/v1/conversations/{answer.headers['x-conversation-id']}/outcome"
        told = await g.client.post(path, json={"resolved": outcome(route)})
        assert told.status_code == 200, told.text

    for begin in range(0, number, 20):
        await asyncio.gather(*(one(n) for n in range(begin, min(begin + 20, number))))
    return routes


async def stopped(g: Gateway) -> str:
    async with asyncio.timeout(10):
        while not (why := g.service.policing.report()["trial"]["stopped"]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return str(why)


async def begin(g: Gateway, text: str) -> None:
    """The file is put there, and the gateway finds it by itself."""
    (g.home / "policy.toml").write_text(text)
    async with asyncio.timeout(10):
        while "trial" not in g.service.policing.report():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_version_that_leaves_more_unresolved_is_stopped_and_stays_stopped() -> None:
    stable, trial = version(True), version(False, TRIAL)
    async with gateway(policy=stable, **BOX) as g:
        await begin(g, trial)
        routes = await conversations(g, 120, lambda route: route != "local")
        assert 30 < routes["local"] < 90 and routes.total() == 120  # both sides had their share
        why = await stopped(g)
        assert "conversations are unresolved, against 0.0 %" in why
        after = await conversations(g, 20, lambda route: True)
        assert after == {"hosted": 20}  # the stable version decides for everybody
        loaded = g.service.policing._policies.loaded
        again = Policies(g.home, lambda: 0)  # a restart
        again.reload()
        assert again.loaded == loaded and again.loaded.stopped == why
        await begin(g, trial + "# mended\n")  # another version, with a trial of its own
        async with asyncio.timeout(10):
            while g.service.policing.report()["trial"]["stopped"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_version_that_costs_more_and_resolves_no_more_is_stopped() -> None:
    async with gateway(policy=version(False), **BOX) as g:
        await begin(g, version(True, TRIAL))
        routes = await conversations(g, 120, lambda route: True)
        assert min(routes["local"], routes["hosted"]) > 30
        assert "a conversation costs" in await stopped(g)
        assert await conversations(g, 20, lambda route: True) == {"local": 20}


async def test_a_version_that_does_no_worse_goes_on() -> None:
    async with gateway(policy=version(False), **BOX) as g:
        await begin(g, version(False, TRIAL))
        outcomes = itertools.cycle((True, False))
        await conversations(g, 120, lambda route: next(outcomes))
        assert await asyncio.to_thread(g.service.policing._policies.look, g.service.policing._ended) is None
        assert g.service.policing.report()["trial"]["stopped"] == ""


async def test_too_few_conversations_stop_nothing() -> None:
    async with gateway(policy=version(True), **BOX) as g:
        await begin(g, version(False, TRIAL))
        await conversations(g, 20, lambda route: route != "local")
        assert await asyncio.to_thread(g.service.policing._policies.look, g.service.policing._ended) is None
