"""Shadow runs through the whole gateway: after the customer's answer, unseen, booked, bounded, and learned from."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gateway import CHAT, GEMINI, HOSTED, Gateway, gateway, text_of

from appliance.hosts.fake_answers import FakeOptions
from appliance.hosts.fake_gemini import Options
from appliance.ledger.check import check
from appliance.ledger.stores.decisions import judged
from appliance.policy.learning import Judged, examples

LOCAL = {"a": FakeOptions(text="Your order ORD-12 arrives on Monday.")}
SAME = Options(text="Your order ORD-12 arrives on Monday.")
ALL = HOSTED + "[shadow]\nshare = 1.0\n"


def shadows(g: Gateway) -> list[dict[str, Any]]:
    return g.rows("SELECT * FROM requests WHERE endpoint = 'shadow' ORDER BY id")


@pytest.mark.parametrize("stream", [False, True])
async def test_it_runs_once_the_customer_has_an_answer_and_is_booked_beside_the_conversation(stream: bool) -> None:
    async with gateway(engines=LOCAL, policy=ALL, hosted=True, residency="hosted_allowed", gemini=SAME) as g:
        response = await g.ask("when?", stream=stream)
        assert (text_of(response), response.headers["x-appliance-route"]) == (LOCAL["a"].text, "local")
        before = g.rows("SELECT * FROM conversations")
        await g.service.shadows.idle()
        (shadow,) = shadows(g)
        _, attempts, calls = g.entry(shadow["id"])
        assert [(a["route"], a["model"], a["status"]) for a in attempts] == [("hosted", GEMINI, "ok")]
        assert (shadow["status"], shadow["route"]) == ("ok", "hosted")
        assert shadow["conversation_id"] == response.headers["x-conversation-id"]
        assert calls[0]["hosted_nusd"] == shadow["hosted_nusd"] > 0
        (conversation,) = g.rows("SELECT * FROM conversations")
        money = {"hosted_nusd": shadow["hosted_nusd"]}
        assert conversation == {**before[0], **money}  # route, count and times are the customer's
        assert (conversation["answered_by"], conversation["requests"]) == ("local", 1)
        budgets = {b["scope"]: b for b in g.rows("SELECT * FROM budgets")}
        assert {b["reserved_nusd"] for b in budgets.values()} == {0}
        assert budgets["shadow"]["spent_nusd"] == budgets["tenant"]["spent_nusd"] == shadow["hosted_nusd"]
        first, second = g.rows("SELECT * FROM decisions ORDER BY request_id")
        assert (second["shadow_of"], second["agreement"], second["route"]) == (first["request_id"], 1.0, "hosted")
        assert g.rows("SELECT * FROM texts") == []
        home = g.home
        assert [line for line in check(home / "ledger.db").lines if not line.ok] == []


async def test_its_money_is_its_own_and_bounded() -> None:
    policy = ALL + 'month_usd = "0.000001"\n'
    async with gateway(engines=LOCAL, policy=policy, hosted=True, residency="hosted_allowed", gemini=SAME) as g:
        for _ in range(3):
            assert (await g.ask("when?")).status_code == 200
            await g.service.shadows.idle()
        (refused,) = shadows(g)  # and the tenant is left alone for a while
        assert (refused["status"], refused["error_code"]) == ("refused", "budget_exceeded")
        assert g.gemini is not None and g.gemini.counters.last is None


@pytest.mark.parametrize(
    ("policy", "residency", "more"),
    [
        (HOSTED, "hosted_allowed", {}),  # off
        (ALL, "local_only", {}),
        (ALL, "hosted_allowed", {"metadata": {"appliance_residency": "local_only"}}),
        (ALL, "hosted_allowed", {"metadata": {"appliance_route": "local"}}),
        (ALL + 'tenants = ["tn_other"]\n', "hosted_allowed", {}),
        (ALL.replace("1.0", "0.0"), "hosted_allowed", {}),
    ],
)
async def test_nothing_runs_where_hosted_was_not_permitted_or_it_is_off(
    policy: str, residency: str, more: dict[str, Any]
) -> None:
    async with gateway(engines=LOCAL, policy=policy, hosted=True, residency=residency, gemini=SAME) as g:
        assert (await g.ask("when?", **more)).status_code == 200
        await g.service.shadows.idle()
        assert shadows(g) == [] and g.gemini is not None and g.gemini.counters.last is None


async def test_a_failure_is_on_record_and_nobody_else_hears_of_it() -> None:
    nowhere: dict[str, Any] = {"hosted": True, "gemini_url": "http://127.0.0.1:9"}
    async with gateway(engines=LOCAL, policy=ALL, residency="hosted_allowed", **nowhere) as g:
        assert (await g.ask("when?")).status_code == 200
        await g.service.shadows.idle()
        (shadow,) = shadows(g)
        assert (shadow["status"], shadow["error_code"], shadow["hosted_nusd"]) == ("failed", "hosted_unreachable", 0)
        assert {b["reserved_nusd"] for b in g.rows("SELECT * FROM budgets")} == {0}
        assert len(g.rows("SELECT * FROM decisions")) == 1


async def test_one_that_runs_when_the_gateway_stops_is_recorded() -> None:
    slow = Options(ttft_ms=20_000)
    async with gateway(engines=LOCAL, policy=ALL, hosted=True, residency="hosted_allowed", gemini=slow) as g:
        assert (await g.ask("when?")).status_code == 200
        assert g.gemini is not None
        for _ in range(200):
            if g.gemini.counters.last is not None:
                break
            await asyncio.sleep(0.01)
        await g.service.shadows.close()
        (shadow,) = shadows(g)
        assert (shadow["status"], shadow["error_code"]) == ("cancelled", "shutting_down")
        assert {b["reserved_nusd"] for b in g.rows("SELECT * FROM budgets")} == {0}
        await g.ask("when?")
        assert len(shadows(g)) == 1


async def test_redaction_holds_for_it_too() -> None:
    policy = ALL + '[personal]\nmode = "redact"\n'
    async with gateway(engines=LOCAL, policy=policy, hosted=True, residency="hosted_redacted", gemini=SAME) as g:
        assert (await g.ask("my phone number is 9845012345")).headers["x-appliance-route"] == "local"
        await g.service.shadows.idle()
        assert len(shadows(g)) == 1
        assert g.gemini is not None and g.gemini.counters.last is not None
        assert b"9845012345" not in g.gemini.counters.last.body


async def test_what_is_drawn_is_what_fit_reads() -> None:
    async with gateway(engines=LOCAL, policy=ALL, hosted=True, residency="hosted_allowed", gemini=SAME) as g:
        for n in range(40):
            response = await g.ask("when?", headers={"x-conversation-id": f"c{n}"})
            name = response.headers["x-conversation-id"]
            if n < 35:
                said = await g.client.post(f"/v1/conversations/{name}/outcome", json={"resolved": True})
                assert said.status_code == 200, said.text
            await g.service.shadows.idle()
        rows = judged(g.service.store(), 0, 1 << 42)
        known = [
            Judged(r.request_id, r.conversation, r.opened_ms, r.resolved, r.hosted_nusd, r.answered, r.decision)
            for r in rows
        ]
        assert sum(row.decision.shadow_of is not None for row in known) == 40
        learned = examples(known)
        assert len(learned) == 40  # five of them by their shadows' agreement alone
        assert sorted(one.weight for one in learned)[:6] == [0.5] * 5 + [1.0]


async def test_limits_of_a_key_do_not_count_it() -> None:
    async with gateway(engines=LOCAL, policy=ALL, hosted=True, residency="hosted_allowed", gemini=SAME) as g:
        made = await g.client.post("/v1/admin/keys", json={"name": "slow", "requests_per_minute": 2})
        key = made.json().get("secret") or made.json().get("key")
        assert isinstance(key, str), made.text
        body = {"model": "fake", "messages": [{"role": "user", "content": "when?"}]}
        for wanted in (200, 200, 429):
            answer = await g.client.post(CHAT, json=body, headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == wanted
            await g.service.shadows.idle()
        assert len(shadows(g)) == 2
