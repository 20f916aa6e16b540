"""What a turn says about the one before it: asked again, corrected, a person wanted, tools going round, reopened.

What it is: ``follow_up(turns)`` over the roles and texts of a conversation, newest last.
What it refuses to be: memory. It sees what the caller sends; ``reopened`` is the ledger's to say.
What it costs: 0.1 ms for a first turn, 0.5 ms where three earlier questions are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from appliance.policy.phrases import corrects, wants_a_person
from appliance.translation.signals import distance
from appliance.types import ToolUse

RE_ASKED = 0.55
"""From this likeness on a question is the same one again."""
_COMPARED = 3
_READ = 400
_LEAST = 8  # letters: "ok", "yes" and "haan ji" come again without asking again
_SAME_CALLS, _TOOL_TURNS = 3, 8


class TurnSaid(Struct, frozen=True):
    """One message."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    tools: tuple[ToolUse, ...] = ()


class FollowUp(Struct, frozen=True):
    """``likeness``: of the last question to an earlier one, 0 to 1."""

    likeness: float = 0.0
    corrected: bool = False
    wants_person: bool = False
    tool_loop: bool = False
    reopened: bool = False

    @property
    def re_asked(self) -> bool:
        """Whether the same is asked again."""
        return self.likeness >= RE_ASKED


def follow_up(turns: Sequence[TurnSaid], reopened: bool = False) -> FollowUp:
    """Of the newest turn in the light of those before it."""
    asked = [turn.text for turn in turns if turn.role == "user"]
    answered = any(turn.role == "assistant" and turn.text for turn in turns)
    last = asked[-1] if asked and turns[-1].role == "user" else ""
    return FollowUp(
        _likeness(last, asked[:-1]) if answered else 0.0,
        answered and corrects(last),
        wants_a_person(last),
        tool_loop(turns),
        reopened,
    )


def tool_loop(turns: Sequence[TurnSaid]) -> bool:
    """Whether, since a person spoke, the model calls one tool with the same arguments again, or nothing but tools."""
    calls: list[tuple[str, str]] = []
    rounds = 0
    for turn in reversed(turns):
        if turn.role == "user":
            break
        if turn.role == "assistant":
            rounds += bool(turn.tools)
            calls += [(tool.name, "".join(tool.arguments.split())) for tool in turn.tools]
    return rounds >= _TOOL_TURNS or any(calls.count(call) >= _SAME_CALLS for call in set(calls))


def _likeness(last: str, earlier: Sequence[str]) -> float:
    if sum(map(str.isalpha, last[:_READ])) < _LEAST:
        return 0.0
    return max((1.0 - distance(last[:_READ], one[:_READ]) for one in earlier[-_COMPARED:]), default=0.0)
