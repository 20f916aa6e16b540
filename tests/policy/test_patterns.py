"""Strangers' regular expressions: the same answers as Python's re, in steps that are counted."""

from __future__ import annotations

import random
import re

import pytest

from appliance.policy.patterns import Budget, Spent, Unsupported, compile_pattern, search

ATOMS = ["a", "b", "[ab]", "[^a]", ".", "(a|b)", "(?:ab)", r"\d", r"\w", "^", "$", r"\b", "(a|)", "[a-c1]", r"\.", "()"]
REPEATS = ["", "", "*", "+", "?", "{2}", "{1,2}", "{0,}", "*?"]


def matches(pattern: str, text: str, steps: int = 100_000) -> bool:
    return search(compile_pattern(pattern), text, Budget(steps))


def test_it_agrees_with_re() -> None:
    rng = random.Random(3)
    tried = 0
    for _ in range(4000):
        pattern = "".join(
            atom + ("" if atom in ("^", "$", r"\b") else rng.choice(REPEATS)) for atom in rng.choices(ATOMS, k=3)
        )
        pattern += rng.choice(["", "", "|" + rng.choice(ATOMS)])
        text = "".join(rng.choices("ab1. ", k=rng.randint(0, 6)))
        tried += 1
        assert matches(pattern, text) == bool(re.search(pattern.replace("$", r"\Z"), text)), (pattern, text)
    assert tried == 4000


@pytest.mark.parametrize("pattern", ["(a+)+$", "^(a|a)*$", "^(a*)*$", "^(([a-z])+.)+[A-Z]$", "(.*)(.*)(.*)(.*)x$"])
def test_what_makes_backtracking_explode_is_only_slow(pattern: str) -> None:
    budget = Budget(2_000_000)
    assert not search(compile_pattern(pattern), "a" * 2000 + "!", budget)
    assert budget.left > 0


def test_the_budget_ends_it() -> None:
    with pytest.raises(Spent):
        matches("(a|b|ab)*c", "ab" * 1000, steps=500)


@pytest.mark.parametrize(
    "pattern",
    ["(?=a)", "(?<!a)b", r"(a)\1", "(?P<n>a)", "(", ")", "a{2000}", "((a{900}){900}){900}", "*", "[b-a]", "[a", "\\",
     r"\p{L}", "(" * 60 + ")" * 60, "(((){999}){999}){999}", "a" * 1001, r"\xzz", "a{3,1}"],
)  # fmt: skip
def test_what_it_does_not_know_it_says(pattern: str) -> None:
    with pytest.raises(Unsupported):
        compile_pattern(pattern)


def test_other_scripts_and_escapes() -> None:
    assert matches("^[अ-ह]+$", "कखग")
    assert not matches("^[अ-ह]+$", "कab")
    assert matches(r"^\u0915\x41[\d\-]{3}$", "कA1-2")
    assert matches(r"^[^\s\w]$", "-")
    assert matches("a{,2}", "a{,2}")
