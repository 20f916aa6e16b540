"""JSON that was almost right."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.policy.mending import mended, strict


@pytest.mark.parametrize(
    ("text", "value", "cut"),
    [
        ('{"a": 1,}', {"a": 1}, False),
        ("[1, 2,, 3,]", [1, 2, 3], False),
        ('```json\n{"a": [1]}\n```\nAnything else?', {"a": [1]}, False),
        ("Here you are: {'a': 'it's', \"b\": True, c: None}", {"a": "it's", "b": True, "c": None}, False),
        ('{“शहर”: “पुणे”}', {"शहर": "पुणे"}, False),
        ('{"a": 1 "b": 2}', {"a": 1, "b": 2}, False),
        ('{"a": 1 /* two */, // three\n "b": 2}', {"a": 1, "b": 2}, False),
        ('{"a": {"b": [1, 2', {"a": {"b": [1]}}, True),
        ('{"a": [1, 2}', {"a": [1, 2]}, True),
        ('{"name": "Asha", "amount": 12', {"name": "Asha"}, True),
        ('{"name": "Asha", "city": "Pu', {"name": "Asha"}, True),
        ('{"name": "Asha", "paid": tr', {"name": "Asha"}, True),
        ('{"name": "Asha", "pa', {"name": "Asha"}, True),
        ('{"a": "\\u0915\\ud83d\\ude42\\n"}', {"a": "क🙂\n"}, False),
        ('{"a": "\\ud83d"}', {"a": "\ufffd"}, False),
    ],
)  # fmt: skip
def test_mended(text: str, value: object, cut: bool) -> None:
    found = mended(text)
    assert found is not None
    assert (found.value, found.cut) == (value, cut)
    assert strict(found.text) == value


@pytest.mark.parametrize(
    "text", ["", "no JSON here", '{"a":1}{"b":2}', '{"a" "b"}', '{"a": .5}', "{" * 500, '{"a": 1e999}', "[" * 100_000]
)
def test_what_is_not_clear_stays_broken(text: str) -> None:
    found = mended(text)
    assert found is None or found.value in ({}, [])


@pytest.mark.parametrize("text", ["NaN", '{"a": Infinity}', "[" * 10_000, "{'a': 1}", "1" * 5000])
def test_strict_is_strict(text: str) -> None:
    with pytest.raises(ValueError):
        strict(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=5), json_values, min_size=1, max_size=3))
def test_good_json_is_read_as_it_is(value: dict[str, object]) -> None:
    text = json.dumps(value)
    found = mended(text)
    assert found is not None and found.value == value and not found.cut
    for cut in range(1, len(text), 3):  # any beginning of it is read, or nothing is
        mended(text[:cut])
