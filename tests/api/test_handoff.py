"""A conversation for a person who takes it over: summary and last turns, in their language."""

from __future__ import annotations

import json
from typing import Any

from gateway import HOSTED, Gateway, gateway

from appliance.hosts.fake_answers import FakeOptions
from appliance.hosts.fake_gemini import Options

SAYS = {"a": FakeOptions(text="the order is late. the customer wants money back.")}
HINDI = "मेरा ऑर्डर OD-123 अभी तक नहीं आया है, कृपया बताइए कि वह कब तक पहुँचेगा।"
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "You are a shop."},
    {"role": "user", "content": HINDI},
    {"role": "assistant", "content": "It will come tomorrow."},
    {"role": "user", "content": "अब बहुत हो गया, मुझे पैसे वापस चाहिए।"},
]


async def conversation(g: Gateway, **more: Any) -> str:
    response = await g.ask(messages=MESSAGES, metadata={"intent": "refund"}, **more)
    return str(response.headers["x-conversation-id"])


async def test_the_summary_and_the_last_turns_in_the_agents_language() -> None:
    async with gateway(engines=SAYS, translation=True) as g:
        conv = await conversation(g)
        response = await g.client.post(
            f"/v1/conversations/{conv}/handoff", json={"messages": MESSAGES, "language": "en", "model": "fake"}
        )
        assert response.status_code == 200, response.text
        told = response.json()
        assert told["summary"] == SAYS["a"].text
        assert (told["conversation_id"], told["language"], told["intent"]) == (conv, "en", "refund")
        assert told["customer_language"] == "hi"
        first, second, _ = told["messages"]
        assert first["content"] == HINDI and first["translation"] and first["translation"] != HINDI
        assert (second["role"], second["translation"]) == ("assistant", None)
        request, attempts, calls = g.entry(response.headers["x-request-id"])
        assert (request["endpoint"], request["conversation_id"], request["status"]) == ("handoff", conv, "ok")
        assert len(attempts) == 1 and [c["engine"] for c in calls] == ["a", "translate"]
        asked = g.last("a")["messages"]
        assert "OD-123" in asked[-1]["content"] and "You are a shop" not in asked[-1]["content"]


async def test_without_a_translation_engine_the_model_writes_the_agents_language() -> None:
    async with gateway(engines=SAYS) as g:
        conv = await conversation(g)
        body = {"messages": MESSAGES, "language": "ta", "model": "fake"}
        response = await g.client.post(f"/v1/conversations/{conv}/handoff", json=body)
        assert response.json()["summary"] == SAYS["a"].text
        assert "Tamil" in g.last("a")["messages"][0]["content"]
        assert all(turn["translation"] is None for turn in response.json()["messages"])


async def test_messages_are_needed_where_no_text_is_stored() -> None:
    async with gateway(engines=SAYS) as g:
        conv = await conversation(g)
        response = await g.client.post(f"/v1/conversations/{conv}/handoff", json={"model": "fake"})
        assert (response.status_code, response.json()["error"]["code"]) == (409, "text_not_stored")
        nobody = await g.client.post("/v1/conversations/nobody/handoff", json={"messages": MESSAGES, "model": "fake"})
        assert nobody.status_code == 404
        wrong = await g.client.post(f"/v1/conversations/{conv}/handoff", json={"message": []})
        assert wrong.status_code == 400


async def test_stored_text_is_enough() -> None:
    async with gateway(engines=SAYS, store_text=True) as g:
        conv = await conversation(g)
        response = await g.client.post(f"/v1/conversations/{conv}/handoff", json={"model": "fake"})
        assert response.status_code == 200, response.text
        assert response.json()["messages"][-1]["content"] == SAYS["a"].text


async def test_the_customers_next_turn_goes_on_without_repeating() -> None:
    """No id is sent: the thread is found by its messages, as clients do that know nothing of conversations."""
    policy = HOSTED + '[value_classes.high]\nhosted_first = true\n[intents.refund]\nvalue_class = "high"\n'
    far = Options(text="Your refund for OD-123 has begun.")
    async with gateway(engines=SAYS, policy=policy, hosted=True, residency="hosted_allowed", gemini=far) as g:
        first = await g.ask(messages=MESSAGES, metadata={"intent": "refund"})
        assert first.headers["x-appliance-route"] == "hosted"
        conv = first.headers["x-conversation-id"]
        told = await g.client.post(
            f"/v1/conversations/{conv}/handoff", json={"messages": MESSAGES, "language": "en", "model": "fake"}
        )
        assert told.status_code == 200, told.text
        later = [*MESSAGES, {"role": "assistant", "content": far.text}, {"role": "user", "content": "कब तक?"}]
        again = await g.ask(messages=later)
        assert again.headers["x-conversation-id"] == conv
        assert (again.headers["x-appliance-route"], again.headers["x-appliance-reason"]) == ("hosted", "sticky")
        assert g.gemini is not None and g.gemini.counters.last is not None
        sent = json.loads(g.gemini.counters.last.body)["contents"]
        assert [turn["role"] for turn in sent] == ["user", "model", "user", "model", "user"]
        assert "OD-123" in sent[0]["parts"][0]["text"] and sent[-1]["parts"][0]["text"] == "कब तक?"
