"""Which history is which: what clients really send back is recognised, and nothing else is."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionMessage

from appliance.api.params import parse_chat
from appliance.api.turns import Thread
from appliance.engines.sse import Scanner, whole_decoder
from appliance.types import Answer, Key, Tenant, ToolUse

ACME = Tenant("acme", "Acme", "salt", secret=b"a" * 32)
OTHER = Tenant("other", "Other", "salt", secret=b"b" * 32)
KEY = Key("key_1", "web", "client", ACME)


def thread(messages: list[Any], key: Key = KEY, user: str | None = None) -> Thread:
    """As the route makes it: parsed and tidied by the real parameters."""
    body = msgspec.json.encode({"model": "m", "messages": messages})
    parsed = parse_chat(body).messages
    assert parsed is not None
    return Thread(key, user, parsed)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def whole(message: dict[str, Any]) -> tuple[Answer, ChatCompletionMessage]:
    """An engine's whole answer, as the gateway understands it and as openai-python does."""
    body = {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}],
    }  # fmt: skip
    heard = whole_decoder.decode(msgspec.json.encode(body)).answer()
    assert heard is not None
    return heard, ChatCompletion.model_validate(body).choices[0].message


ANSWERS: list[dict[str, Any]] = [
    {"content": "Your order is on its way."},
    {"content": "  आपका ऑर्डर रास्ते में है।\n"},
    {"content": ""},
    {"content": "e\u0301 \u00e9 \u0915\u093c \u0958 \u200d\u200c🙏🏽"},
    {"content": None, "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": '{"id": "A1","शहर":"दिल्ली"}'}}]},
    {"content": "Let me look.", "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "a", "arguments": "{}"}},
        {"id": "call_2", "type": "function", "function": {"name": "b", "arguments": '{"x": [1, 2.50, 1e3, null]}'}}]},
    {"content": None, "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "broken", "arguments": '{"cut": '}}]},
]  # fmt: skip


def as_dumped(message: ChatCompletionMessage) -> Any:
    return message.model_dump()


def as_dumped_without_nulls(message: ChatCompletionMessage) -> Any:
    return message.model_dump(exclude_none=True)


def as_json(message: ChatCompletionMessage) -> Any:
    return json.loads(message.to_json())


def as_parts(message: ChatCompletionMessage) -> Any:
    echoed = message.model_dump(exclude_none=True)
    if echoed.get("content"):
        echoed["content"] = [{"type": "text", "text": echoed["content"]}]
    return echoed


def as_a_framework(message: ChatCompletionMessage) -> Any:
    """LangChain and its like: arguments become an object and are written anew, and null is an empty text."""
    echoed = message.model_dump(exclude_none=True)
    for call in echoed.get("tool_calls", ()):
        try:
            arguments = json.loads(call["function"]["arguments"])
        except ValueError:
            continue
        call["function"]["arguments"] = json.dumps(arguments, ensure_ascii=True, indent=1)
    return {**echoed, "content": echoed.get("content", "").strip()}


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
@pytest.mark.parametrize("echo", [as_dumped, as_dumped_without_nulls, as_json, as_parts, as_a_framework])
def test_what_clients_send_back_is_recognised(answer: dict[str, Any], echo: Any) -> None:
    heard, message = whole(answer)
    recorded = thread([user("where is it?")]).after(heard)
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "42"} for call in answer.get("tool_calls") or ()]
    back = thread([user("where is it?"), echo(message), *results, user("and now?")])
    assert back.so_far == recorded


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
def test_a_stream_is_the_same_answer_as_the_whole(answer: dict[str, Any]) -> None:
    scanner = Scanner(1, False)
    text = answer["content"] or ""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": letter} for letter in text]
    for index, call in enumerate(answer.get("tool_calls") or ()):
        function = call["function"]
        deltas.append({"tool_calls": [{"index": index, "id": call["id"], "function": {**function, "arguments": ""}}]})
        for letter in function["arguments"]:
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": letter}}]})
    for delta in deltas:
        chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        scanner.feed(b"data: " + msgspec.json.encode(chunk) + b"\n\n")
    streamed = scanner.answer()
    assert streamed is not None
    opening = thread([user("x")])
    assert opening.after(streamed) == opening.after(whole(answer)[0])


