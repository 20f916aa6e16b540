"""/v1/detect-language and /v1/transliterate through a real gateway, and what they leave in the ledger."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from contract.stack import Stack


def post(stack: Stack, path: str, body: dict[str, Any], **headers: str) -> Any:
    return stack.client.post(path, json=body, headers=headers)


def rows(stack: Stack, query: str, *values: str) -> list[Any]:
    with closing(sqlite3.connect(stack.home / "ledger.db")) as db:
        return db.execute(query, values).fetchall()


def test_languages_are_detected(stack: Stack) -> None:
    texts = ["मेरा पार्सल कब तक आएगा?", "mera order kab tak aayega bhai", "12345", "माझे account बंद झाले आहे"]
    response = post(stack, "/v1/detect-language", {"input": texts})
    assert response.status_code == 200, response.text
    answer = response.json()
    first, second, third, fourth = answer["data"]
    assert (first["index"], first["language"], first["tag"], first["script"]) == (0, "hi", "hin_Deva", "Deva")
    assert (second["language"], second["tag"], second["romanised"]) == ("hi-Latn", "hin_Deva", True)
    assert (third["language"], third["tag"], third["script"], third["languages"]) == (None, None, None, [])
    assert [one["tag"] for one in fourth["languages"]] == ["mar_Deva", "eng_Latn"]
    assert answer["usage"] == {"characters": sum(map(len, texts))}
    assert response.headers["x-appliance-route"] == "local"


def test_every_request_leaves_its_rows(stack: Stack) -> None:
    response = post(stack, "/v1/detect-language", {"input": "வணக்கம்"})
    request_id = response.headers["x-request-id"]
    found = rows(stack, "SELECT endpoint, model, status, http_status FROM requests WHERE id = ?", request_id)
    assert found == [("detect-language", "language-id", "ok", 200)]
    attempts = rows(stack, "SELECT engine, status FROM attempts WHERE request_id = ?", request_id)
    assert attempts == [("gateway", "ok")]
    calls = rows(stack, "SELECT characters FROM calls WHERE request_id = ?", request_id)
    assert calls == [(7,)]
    assert "x-conversation-id" not in response.headers  # a text that was looked at is no conversation


def test_what_cannot_be_done_is_recorded_as_refused(stack: Stack) -> None:
    response = post(stack, "/v1/transliterate", {"input": "mera order kab aayega", "source": "hi-Latn", "target": "hi"})
    assert response.status_code == 501
    error = response.json()["error"]
    assert error["code"] == "not_installed"
    assert "indictrans2-embedded" in error["message"]
    found = rows(
        stack, "SELECT status, http_status, error_code FROM requests WHERE id = ?", response.headers["x-request-id"]
    )
    assert found == [("refused", 501, "not_installed")]


def test_texts_are_transliterated(stack: Stack) -> None:
    body = {"input": ["नमस्ते १२", "ਪੱਕਾ ਘਰ"], "target": "Gujarati", "digits": "native"}
    answer = post(stack, "/v1/transliterate", body).json()
    assert [one["text"] for one in answer["data"]] == ["નમસ્તે ૧૨", "પક્કા ઘર"]
    assert answer["data"][1]["source"] == "pa"
    answer = post(stack, "/v1/transliterate", {"input": "नमस्ते", "source": "hi", "target": "hi-Latn"}).json()
    assert answer["data"][0] == {"index": 0, "text": "namastē", "source": "hi", "target": "hi-Latn"}
    body = {"input": "नमस्ते", "source": "hi", "target": "latin", "scheme": "informal"}
    assert post(stack, "/v1/transliterate", body).json()["data"][0]["text"] == "namaste"
    body = {"input": "namastē", "source": "hi-Latn", "target": "Deva", "scheme": "iso15919"}
    assert post(stack, "/v1/transliterate", body).json()["data"][0]["text"] == "नमस्ते"


def test_a_long_text_is_transliterated_in_a_thread(stack: Stack) -> None:
    body = {"input": "नमस्ते " * 10_000, "source": "hi", "target": "Telu"}
    response = post(stack, "/v1/transliterate", body)
    assert response.status_code == 200
    assert response.json()["data"][0]["text"].startswith("నమస్తే ")


def test_bad_requests_name_the_fix(stack: Stack) -> None:
    for body, words in (
        ({"input": "नमस्ते", "target": "klingon"}, "or a script: Arab"),
        ({"input": "12345", "target": "Beng"}, "its language cannot be told; give 'source'"),
        ({"input": "hello, where is my order", "target": "Deva"}, "it is in English"),
        ({"input": "नमस्ते", "source": "en", "target": "Deva"}, "English is not transliterated"),
        ({"input": "مدد", "source": "ur", "target": "Deva"}, "Sindhi and Kashmiri only"),
    ):
        response = post(stack, "/v1/transliterate", body)
        assert response.status_code == 400, response.text
        assert words in response.json()["error"]["message"]


def test_the_same_idempotency_key_gets_the_same_answer(stack: Stack) -> None:
    sent = {"idempotency-key": "detect-once"}
    first = post(stack, "/v1/detect-language", {"input": "নমস্কার, কেমন আছেন"}, **sent)
    again = post(stack, "/v1/detect-language", {"input": "নমস্কার, কেমন আছেন"}, **sent)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    assert again.headers["x-request-id"] == first.headers["x-request-id"]


def test_without_a_key_or_with_another_method(stack: Stack) -> None:
    for path in ("/v1/detect-language", "/v1/transliterate"):
        assert stack.client.post(path, json={}, headers={"authorization": "Bearer no"}).status_code == 401
        assert stack.client.get(path).status_code == 405
