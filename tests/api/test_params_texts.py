"""The bodies of /v1/detect-language and /v1/transliterate."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from appliance.api import params_texts
from appliance.api.params_texts import MOST_CHARACTERS, MOST_TEXTS, parse_detect, parse_transliterate
from appliance.errors import BadRequest


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_a_text_and_many() -> None:
    assert parse_detect(body(input="नमस्ते")).texts == ("नमस्ते",)
    assert parse_detect(body(input=["a", ""])).texts == ("a", "")
    params = parse_transliterate(body(input="a", target="bn", source="hi", scheme="informal", digits="native"))
    assert (params.source, params.target, params.scheme, params.digits) == ("hi", "bn", "informal", "native")
    assert parse_transliterate(body(input="a", target="bn")).digits == "keep"


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({}, "input", "required"),
        ({"input": None}, "input", "a string or an array"),
        ({"input": []}, "input", "1 to 256 strings"),
        ({"input": ["a"] * (MOST_TEXTS + 1)}, "input", "1 to 256 strings"),
        ({"input": [1]}, "input[0]", "string"),
        ({"input": "x" * (MOST_CHARACTERS + 1)}, "input", "send fewer a request"),
        ({"input": "a", "inputs": "b"}, "inputs", "did you mean 'input'"),
    ],
)
def test_bad_input_is_named(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words) as caught:
        parse_detect(body(**fields))
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"input": "a"}, "target", "required; give a language code"),
        ({"input": "a", "target": ""}, "target", "language code"),
        ({"input": "a", "target": "bn", "scheme": "itrans"}, "scheme", "iso15919 or informal"),
        ({"input": "a", "target": "bn", "digits": "latin"}, "digits", "native"),
    ],
)
def test_bad_transliterations_are_named(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words) as caught:
        parse_transliterate(body(**fields))
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("table", "decoded"),
    [(params_texts.DETECT, params_texts.DetectFields), (params_texts.TRANSLITERATE, params_texts.TransliterateFields)],
)
def test_the_table_and_the_decoder_know_the_same_names(table: Any, decoded: type[msgspec.Struct]) -> None:
    assert set(table.accepted()) == set(decoded.__struct_fields__)
