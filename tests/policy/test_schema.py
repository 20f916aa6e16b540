"""JSON schemas: what the draft says, and that no schema can hold the loop."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.policy.schema import Checked, Fit, validate

ORDER = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^ORD-[0-9]{4}$"},
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 1, "maxItems": 3},
        "paid": {"type": "boolean"},
        "note": {"type": ["string", "null"], "maxLength": 5},
    },
    "required": ["id", "items"],
    "additionalProperties": False,
    "$defs": {
        "item": {
            "type": "object",
            "properties": {"sku": {"enum": ["a", "b"]}, "number": {"type": "integer", "minimum": 1}},
            "required": ["sku"],
        }
    },
}
GOOD = {"id": "ORD-1234", "items": [{"sku": "a", "number": 2.0}], "paid": True, "note": None}


def test_a_value_that_fits() -> None:
    assert validate(GOOD, ORDER) == Checked(Fit.VALID)


@pytest.mark.parametrize(
    ("change", "where", "why"),
    [
        ({"id": "ord-1"}, "/id", "pattern"),
        ({"items": []}, "/items", "minItems"),
        ({"items": [{"sku": "c"}]}, "/items/0/sku", "enum"),
        ({"items": [{}]}, "/items/0/sku", "required"),
        ({"items": [{"sku": "a", "number": 0}]}, "/items/0/number", "minimum"),
        ({"items": [{"sku": "a", "number": True}]}, "/items/0/number", "type"),
        ({"items": [{"sku": "a", "number": 1.5}]}, "/items/0/number", "type"),
        ({"paid": 1}, "/paid", "type"),
        ({"note": "too long"}, "/note", "maxLength"),
        ({"a/b~": 1}, "/a~1b~0", "additionalProperties"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], where: str, why: str) -> None:
    assert validate({**GOOD, **change}, ORDER) == Checked(Fit.INVALID, where, why)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"anyOf": [{"type": "string"}, {"minimum": 5}]}, ["x", 6, 5], [4]),
        ({"oneOf": [{"type": "integer"}, {"minimum": 5}]}, [4, 5.5], [6, 1.5]),
        ({"not": {"const": 1}}, [True, 2], [1, 1.0]),
        ({"if": {"type": "string"}, "then": {"minLength": 2}, "else": {"type": "null"}}, ["ab", None], ["a", 3]),
        ({"allOf": [{"minimum": 1}, {"exclusiveMaximum": 3}]}, [1, 2.9], [0, 3]),
        ({"uniqueItems": True}, [[1, True, "1"], [[1], [2]]], [[1, 1.0], [{"a": [1]}, {"a": [1]}]]),
        ({"contains": {"const": 1}, "maxContains": 1}, [[1, 2]], [[2], [1, 1]]),
        ({"prefixItems": [{"type": "string"}], "items": False}, [["a"], []], [["a", 1], [1]]),
        ({"items": [{"type": "string"}]}, [["a", 1]], [[1]]),
        ({"multipleOf": 0.1}, [0.3, 1], [0.35]),
        ({"dependentRequired": {"a": ["b"]}}, [{}, {"a": 1, "b": 2}], [{"a": 1}]),
        ({"propertyNames": {"maxLength": 2}}, [{"ab": 1}], [{"abc": 1}]),
        (
            {"patternProperties": {"^x": {"type": "null"}}, "additionalProperties": False},
            [{"xa": None}],
            [{"a": 1}, {"xa": 1}],
        ),
        ({"const": {"a": [1, {"b": None}]}}, [{"a": [1, {"b": None}]}], [{"a": [True, {"b": None}]}]),
        (True, [1], []),
        (False, [], [1]),
    ],
)  # fmt: skip
def test_keywords(schema: Any, good: list[Any], bad: list[Any]) -> None:
    assert [validate(value, schema).fit for value in good] == [Fit.VALID] * len(good)
    assert [validate(value, schema).fit for value in bad] == [Fit.INVALID] * len(bad)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"$ref": "#"}, 1),
        ({"allOf": [{"$ref": "#"}] * 50}, 1),
        ({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}] * 9}}, "$ref": "#/$defs/a"}, 1),
        ({"pattern": "(a+)+$"}, "a" * 100_000 + "!"),
        ({"uniqueItems": True}, list(range(5000))),
        ({"properties": {"a": {"$ref": "#"}}}, nested(500)),
    ],
)
def test_no_schema_can_hang(schema: Any, value: Any) -> None:
    assert validate(value, schema).fit is Fit.UNCHECKED


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.com/schema"},
        {"$ref": "#/$defs/missing"},
        {"propertyNames": {"pattern": "(?=a)"}},
        {"type": "text"},
        {"minProperties": "1"},
        {"properties": ["a"]},
        {"unevaluatedProperties": False},
        "text",
    ],
)
def test_what_cannot_be_checked_is_not_wrong(schema: Any) -> None:
    assert validate({"a": 1}, schema).fit is Fit.UNCHECKED
