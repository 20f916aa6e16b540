"""JSON schemas from callers, bounded before an engine compiles them into a grammar.

What it is: one walk over a schema that counts what makes grammar compilers slow, and refuses what would keep
one busy. Measured (xgrammar of vLLM 0.32, one core, 3,000-token vocabulary): every distinct pair of
minLength/maxLength costs 80 ms, and several times that inside arrays with maxItems of their own (100 of
those: more than 25 s); the pattern ``[a-z]{1,1000}`` 50 ms but ``[a-z]{1,10000}`` 6.6 s; a numeric range up to
5 ms. Within the bounds below the worst schemas that could be found take 2 s.
What it refuses to be: a validator of JSON Schema. Whether keywords make sense is for the engine to say.
What it costs: about 1 µs a node.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from appliance.api.strictjson import invalid

MAX_SCHEMA_BYTES = 64 * 1024
MAX_NESTING = 16
MAX_JSON_NESTING = 48  # vLLM refuses more than 64 and wraps the schemas of tools in levels of its own
MAX_ENUM_VALUES = 1000
MAX_PATTERN_CHARS = 512
MAX_PATTERN_WEIGHT = 2000
MAX_GRAMMAR_WORK = 384

_NEW_COUNT_WORK = 16
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
# keywords whose value is an object of schemas under free names, and those whose value is plain data
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_DATA = frozenset({"type", "enum", "const", "default", "examples", "required"})
_RANGES = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "format")
_COUNTS = (("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties"))

_ATOM = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?(?:[:=!]|<[^>]*>)|[(){}|*+?]|.", re.DOTALL)
_REPEAT = re.compile(r"\{(\d{1,9})(?:(,)(\d{0,9}))?\}")


class SchemaBudget:
    """What the schemas of one request may cost together: its response format and all its tools."""

    def __init__(self) -> None:
        self._enum_values = 0
        self._pattern_weight = 0
        self._work = 0
        self._counted: set[tuple[object, ...]] = set()

    def spend(self, schema: dict[str, Any], param: str, *, exact: bool = False) -> None:
        """Count ``schema``, found at ``param``. Raises BadRequest when a bound is passed.

        ``exact``: the answer has to match, so what the grammar compiler would drop without a word is refused too.
        """
        if exact:
            _refuse_what_is_ignored(schema, param)
        if len(msgspec.json.encode(schema)) > MAX_SCHEMA_BYTES:
            raise invalid(param, f"is larger than {MAX_SCHEMA_BYTES // 1024} kB; shorten or split the schema")
        # node, levels of schemas, levels of JSON, and what the node is: a schema, a map of schemas, or data
        stack: list[tuple[Any, int, int, str]] = [(schema, 1, 1, "schema")]
        while stack:
            node, level, depth, role = stack.pop()
            if isinstance(node, dict | list) and (level > MAX_NESTING or depth > MAX_JSON_NESTING):
                raise invalid(param, f"nests more than {MAX_NESTING} levels deep; move inner schemas into $defs")
            if isinstance(node, list):
                stack.extend((child, level, depth + 1, role) for child in node)
            elif isinstance(node, dict):
                if role == "schema":
                    self._keywords(node, param)
                elif role == "map":
                    self._names(node, param)
                for key, child in node.items():
                    child_role = _role(role, key)
                    stack.append((child, level + (role != "data" and child_role == "schema"), depth + 1, child_role))
            elif type(node) is int and not _INT64_MIN <= node <= _INT64_MAX:
                raise invalid(param, "holds an integer of more than 64 bits; use a smaller one")

    def _keywords(self, node: dict[str, Any], param: str) -> None:
        enum = node.get("enum")
        if isinstance(enum, list):
            self._enum_values += len(enum)
            if self._enum_values > MAX_ENUM_VALUES:
                raise invalid(param, f"has more than {MAX_ENUM_VALUES} enum values; use a plain string instead")
        if isinstance(pattern := node.get("pattern"), str):
            self._pattern(pattern, param)
        if isinstance(ref := node.get("$ref"), str) and not ref.startswith("#"):
            raise invalid(param, "has a $ref to another document; only references that start with # are followed")
        for low, high in _COUNTS:
            if low in node or high in node:
                self._count((low, node.get(low), node.get(high)), param)
        if any(key in node for key in _RANGES):
            self._work_done(1, param)

    def _names(self, node: dict[str, Any], param: str) -> None:
        # names under patternProperties are patterns; under properties they hold no repetition worth counting
        for name in node:
            if "{" in name or len(name) > MAX_PATTERN_CHARS:
                self._pattern(name, param)

    def _pattern(self, pattern: str, param: str) -> None:
        if len(pattern) > MAX_PATTERN_CHARS:
            raise invalid(param, f"has a pattern of more than {MAX_PATTERN_CHARS} characters; shorten it")
        self._pattern_weight += pattern_weight(pattern)
        if self._pattern_weight > MAX_PATTERN_WEIGHT:
            raise invalid(
                param, f"repeats more than {MAX_PATTERN_WEIGHT} characters in its patterns; lower the {{n,m}} counts"
            )

    def _count(self, item: tuple[object, ...], param: str) -> None:
        # compilers keep what they have built for equal bounds
        key = tuple(str(part) for part in item)
        self._work_done(1 if key in self._counted else _NEW_COUNT_WORK, param)
        self._counted.add(key)

    def _work_done(self, work: int, param: str) -> None:
        self._work += work
        if self._work > MAX_GRAMMAR_WORK:
            raise invalid(
                param,
                f"has too many bounds (at most {MAX_GRAMMAR_WORK // _NEW_COUNT_WORK} different pairs of lengths or item"
                f" counts, and {MAX_GRAMMAR_WORK} bounds in all); use equal bounds or fewer",
            )


def _refuse_what_is_ignored(schema: dict[str, Any], param: str) -> None:
    """xgrammar ignores look-around and ``not``, and cannot advance on a root that is only itself."""
    if schema.get("$ref") == "#":
        raise invalid(param, "refers to itself at its root; describe the value instead")
    if "not" in schema:
        raise invalid(param, 'uses "not", which is not enforced; say what is allowed instead')
    text = msgspec.json.encode(schema).decode()
    if any(sign in text for sign in ("(?=", "(?!", "(?<=", "(?<!")):
        raise invalid(param, "has a pattern with look-ahead or look-behind, which is not enforced; write it without")


def _role(parent: str, key: str) -> str:
    if parent != "schema":
        return "schema" if parent == "map" else "data"
    if key in _MAPS:
        return "map"
    return "data" if key in _DATA else "schema"


def pattern_weight(pattern: str) -> int:
    """How many characters a pattern stands for when its counted repetitions are written out.

    ``[a-z]{3}-`` is 4, ``(a{10}){10}`` is 100; ``*`` and ``+`` are loops and count once. A pattern that is no
    regular expression gets some number as well; the engine refuses it.
    """
    groups: list[int] = [0]
    last = 0  # weight of the atom that a repetition would apply to
    at = 0
    while at < len(pattern):
        if pattern[at] == "{" and (repeat := _REPEAT.match(pattern, at)) is not None:
            times = int(repeat[3] or repeat[1])
            groups[-1] += last * max(times - 1, 0)
            last *= max(times, 1)
            at = repeat.end()
            continue
        token = _ATOM.match(pattern, at)
        assert token is not None  # the last alternative matches any character
        text, at = token[0], token.end()
        if text.startswith("("):
            groups.append(0)
        elif text == ")":
            last = groups.pop() if len(groups) > 1 else 0
            groups[-1] += last
        elif text not in ("|", "*", "+", "?"):
            last = 1
            groups[-1] += 1
    return sum(groups)
