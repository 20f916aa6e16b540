"""Answers of a real gateway over the fake engine, against the OpenAPI document that it serves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from contract.stack import Stack
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

WAV = b"RIFF" + (36 + 3200).to_bytes(4, "little") + b"WAVEfmt " + bytes([16, 0, 0, 0, 1, 0, 1, 0])
WAV += (16000).to_bytes(4, "little") + (32000).to_bytes(4, "little") + bytes([2, 0, 16, 0]) + b"data"
WAV += (3200).to_bytes(4, "little") + bytes(3200)


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("POST", "/v1/chat/completions", {"json": {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}}),
        ("POST", "/v1/completions", {"json": {"model": "fake", "prompt": "hi"}}),
        ("POST", "/v1/audio/transcriptions", {"data": {"model": "whisper-1"}, "files": {"file": ("a.wav", WAV)}}),
        ("POST", "/v1/detect-language", {"json": {"input": ["मेरा ऑर्डर कहाँ है?", "12"]}}),
        ("POST", "/v1/transliterate", {"json": {"input": "नमस्ते", "target": "Latn", "source": "hi"}}),
        ("GET", "/v1/audio/languages", {"params": {"model": "whisper-1"}}),
        ("GET", "/v1/models", {}),
        ("GET", "/v1/models/fake", {}),
        ("GET", "/health/live", {}),
    ],
)
def test_answers_fit_the_document(stack: Stack, method: str, path: str, more: dict[str, Any]) -> None:
    spec = stack.client.get("/openapi.json").json()
    response = stack.client.request(method, path, **more)
    assert response.status_code == 200, response.text
    described = spec["paths"][path.replace("/fake", "/{model}")][method.lower()]
    schema = described["responses"]["200"]["content"]["application/json"]["schema"]
    resource: Any = Resource.from_contents({"$schema": "https://json-schema.org/draft/2020-12/schema", **spec})
    registry: Any = Registry().with_resource("urn:spec", resource)
    there = json.loads(json.dumps(schema).replace('"#/components', '"urn:spec#/components'))
    Draft202012Validator(there, registry=registry).validate(response.json())
