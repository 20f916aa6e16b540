"""Conversations, outcomes, kept answers and limits, through a real gateway and the fake engine."""

from __future__ import annotations

import json
import threading
from typing import Any

import openai
import pytest
from contract.stack import Stack


def ask(stack: Stack, messages: list[dict[str, Any]], headers: dict[str, str] | None = None, **more: Any) -> Any:
    response = stack.client.post(
        "/v1/chat/completions", json={"model": "fake", "messages": messages, **more}, headers=headers or {}
    )
    assert response.status_code == 200, response.text
    return response


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer_of(response: Any) -> dict[str, Any]:
    message: dict[str, Any] = response.json()["choices"][0]["message"]
    return message


def conversation_of(response: Any) -> str:
    found: str = response.headers["x-conversation-id"]
    return found


@pytest.mark.parametrize("echo", ["as it came", "without nulls", "stripped", "as parts"])
def test_a_conversation_is_found_by_its_history(stack: Stack, echo: str) -> None:
    opening = [user(f"where is my order? {echo}")]
    first = ask(stack, opening)
    message = answer_of(first)
    if echo == "without nulls":
        message = {name: value for name, value in message.items() if value is not None}
    elif echo == "stripped":
        message = {"role": "assistant", "content": message["content"].strip()}
    elif echo == "as parts":
        message = {"role": "assistant", "content": [{"type": "text", "text": message["content"]}]}
    second = ask(stack, [{"role": "system", "content": "the time is 10:31"}, *opening, message, user("and now?")])
    assert conversation_of(second) == conversation_of(first)
    third = ask(stack, [*opening, message, user("and now?"), answer_of(second), user("thanks")])
    assert conversation_of(third) == conversation_of(first)


def test_a_streamed_answer_is_found_too(stack: Stack) -> None:
    opening = [user("stream to me, please")]
    first = ask(stack, opening, stream=True)
    chunks = [json.loads(line[6:]) for line in first.text.splitlines() if line.startswith("data: {")]
    said = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    second = ask(stack, [*opening, {"role": "assistant", "content": said}, user("go on")])
    assert conversation_of(second) == conversation_of(first)


def test_two_customers_who_both_say_hi_never_meet(stack: Stack) -> None:
    """Also on their second turn, when both have had the same answer."""
    first = [ask(stack, [user("hi")]) for _ in range(2)]
    history = [user("hi"), answer_of(first[0]), user("my order?")]
    second = [ask(stack, history) for _ in range(2)]
    assert len({conversation_of(response) for response in [*first, *second]}) == 4
    # their callers tell them apart, and then each goes on alone
    named = [ask(stack, [user("hi")], user=name) for name in ("asha", "bilal")]
    again = [ask(stack, history, user=name) for name in ("asha", "bilal")]
    assert [conversation_of(r) for r in again] == [conversation_of(r) for r in named]
    assert conversation_of(named[0]) != conversation_of(named[1])


@pytest.mark.parametrize("where", ["header", "metadata", "conversation", "object"])
def test_a_callers_own_id(stack: Stack, where: str) -> None:
    name = f"ticket-{where}"
    for _ in range(2):
        response = ask(
            stack,
            [user("hello")],
            {"x-conversation-id": name} if where == "header" else None,
            **({"metadata": {"conversation_id": name}} if where == "metadata" else {}),
            **({"conversation": name} if where == "conversation" else {}),
            **({"conversation": {"id": name}} if where == "object" else {}),
        )
        assert conversation_of(response) == name
    assert stack.rows("SELECT requests FROM conversations WHERE id = ?", name) == [{"requests": 2}]


def test_an_answers_id_names_its_conversation(stack: Stack) -> None:
    first = ask(stack, [user("hello")])
    for earlier in (first.json()["id"], first.headers["x-request-id"]):
        assert conversation_of(ask(stack, [user("more")], previous_response_id=earlier)) == conversation_of(first)
    unknown = stack.client.post(
        "/v1/chat/completions", json={"model": "fake", "messages": [user("x")], "previous_response_id": "chatcmpl-0"}
    )
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "previous_response_not_found")