@pytest.mark.parametrize("arguments", ["[" * 100_000, "9" * 5000, '"\\ud800"', "NaN", ""])
def test_arguments_that_are_no_json_are_compared_as_they_are(arguments: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    recorded = thread([user("x")]).after(Answer("", (ToolUse("c", "f", arguments),)))
    assert thread([user("x"), assistant(None, tool_calls=[call])]).so_far == recorded


def test_what_is_not_said_does_not_count() -> None:
    """The time in a system prompt, hints for the engine, and where a text is cut into parts."""
    plain = thread([user("hello"), assistant("hi"), user("x")]).so_far
    assert plain is not None
    for same in (
        [{"role": "system", "content": "it is 10:31"}, user("hello"), assistant("hi"), user("y")],
        [{"role": "developer", "content": "be kind"}, user("hello"), assistant("hi"), user("y")],
        [user([{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]), assistant("hi"), user("y")],
        [user(" hello\n"), assistant("hi", refusal=None, annotations=[], audio=None), user("y")],
        [user("hello"), assistant("hi", reasoning_content="the user greets"), user("y")],
    ):
        assert thread(same).so_far == plain


def test_a_first_turn_has_no_history() -> None:
    assert thread([user("hi")]).so_far is None
    assert thread([{"role": "system", "content": "x"}, user("hi"), user("hello?")]).so_far is None


def test_unicode_is_left_alone() -> None:
    """Composed and decomposed letters are different bytes to an engine, and here."""
    composed, decomposed = "caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")
    assert thread([user(composed), assistant("a")]).so_far != thread([user(decomposed), assistant("a")]).so_far


MEDIA = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def test_another_picture_is_another_history() -> None:
    other = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgp="}}
    asked = {"type": "text", "text": "what is it?"}
    one, two = (thread([user([asked, picture]), assistant("a cat")]).so_far for picture in (MEDIA, other))
    assert one is not None and one != two
    assert thread([user([asked, MEDIA]), assistant("a cat"), user("sure?")]).so_far == one


# Short, and of few letters, so that equal texts and texts that run into each other are common.
_text = st.text("ab \n", max_size=3)
_call = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["c1", "c2"]),
        "type": st.just("function"),
        "function": st.fixed_dictionaries(
            {"name": st.sampled_from(["f", "g"]), "arguments": st.sampled_from(["{}", "x"])}
        ),
    }
)
_message = st.one_of(
    st.builds(user, _text),
    st.builds(assistant, _text),
    st.builds(lambda text, calls: assistant(text, tool_calls=calls), _text, st.lists(_call, min_size=1, max_size=2)),
    st.builds(lambda text: {"role": "tool", "tool_call_id": "c1", "content": text}, _text),
)
_history = st.lists(_message, min_size=1, max_size=5)


def said(messages: list[dict[str, Any]]) -> Any:
    """What a history says, spelled out: the model of what the HMAC has to tell apart."""
    last = max((n for n, m in enumerate(messages) if m["role"] == "assistant"), default=-1)
    return json.dumps(
        [[m["role"], m["content"].strip(), m.get("tool_calls"), m.get("tool_call_id")] for m in messages[: last + 1]],
        sort_keys=True,
    )


@given(_history, _history)
def test_two_histories_are_the_same_only_if_they_say_the_same(one: list[Any], two: list[Any]) -> None:
    assume(said(one) != said([]) and said(two) != said([]))
    assert (thread(one).so_far == thread(two).so_far) == (said(one) == said(two))


@given(_history, _text, st.lists(_call, max_size=2))
def test_an_answer_continues_exactly_its_own_history(history: list[Any], text: str, calls: list[Any]) -> None:
    tools = tuple(ToolUse(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls)
    recorded = thread(history).after(Answer(text, tools))
    echo = assistant(text, **({"tool_calls": calls} if calls else {}))
    assert thread([*history, echo, user("next")]).so_far == recorded
    assert thread([*history, echo, user("edited")]).so_far == recorded  # a branch from the same answer
    assert thread(history).so_far != recorded  # regenerating it is not going on from it
    assert thread([user("edited"), *history, echo]).so_far != recorded


@given(_history, st.sampled_from(["tenant", "key", "user"]))
def test_a_history_of_somebody_else_is_another_one(history: list[Any], what: str) -> None:
    """Whoever guesses or steals it, word for word."""
    mine = thread([*history, assistant("a")], user="asha").so_far
    stranger = {
        "tenant": (Key(KEY.id, "web", "client", OTHER), "asha"),
        "key": (Key("key_2", "web", "client", ACME), "asha"),
        "user": (KEY, "bilal"),
    }[what]
    assert mine is not None and thread([*history, assistant("a")], *stranger).so_far != mine


def test_a_user_is_not_a_part_of_the_history() -> None:
    """No choice of names and texts makes one look like the other."""
    assert thread([user("b"), assistant("c")], user="a").so_far != thread([user("ab"), assistant("c")]).so_far
