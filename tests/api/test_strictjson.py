"""Bodies that are not JSON, or not quite: always 400 in one sentence, whatever was sent."""

from __future__ import annotations

import pytest

from appliance.api.params_chat import parse_chat
from appliance.errors import BadRequest

HELLO = b'"messages":[{"role":"user","content":"x"}]'


def refused(body: bytes) -> BadRequest:
    """The error for ``body``."""
    with pytest.raises(BadRequest) as e:
        parse_chat(body)
    assert len(e.value.message) < 400
    return e.value


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"{", "ends early"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'"text"', "object"),
        (b"not json", "not valid JSON"),
        (b"{'model': 'm'}", "not valid JSON"),
        (b'{"model":"m",' + HELLO + b"} trailing", "not valid JSON"),
        (b'{"model":"m",' + HELLO + b',"temperature":NaN}', "NaN"),
        (b'{"model":"m",' + HELLO + b',"temperature":-Infinity}', "NaN"),
        (b'{"model":"m",' + HELLO + b',"metadata":{"a":"\\ud800"}}', "escape"),
        (b'{"model":"\xff",' + HELLO + b"}", "UTF-8"),
        (b'{"\xc3\x28":1}', "UTF-8"),
        ('{"model":"m"}'.encode("utf-16"), "JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
    ],
)
def test_broken_bodies(body: bytes, word: str) -> None:
    error = refused(body)
    assert error.code == "invalid_json"
    assert word in error.message


@pytest.mark.parametrize(
    "opening",
    [
        b"[",
        b'{"a":',
        b'{"messages":[{"role":"user","content":"x"}],"prediction":{"a":' + b"[",
        b'{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"parameters":{"a":[',
    ],
)
def test_ten_megabytes_of_brackets(opening: bytes) -> None:
    body = opening + b"[" * 10_000_000
    assert refused(body).status == 400
    closed = opening + b"[" * 5_000_000 + b"]" * 5_000_000
    assert refused(closed).status == 400


def test_a_number_that_no_float_holds() -> None:
    assert refused(b'{"model":"m",' + HELLO + b',"temperature":1e999}').param == "temperature"


def test_of_a_duplicated_key_the_engine_sees_one() -> None:
    sent = parse_chat(b'{"model":"m",' + HELLO + b',"n":8,"n":2}').engine_body("m", None)
    assert sent.count(b'"n":') == 1
    assert b'"n":2' in sent


def test_quotes_from_the_caller_are_short_and_printable() -> None:
    error = refused(b'{"' + b"x" * 1_000_000 + b'":1}')
    assert error.code == "unknown_parameter"
    assert error.param is not None
    assert len(error.param) <= 101
    assert "\x1b" not in refused(b'{"\\u001b[31m":1}').message


def test_a_hostile_name_does_not_confuse_the_place() -> None:
    error = refused(b'{"a` - at `$.messages[0]`":1}')
    assert error.code == "unknown_parameter"