@pytest.mark.parametrize(
    ("body", "headers", "param"),
    [
        ({"metadata": {"conversation_id": "a"}}, {"x-conversation-id": "b"}, None),
        ({"conversation": "a", "previous_response_id": "req_1"}, {}, "previous_response_id"),
        ({"metadata": {"conversation_id": "a b"}}, {}, "metadata.conversation_id"),
        ({"metadata": {"channel": "pigeon"}}, {}, "metadata.channel"),
        ({"metadata": {"language": "klingon"}}, {}, "metadata.language"),
        ({"metadata": {"intent": "x" * 65}}, {}, "metadata.intent"),
        ({}, {"x-appliance-metadata": "[1]"}, "X-Appliance-Metadata"),
        ({}, {"x-conversation-id": "x" * 129}, "the header X-Conversation-Id"),
        ({}, {"idempotency-key": "x" * 256}, "Idempotency-Key"),
    ],
)
def test_what_is_not_understood_is_a_400(stack: Stack, body: Any, headers: Any, param: str | None) -> None:
    response = stack.client.post(
        "/v1/chat/completions", json={"model": "fake", "messages": [user("x")], **body}, headers=headers
    )
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_what_metadata_says_is_recorded(stack: Stack) -> None:
    about = {"channel": "whatsapp", "language": "hi-IN", "intent": "refund", "value_class": "high"}
    name = conversation_of(ask(stack, [user("hello")], metadata=about, user="asha"))
    columns = "channel, language, intent, value_class, subject"
    (row,) = stack.rows(f"SELECT {columns} FROM conversations WHERE id = ?", name)
    assert (row["channel"], row["language"], row["intent"], row["value_class"]) == (
        "whatsapp",
        "hin_Deva",
        "refund",
        "high",
    )
    assert len(row["subject"]) == 32 and "asha" not in row["subject"]


def test_outcomes_have_a_history(stack: Stack) -> None:
    name = conversation_of(ask(stack, [user("hello")]))
    path = f"/v1/conversations/{name}"
    assert stack.client.get(path).json()["state"] == "open"
    for _ in range(2):  # saying it again adds nothing
        said = stack.client.post(f"{path}/outcome", json={"resolved": True, "csat": 5, "note": "धन्यवाद"})
        assert (said.status_code, said.json()["state"]) == (200, "resolved")
    stack.client.post(f"{path}/outcome", json={"resolved": False})
    seen = stack.client.get(path).json()
    assert seen["state"] == "unresolved"
    assert [(o["resolved"], o["csat"], o["note"]) for o in seen["outcomes"]] == [
        (True, 5, "धन्यवाद"),
        (False, None, None),
    ]
    ask(stack, [user("not done yet")], {"x-conversation-id": name})
    seen = stack.client.get(path).json()
    assert (seen["state"], seen["reopened"], seen["requests"]) == ("open", 1, 2)
    stack.client.post(f"{path}/outcome", json={"handed_to_human": True})
    assert stack.client.get(path).json()["state"] == "handed_to_human"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{}", "at least one of"),
        (b"[]", "not understood"),
        (b'{"resolved": "yes"}', "not understood"),
        (b'{"csat": 6}', "not understood"),
        (b'{"verdict": true}', "not understood"),
        (b'{"resolved": true, "handed_to_human": true}', "contradict"),
        (json.dumps({"note": "x" * 2001}).encode(), "2000 characters"),
        (b'{"note": "a\\u0000b"}', "NUL"),
        (b"\xff", "not understood"),
    ],
)
def test_an_outcome_that_is_not_one_is_a_400(stack: Stack, body: bytes, says: str) -> None:
    name = conversation_of(ask(stack, [user("hello")]))
    response = stack.client.post(f"/v1/conversations/{name}/outcome", content=body)
    assert response.status_code == 400
    assert says in response.json()["error"]["message"]


