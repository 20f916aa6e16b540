"""The official ``openai`` client against real engines: an answer, a stream, a transcript, a client that leaves."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import openai
import pytest
from real.served import Appliance
from support import wait_until

RECORDING = Path(__file__).resolve().parents[1] / "data" / "order.wav"
SAID = "Thank you for calling. Your order will arrive on Monday morning, and the driver will call you first."
QUESTION = [{"role": "user", "content": "What is the capital of India?"}]


@pytest.fixture
def client(appliance: Appliance) -> openai.OpenAI:
    return openai.OpenAI(base_url=appliance.base_url, api_key=appliance.admin_key, max_retries=0)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def wrong_words(said: list[str], heard: list[str]) -> int:
    """Levenshtein distance over words."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]


def test_the_capital_of_india(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="default", messages=QUESTION, max_tokens=32, temperature=0)
    assert "New Delhi" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


def test_the_capital_of_india_as_a_stream_without_usage_unless_asked(client: openai.OpenAI) -> None:
    def ask(**more: object) -> list[openai.types.chat.ChatCompletionChunk]:
        return list(
            client.chat.completions.create(
                model="default", messages=QUESTION, max_tokens=32, temperature=0, stream=True, **more
            )
        )

    chunks = ask()
    assert "New Delhi" in "".join(c.choices[0].delta.content or "" for c in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(c.usage is None for c in chunks)
    last = ask(stream_options={"include_usage": True})[-1]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens > 0


def test_text_completion_answers(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="default", prompt="The capital of India is", max_tokens=8, temperature=0)
    assert answer.choices[0].text.strip()
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8


def test_json_schema_is_kept(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="default",
        messages=[{"role": "user", "content": "Name the capital of India as JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": schema}},
        max_tokens=48,
        temperature=0,
    )
    assert re.fullmatch(r'\{\s*"city"\s*:\s*"[^"]{0,20}"\s*\}', answer.choices[0].message.content or "")


def test_a_prompt_too_long_names_both_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="default", messages=[{"role": "user", "content": "word " * 9000}])
    assert caught.value.code == "context_length_exceeded"
    assert "8192" in caught.value.message
    assert len(re.findall(r"\d{4,}", caught.value.message)) >= 2


def test_tools_on_a_model_that_has_none_are_refused_in_our_words(client: openai.OpenAI) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    with pytest.raises(openai.BadRequestError, match="cannot call tools"):
        client.chat.completions.create(model="default", messages=QUESTION, tools=[tool])  # type: ignore[list-item]


@pytest.mark.parametrize("name", ["whisper-1", "gpt-4o-transcribe", "whisper-base"])
def test_the_recording_is_transcribed(client: openai.OpenAI, name: str) -> None:
    heard = client.audio.transcriptions.create(model=name, file=RECORDING, language="en")
    assert wrong_words(words(SAID), words(heard.text)) <= 1


def test_the_recording_as_subtitles_words_and_a_stream(client: openai.OpenAI) -> None:
    srt = client.audio.transcriptions.create(model="whisper-1", file=RECORDING, language="en", response_format="srt")
    assert re.match(r"1\n00:00:00,\d{3} --> 00:00:0\d,\d{3}\n", str(srt))
    verbose = client.audio.transcriptions.create(
        model="whisper-1",
        file=RECORDING,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert verbose.language == "english"
    assert verbose.words is not None
    assert wrong_words(words(SAID), words(" ".join(w.word for w in verbose.words))) <= 1
    assert 6 < verbose.duration < 8
    events = list(client.audio.transcriptions.create(model="whisper-1", file=RECORDING, language="en", stream=True))
    assert events[-1].type == "transcript.text.done"
    assert "".join(e.delta for e in events[:-1] if e.type == "transcript.text.delta") == events[-1].text


def running(appliance: Appliance) -> float:
    transport = httpx.HTTPTransport(uds=str(appliance.home / "run" / "chat.sock"))
    with httpx.Client(transport=transport, base_url="http://engine") as engine:
        found = re.search(r"^vllm:num_requests_running\{.*\} ([0-9.]+)$", engine.get("/metrics").text, re.M)
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_vllm(appliance: Appliance, stream: bool) -> None:
    # without its end token (2) the model cannot finish by itself
    body = {"model": "default", "messages": QUESTION, "max_tokens": 4000, "stream": stream, "logit_bias": {"2": -100}}
    headers = {"Authorization": f"Bearer {appliance.admin_key}"}
    with httpx.Client(base_url=appliance.url, headers=headers) as client:
        request = client.build_request("POST", "/v1/chat/completions", json=body)
        if stream:
            answer = client.send(request, stream=True)
            pieces = answer.iter_bytes()  # held: a forgotten iterator closes the connection when it is collected
            next(pieces)
            wait_until(lambda: running(appliance) >= 1, 10, "vLLM worked on it")
            answer.close()
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/chat/completions", json=body, timeout=1.0)
    wait_until(lambda: running(appliance) == 0, 5, "vLLM stopped")

    def cancelled() -> bool:
        with closing(sqlite3.connect(f"file:{appliance.home}/ledger.db?mode=ro", uri=True)) as ledger:
            return ledger.execute("SELECT status FROM requests ORDER BY id DESC LIMIT 1").fetchone() == ("cancelled",)

    wait_until(cancelled, 5, "the ledger said cancelled")
