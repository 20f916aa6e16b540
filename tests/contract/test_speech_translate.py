"""Speech translated: a real gateway, stand-in speech hosts, and a real translation host with the embedded model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from contract.speech_hosts import SETTINGS, SpeechHost, speech_hosts
from contract.stack import Stack
from contract.test_translate import say_ready, start_host
from support import wait_until

ENGINE = '\n[engines.translate]\nkind = "translate"\ntask = "translate"\nmodel = "indictrans2-embedded"\n'


@contextmanager
def _served(more: str) -> Iterator[tuple[Stack, SpeechHost]]:
    stack = Stack(SETTINGS + more)
    try:
        with speech_hosts(stack.home) as (whisper, _):
            wait_until(lambda: stack.state("whisper") and stack.state("conformer"), 10, "the speech hosts are seen")
            yield stack, whisper
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Stack, SpeechHost]]:
    with _served(ENGINE) as (stack, whisper):
        path = stack.home / "run/translate.sock"
        process = start_host(stack, path)
        try:
            say_ready(stack, path)
            wait_until(lambda: stack.state("translate"), 10, "the gateway sees the translation host")
            yield stack, whisper
        finally:
            process.kill()
            process.wait()


def post(stack: Stack, path: str = "translations", **fields: Any) -> httpx.Response:
    form = {"model": "whisper-tiny", **fields}
    return stack.client.post(f"/v1/audio/{path}", data=form, files={"file": ("a.wav", bytes(32000))})


def test_hindi_comes_in_english_with_one_call_an_engine(served: tuple[Stack, SpeechHost]) -> None:
    stack, whisper = served
    whisper.forget()
    whisper.text, whisper.language = "फ़ाइल खोलें", "hi"
    answer = post(stack)
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"].lower() == "open file"
    _, attempts, calls = stack.entry(answer.headers["x-request-id"])
    assert len(attempts) == 1
    assert [(c["engine"], c["status"]) for c in calls] == [("whisper", "ok"), ("translate", "ok")]
    assert "open file" in post(stack, response_format="srt").text.lower()
    verbose = post(stack, response_format="verbose_json", language="hi").json()
    assert (verbose["task"], verbose["segments"][0]["end"]) == ("translate", 1.0)


def test_a_target_and_english_that_passes(served: tuple[Stack, SpeechHost]) -> None:
    stack, whisper = served
    whisper.forget()
    whisper.text = "Open file"
    assert post(stack, "transcriptions", mode="translate", target="hi").json()["text"] == "फ़ाइल खोलें"
    assert post(stack, language="en").json()["text"] == post(stack).json()["text"] == "Open file"


def test_without_a_translation_model_it_says_what_to_pull() -> None:
    with _served("") as (stack, _):
        error = post(stack, language="hi").json()["error"]
        assert error["code"] == "mode_not_installed" and "appliance models pull" in error["message"]
