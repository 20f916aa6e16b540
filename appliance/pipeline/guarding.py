"""The guardrails of a request: hooks before an attempt and after its answer.

What it is: ``cleaned`` (tool results without instructions to the model, before anything is sent) and ``Guarding``, what
is asked of a whole answer before it leaves.
What it refuses to be: a finder (``policy.guards``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from appliance.errors import ApplianceError, Forbidden
from appliance.pipeline.refusals import HumanNeeded
from appliance.policy.followup import TurnSaid
from appliance.policy.guards import Guard, built_in, without
from appliance.policy.values import Decision, WhenRefused


class Guarding(Struct, frozen=True):
    """The guards of one decision, the turns they know, and what happens where nothing better is permitted."""

    guards: tuple[Guard, ...]
    turns: tuple[TurnSaid, ...]
    instead: WhenRefused

    def finds(self, answer: str) -> str:
        """Why ``answer`` must not leave; empty where nothing was found."""
        for guard in self.guards:
            if found := guard.after(self.turns, answer):
                return found[0].why
        return ""

    @property
    def strict(self) -> bool:
        """Whether an answer is withheld even where nobody can do better."""
        return bool(self.guards) and self.instead != "local"

    def withheld(self, why: str) -> ApplianceError:
        """What the caller is told instead of an answer."""
        if self.instead == "human":
            return HumanNeeded(
                f"the answer was withheld ({why}); this conversation has to go to a person: POST"
                " /v1/conversations/{id}/handoff gives what they need"
            )
        return Forbidden(f"the answer was withheld: {why}; ask again with what it should rest on", code="withheld")


def guarding(decision: Decision, messages: Sequence[Mapping[str, Any]], turns: Sequence[TurnSaid]) -> Guarding:
    """Of the guards that look at answers."""
    names = tuple(name for name in decision.guards if name == "amounts")
    raw = [TurnSaid(turn.role, text, turn.tools) for turn, text in zip(turns, map(_raw, messages), strict=True)]
    return Guarding(built_in(names), tuple(raw) if names else (), decision.instead)


def cleaned(decision: Decision, messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """``messages`` as they may be sent; None where they may be sent as they are."""
    guards = built_in(tuple(name for name in decision.guards if name == "injection"))
    if not guards:
        return None
    result = [_cleaned(message, guards) if message.get("role") == "tool" else message for message in messages]
    return result if any(new is not old for new, old in zip(result, messages, strict=True)) else None


def _cleaned(message: dict[str, Any], guards: Sequence[Guard]) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, str):
        new: Any = _text(content, guards)
    elif isinstance(content, list):
        new = [{**p, "text": _text(p["text"], guards)} if isinstance(p.get("text"), str) else p for p in content]
    else:
        return message
    return message if new == content else {**message, "content": new}


def _text(text: str, guards: Sequence[Guard]) -> str:
    turns: Sequence[TurnSaid] = (TurnSaid("tool", text),)
    for guard in guards:
        turns = without(turns, guard.before(turns))
    return turns[0].text


def _raw(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return content if isinstance(content, str) else ""
