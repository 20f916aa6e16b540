"""Guardrails: hooks before and after an attempt, and the two that are built in.

What it is: the ``Guard`` protocol; ``Amounts``, which finds amounts and dates in an answer that nothing in the context
holds; ``Injection``, which finds instructions to the model inside tool results, and ``without``, which blanks them.
What it refuses to be: a verdict. Findings are values; the chain escalates, removes or refuses. A total that the model
worked out is an amount that is not in the context, which is why the first guard runs only for intents that ask for it.
What it costs: 30 µs for an answer of 200 characters without a figure, 0.5 ms with two; 0.3 to 0.8 ms for a tool's
result of 1,000 characters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from appliance.policy import figures, injections
from appliance.policy.followup import TurnSaid
from appliance.policy.values import Guard as Name

REMOVED = "[removed: an instruction inside data]"


class Finding(Struct, frozen=True):
    """One find. ``turn`` counts the messages, -1 is the answer; ``start`` and ``end`` are code points of its text.

    ``why`` is one sentence without the text itself, so that it may be logged.
    """

    guard: str
    why: str
    turn: int
    start: int
    end: int


class Guard(Protocol):
    """What can be asked before an attempt is sent and after its answer came, whole or the held-back start of it."""

    @property
    def name(self) -> str:
        """As policy.toml calls it."""
        ...

    def before(self, turns: Sequence[TurnSaid]) -> tuple[Finding, ...]:
        """What is wrong with what would be sent."""
        ...

    def after(self, turns: Sequence[TurnSaid], answer: str) -> tuple[Finding, ...]:
        """What is wrong with the answer to it."""
        ...


class Amounts:
    """Amounts of money and dates of an answer must stand somewhere in the context, in whatever digits and script."""

    name = "amounts"

    def before(self, turns: Sequence[TurnSaid]) -> tuple[Finding, ...]:
        """Nothing: what a caller sends is the context."""
        return ()

    def after(self, turns: Sequence[TurnSaid], answer: str) -> tuple[Finding, ...]:
        """Every figure of ``answer`` that no turn holds."""
        named = figures.figures(answer)
        if not named:
            return ()
        context = [turn.text for turn in turns] + [tool.arguments for turn in turns for tool in turn.tools]
        known = figures.Known(context)
        return tuple(
            Finding(
                self.name,
                f"it names {_ARTICLE[figure.kind]} that the context does not hold",
                -1,
                figure.start,
                figure.end,
            )
            for figure in named
            if not known.holds(figure)
        )


class Injection:
    """A tool's result is data: what in it speaks to the model is not the customer's wish."""

    name = "injection"

    def before(self, turns: Sequence[TurnSaid]) -> tuple[Finding, ...]:
        """Every instruction in a tool's result."""
        return tuple(
            Finding(self.name, "a tool's result holds an instruction to the model", place, start, end)
            for place, turn in enumerate(turns)
            if turn.role == "tool"
            for start, end in injections.find(turn.text)
        )

    def after(self, turns: Sequence[TurnSaid], answer: str) -> tuple[Finding, ...]:
        """Nothing: what the model made of it is the other signals' to see."""
        return ()


_ARTICLE = {"amount": "an amount", "date": "a date"}
_BUILT_IN: Mapping[Name, Callable[[], Guard]] = {"amounts": Amounts, "injection": Injection}


def built_in(names: Sequence[Name]) -> tuple[Guard, ...]:
    """The guards that a policy names, in its order."""
    return tuple(_BUILT_IN[name]() for name in names)


def without(turns: Sequence[TurnSaid], findings: Sequence[Finding]) -> tuple[TurnSaid, ...]:
    """``turns`` with what was found in them replaced by ``REMOVED``."""
    result = list(turns)
    for finding in sorted(findings, key=lambda one: (one.turn, -one.start)):
        if 0 <= finding.turn < len(result):
            text = result[finding.turn].text
            result[finding.turn] = replace(
                result[finding.turn], text=f"{text[: finding.start]}{REMOVED}{text[finding.end :]}"
            )
    return tuple(result)
