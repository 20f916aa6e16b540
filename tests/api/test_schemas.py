"""Schemas: ordinary ones pass, those that would occupy a grammar compiler do not."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.api.schemas import SchemaBudget, pattern_weight
from appliance.errors import BadRequest


def spend(*schemas: dict[str, Any]) -> None:
    """All ``schemas`` out of one budget."""
    budget = SchemaBudget()
    for schema in schemas:
        budget.spend(schema, "p")


def refused(*schemas: dict[str, Any]) -> str:
    """The message for ``schemas``."""
    with pytest.raises(BadRequest) as e:
        spend(*schemas)
    assert e.value.param == "p"
    return e.value.message


def properties(count: int, make: Any) -> dict[str, Any]:
    """An object schema of ``count`` properties, ``make(i)`` each."""
    return {"type": "object", "properties": {f"p{i}": make(i) for i in range(count)}}


def nested(levels: int) -> dict[str, Any]:
    """An object ``levels`` schemas deep."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels - 1):
        schema = {"type": "object", "properties": {"x": schema}}
    return schema


def test_an_ordinary_schema_passes() -> None:
    ticket = {
        "$defs": {"Priority": {"enum": ["low", "high"], "type": "string"}},
        "type": "object",
        "properties": {
            "phone": {"type": "string", "pattern": r"^\+91[6-9]\d{9}$"},
            "pattern": {"type": "integer", "minimum": 0, "maximum": 10},
            "priority": {"$ref": "#/$defs/Priority"},
            "notes": {"type": "array", "items": {"anyOf": [{"type": "string", "maxLength": 500}, {"type": "null"}]}},
        },
        "required": ["phone"],
        "additionalProperties": False,
    }
    spend(ticket)


def test_nesting() -> None:
    spend(nested(16))
    assert "levels deep" in refused(nested(17))
    data: Any = 1
    for _ in range(60):
        data = [data]
    assert "levels deep" in refused({"const": data})


def test_size() -> None:
    spend({"description": "x" * 60_000})
    assert "64 kB" in refused({"description": "x" * 70_000})


def test_enums_are_counted_over_all_schemas() -> None:
    spend({"enum": list(range(1000))})
    half = {"enum": list(range(501))}
    assert "enum" in refused(half, half)


def test_patterns() -> None:
    spend({"pattern": "^[a-z]{1,1000}$"})
    assert "512" in refused({"pattern": "a" * 513})
    assert "{n,m}" in refused({"pattern": "^[a-z]{1,10000}$"})
    assert "{n,m}" in refused({"pattern": "((a{30}){30}){30}"})
    assert "{n,m}" in refused(properties(3, lambda i: {"pattern": f"[a-{'xyz'[i]}]{{1,900}}"}))
    assert "{n,m}" in refused({"patternProperties": {"^a{1,9999}$": {}}})


def test_a_property_called_pattern_is_no_pattern() -> None:
    spend({"type": "object", "properties": {"pattern": {"type": "string"}, "enum": {"type": "string"}}})


def test_many_different_bounds_but_not_many_equal_ones() -> None:
    spend(properties(300, lambda i: {"type": "string", "maxLength": 500}))
    spend(properties(24, lambda i: {"type": "string", "maxLength": 500 + i}))
    spend(properties(12, lambda i: {"type": "array", "maxItems": i, "items": {"type": "string", "maxLength": i}}))
    assert "24 different" in refused(properties(25, lambda i: {"type": "string", "maxLength": 500 + i}))
    assert "24 different" in refused(
        properties(13, lambda i: {"type": "array", "maxItems": i, "items": {"type": "string", "maxLength": i}})
    )
    assert "384 bounds" in refused(properties(385, lambda i: {"type": "number", "minimum": i}))


def test_references_to_other_documents() -> None:
    spend({"$ref": "#/$defs/x", "$defs": {"x": {}}})
    assert "$ref" in refused({"properties": {"a": {"$ref": "http://169.254.169.254/x"}}})


def test_integers_of_more_than_64_bits() -> None:
    assert "64 bits" in refused({"maximum": 2**63})


@pytest.mark.parametrize(
    ("pattern", "weight"),
    [
        ("abc", 3),
        ("[a-z]{3}-", 4),
        ("(a{10}){10}", 100),
        ("a{10}{10}", 100),
        ("(?:ab){3}", 6),
        (r"\{{5}", 5),
        ("[{}]{5}", 5),
        ("[]{2}]{5}", 5),
        ("(ab|c)*", 3),
        ("a{2,}", 2),
        ("", 0),
        ("){3}((", 0),
        ("[", 1),
        ("\\", 1),
        ("a{0}", 1),
    ],
)
def test_pattern_weight(pattern: str, weight: int) -> None:
    assert pattern_weight(pattern) == weight


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^(?=a)b(?!c)"},
        {"type": "object", "properties": {"x": {"type": "string", "pattern": "(?<!a)b"}}},
        {"not": {}},
        {"$ref": "#"},
    ],
)
def test_what_the_grammar_would_drop_is_refused_where_the_answer_has_to_match(schema: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        SchemaBudget().spend(schema, "p", exact=True)
    SchemaBudget().spend(schema, "p")  # a tool's parameters only describe