@pytest.mark.parametrize("name", ["conv_nobody", "'; DROP TABLE conversations; --", "x" * 3000, "%00", "..%2fx"])
def test_an_unknown_conversation_is_a_404(stack: Stack, name: str) -> None:
    # a slash in it makes it another route, one that OpenAI has and this appliance has not
    expected = 501 if "%2f" in name else 404
    assert stack.client.get(f"/v1/conversations/{name}").status_code == expected
    outcome = stack.client.post(f"/v1/conversations/{name}/outcome", json={"resolved": True})
    assert outcome.status_code == expected


@pytest.mark.parametrize("stream", [False, True])
def test_the_same_request_runs_once(stack: Stack, stream: bool) -> None:
    key = {"idempotency-key": f"order-{stream}"}
    body = [user("count me once")]
    first, again = (ask(stack, body, key, stream=stream) for _ in range(2))
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    for name in ("x-request-id", "x-conversation-id", "content-type"):
        assert again.headers[name] == first.headers[name]
    rows = stack.rows("SELECT id FROM requests WHERE conversation_id = ?", conversation_of(first))
    assert [row["id"] for row in rows] == [first.headers["x-request-id"]]
    other = stack.client.post(
        "/v1/chat/completions", json={"model": "fake", "messages": [user("another")], "stream": stream}, headers=key
    )
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")


def test_of_twenty_at_once_one_runs(stack: Stack) -> None:
    results: list[tuple[int, str]] = []

    def send() -> None:
        body = {"model": "fake", "messages": [user("[[set:chunks=10]][[set:chunk_ms=50]] once, please")]}
        response = stack.client.post("/v1/chat/completions", json=body, headers={"idempotency-key": "twenty"})
        results.append((response.status_code, response.headers["x-request-id"]))

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ok = {request_id for status, request_id in results if status == 200}
    assert len(ok) == 1
    assert {status for status, _ in results} <= {200, 409}


def test_limits_reach_the_official_client(stack: Stack) -> None:
    secret = stack.make_key("limited", requests_per_minute=2, tokens_per_minute=100_000)
    client = openai.OpenAI(api_key=secret, base_url=f"http://127.0.0.1:{stack.port}/v1", max_retries=0)
    messages: Any = [user("hello")]
    raw = client.chat.completions.with_raw_response.create(model="fake", messages=messages)
    assert raw.headers["x-ratelimit-limit-requests"] == "2"
    assert raw.headers["x-ratelimit-remaining-requests"] == "1"
    assert int(raw.headers["x-ratelimit-remaining-tokens"]) < 100_000
    client.chat.completions.create(model="fake", messages=messages)
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="fake", messages=messages)
    assert int(caught.value.response.headers["retry-after"]) >= 1


def test_a_spent_budget_is_a_402_that_clients_do_not_retry(stack: Stack) -> None:
    secret = stack.make_key("poor", cap_nusd=0)
    client = openai.OpenAI(api_key=secret, base_url=f"http://127.0.0.1:{stack.port}/v1", max_retries=3)
    messages: Any = [user("hello")]
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="fake", messages=messages)
    assert (caught.value.status_code, caught.value.code) == (402, "budget_exceeded")
    assert stack.rows("SELECT count(*) AS n FROM requests WHERE error_code = 'budget_exceeded'") == [{"n": 1}]


def test_a_key_stays_inside_its_models_and_endpoints(stack: Stack) -> None:
    elsewhere = {"authorization": f"Bearer {stack.make_key('elsewhere', models=['other'])}"}
    body = {"model": "fake", "messages": [user("hello")]}
    refused = stack.client.post("/v1/chat/completions", json=body, headers=elsewhere)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
    assert stack.client.get("/v1/models", headers=elsewhere).json()["data"] == []
    legacy = {"authorization": f"Bearer {stack.make_key('legacy', endpoints=['completions'])}"}
    refused = stack.client.post("/v1/chat/completions", json=body, headers=legacy)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "endpoint_not_allowed")
    allowed = stack.client.post("/v1/completions", json={"model": "fake", "prompt": "x"}, headers=legacy)
    assert allowed.status_code == 200
