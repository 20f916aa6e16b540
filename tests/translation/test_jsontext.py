from __future__ import annotations

import json

import pytest

from appliance.translation.jsontext import Value, for_people, is_json, replaced, values


def test_values_have_the_key_they_are_under_and_are_replaced_in_place() -> None:
    text = '{ "a" : "x", "list":["y", {"b":"z\\n\\u0915"}, "w"],\n "n": 1.10, "a": "v", "e": "" } '
    found = values(text)
    assert [(v.key, v.text) for v in found] == [
        ("a", "x"), ("list", "y"), ("b", "z\nक"), ("list", "w"), ("a", "v"), ("e", ""),
    ]  # fmt: skip
    assert all(json.loads(text[v.start : v.end]) == v.text for v in found)
    new = replaced(text, {found[2].start: 'सौ "१"', found[3].start: "\ud800"})
    assert new == text.replace('"z\\n\\u0915"', '"सौ \\"१\\""').replace('"w"', '"?"')
    assert replaced(text, {}) == text


@pytest.mark.parametrize(
    ("key", "text", "people", "strict"),
    [
        ("message", "Your parcel is late", True, True),
        ("replyText", "Sorry", True, True),
        ("message", "a@x.in", False, False),
        ("message", "ORD-1", False, False),
        ("steps", "Wait for it", True, False),
        ("steps", "in transit", False, False),
        ("", "Wait for it", True, False),
        ("order_id", "wait for the order", False, False),
        ("orderId", "wait for the order", False, False),
        ("customer_name", "Asha Rao of Pune", False, False),
        ("shippingAddress", "12 Mahatma Gandhi Road", False, False),
        ("QUERY", "refund of late orders", False, False),
        ("x", "2026-11-26 10:00 +05:30", False, False),
        ("x", "A1 B2 C3", False, False),
        ("message", "123 456", False, False),
    ],
)
def test_prose_is_told_from_what_machines_read(key: str, text: str, people: bool, strict: bool) -> None:
    value = Value(0, 0, text, key)
    assert (for_people(value), for_people(value, strict=True)) == (people, strict)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a":1}', True),
        (" [1]\n", True),
        ('"a"', False),
        ("12", False),
        ("{a}", False),
        ("", False),
        ("[" * 9999, False),
    ],
)
def test_only_objects_and_arrays_are_json(text: str, expected: bool) -> None:
    assert is_json(text) is expected
