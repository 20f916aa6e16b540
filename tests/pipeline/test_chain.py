"""Attempts one after the other, through the whole gateway: who answers, under which name, and what is on record."""

from __future__ import annotations

from gateway import events_of, gateway, text_of

from appliance.hosts.fake_answers import FakeOptions

WHOLE = "".join(f"t{n} " for n in range(6))
SIX = FakeOptions(chunks=6)
PACE = "[[set:chunk_ms=2]]"
# the two fakes count together, so that the first engine asked has the fault and the second has not
ONCE = f"{PACE}[[set:id=x]][[set:first=1]]"


async def test_a_text_that_breaks_off_goes_on_under_the_same_stream() -> None:
    async with gateway(engines={"a": SIX, "b": SIX}) as g:
        g.counters["b"].seen = g.counters["a"].seen
        response = await g.ask(f"{ONCE}[[fault:cut_after=4]]", stream=True, stream_options={"include_usage": True})
        assert response.status_code == 200
        *chunks, last = events_of(response)
        assert last == "[DONE]"
        assert text_of(response) == WHOLE
        assert len({c["id"] for c in chunks}) == 1 and len({c["created"] for c in chunks}) == 1
        roles = [c for c in chunks if c["choices"] and "role" in c["choices"][0]["delta"]]
        finishes = [c for c in chunks if c["choices"] and c["choices"][0]["finish_reason"]]
        usages = [c for c in chunks if not c["choices"]]
        assert (len(roles), len(finishes), len(usages)) == (1, 1, 1)
        request, attempts, calls = g.entry(response.headers["x-request-id"])
        assert (request["status"], request["reason"], request["escalated"]) == ("ok", "engine_failed_midstream", 1)
        assert [(a["status"], a["reason"]) for a in attempts] == [
            ("failed", "routine"),
            ("ok", "engine_failed_midstream"),
        ]
        second = g.last(attempts[1]["engine"])
        assert (second["continue_final_message"], second["add_generation_prompt"]) == (True, False)
        assert second["messages"][-1] == {"role": "assistant", "content": "t0 t1 t2 "}
        assert [c["status"] for c in calls] == ["failed", "ok"]
        # the customer's figures are of one answer; the ledger's of what each engine did
        assert usages[0]["usage"]["completion_tokens"] == 6
        assert [c["completion_tokens"] for c in calls] == [3, 3]
        assert usages[0]["usage"]["prompt_tokens"] == calls[1]["prompt_tokens"] - 3


async def test_ha_ha_is_text() -> None:
    async with gateway(engines={"a": SIX, "b": SIX}) as g:
        g.counters["b"].seen = g.counters["a"].seen
        said = await g.ask(f"{ONCE}[[set:text=ha ha ha ha]][[fault:cut_after=3]]", stream=True)
        assert text_of(said) == "ha ha ha ha"


async def test_where_no_other_engine_can_the_stream_ends_in_an_error() -> None:
    async with gateway(engines={"a": SIX}) as g:
        response = await g.ask(f"{ONCE}[[fault:cut_after=4]]", stream=True)
        *_, last = events_of(response)
        assert last["error"]["code"] == "engine_failed"


async def test_what_is_no_plain_text_is_not_taken_up() -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    async with gateway(engines={"a": SIX, "b": SIX}) as g:
        g.counters["b"].seen = g.counters["a"].seen
        response = await g.ask(f"{ONCE}[[fault:cut_after=4]]", stream=True, tools=[tool])
        assert "error" in events_of(response)[-1]
        _, attempts, _ = g.entry(response.headers["x-request-id"])
        assert len(attempts) == 1


async def test_the_bound_of_the_answer_counts_what_was_said() -> None:
    async with gateway(engines={"a": SIX, "b": SIX}) as g:
        g.counters["b"].seen = g.counters["a"].seen
        response = await g.ask(f"{ONCE}[[fault:cut_after=4]]", stream=True, max_tokens=5)
        assert text_of(response) == "t0 t1 t2 t3 t4 "
        assert events_of(response)[-2]["choices"][0]["finish_reason"] == "length"
