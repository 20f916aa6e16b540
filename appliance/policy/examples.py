"""A tenant's example utterances, out of the text of a file.

What it is: ``parse``. TOML: a name of an intent, and its examples as a list, or as lists under names of your own
(``[refund]`` with ``hindi = […]``). JSONL: one ``{"intent": …, "text": …}`` a line.
What it refuses to be: lenient. A text under two intents is an error that names both.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from appliance.policy.intent_training import FEWEST, MOST, Example
from appliance.policy.intents import LONGEST

_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")


class BadExamples(ValueError):
    """The file cannot be used; the text is one sentence that says where and why."""


def parse(text: str, where: str) -> list[Example]:
    """The examples of a file called ``where`` (its name decides the format). Raises BadExamples."""
    return list(_jsonl(text, where) if where.endswith((".jsonl", ".ndjson")) else _toml(text, where))


def check(examples: Iterable[Example]) -> list[Example]:
    """What a classifier can be trained from: without repeats, enough of each. Raises BadExamples."""
    by_text: dict[str, Example] = {}
    counts: dict[str, int] = {}
    for example in examples:
        before = by_text.setdefault(example.text, example)
        if before.intent != example.intent:
            raise BadExamples(f"{example.text[:60]!r} is an example of both {before.intent} and {example.intent}")
        if before is example:
            counts[example.intent] = counts.get(example.intent, 0) + 1
    few = sorted(intent for intent, count in counts.items() if count < FEWEST)
    if few:
        raise BadExamples(f"{few[0]} has {counts[few[0]]} examples; give at least {FEWEST}, and better twenty")
    if len(counts) < 2:
        raise BadExamples("there are examples of one intent only; a classifier needs at least two")
    if len(by_text) > MOST:
        raise BadExamples()
    return list(by_text.values())


def _toml(text: str, where: str) -> Iterable[Example]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise BadExamples(f"{where} is not TOML: {e}") from None
    for intent, given in data.items():
        lists: Mapping[str, Any] = given if isinstance(given, dict) else {"": given}
        for name, texts in lists.items():
            at = f"{where}: {intent}.{name}" if name else f"{where}: {intent}"
            if not isinstance(texts, list):
                raise BadExamples(f'{at} is no list; write {intent} = ["…", "…"]')
            for number, one in enumerate(texts, 1):
                yield _example(intent, one, f"{at}, example {number}")


def _jsonl(text: str, where: str) -> Iterable[Example]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = msgspec.json.decode(line.encode("utf-8", "surrogatepass"), type=dict[str, Any])
            except (msgspec.DecodeError, UnicodeDecodeError) as e:
                raise BadExamples(f"{where}, line {number}: {e}") from None
            yield _example(row.get("intent"), row.get("text"), f"{where}, line {number}")


def _example(intent: Any, text: Any, where: str) -> Example:
    if not isinstance(intent, str) or _NAME.fullmatch(intent) is None:
        raise BadExamples(f"{where}: 'intent' must be a name of 1 to 64 characters")
    if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
        raise BadExamples(f"{where}: 'text' must hold 1 to {LONGEST} characters")
    return Example(intent, text.strip())
