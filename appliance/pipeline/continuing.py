"""A stream taken up by another engine where the first one broke off: the same stream, the same id, the text goes on.

What it is: ``Continued``, a source whose engine is given what was said so far as the beginning of its own answer
(vLLM's ``continue_final_message``). Its chunks leave under the first one's id, time and
model; a second role is dropped.
What it refuses to be: a comparer of texts. What the engine says is passed on as it is: "ha ha" is text.
What it costs: each chunk is decoded and written again, 2 µs; only where an engine died.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec.structs import replace

from appliance.pipeline.bodies import body_of, going_on
from appliance.pipeline.sources import Rooms, Straight
from appliance.pipeline.work import Run, Work
from appliance.types import Answer, Attempt, Data, End, Event, Partial

_encoder = msgspec.json.Encoder()


class Continued(Straight):
    """As ``Straight``, from ``partial`` on. ``fields`` are the request's."""

    def __init__(
        self, rooms: Rooms, run: Run, attempt: Attempt, work: Work, fields: dict[str, Any], partial: Partial
    ) -> None:
        salt = run.admission.request.key.tenant.cache_salt if rooms.registry.entries[attempt.engine].salted else None
        body = body_of(going_on(fields, partial.content, partial.pieces), attempt.model, salt)
        super().__init__(rooms, run, attempt, work, body)
        self._partial = partial

    def events(self) -> AsyncGenerator[Event]:
        """The engine's own, under the first stream's name."""
        return self._renamed(super().events())

    async def _renamed(self, events: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, End):
                    yield replace(event, answer=self._whole(event.answer))
                elif body := renamed(event.body, self._partial):
                    yield Data(body)

    def _whole(self, answer: Answer | None) -> Answer:
        return Answer(self._partial.content + (answer.content if answer is not None else ""))


def renamed(body: bytes, partial: Partial) -> bytes:
    """Whole events of a second engine as the first one would have sent them; what only opens a stream is left out."""
    out = []
    for event in body.split(b"\n\n"):
        if not event.startswith(b"data:"):
            continue
        chunk = msgspec.json.decode(event[5:])
        chunk |= {"id": partial.id, "created": partial.created, "model": partial.model}
        choices = []
        for choice in chunk["choices"]:
            delta = choice.get("delta") or {}
            delta.pop("role", None)
            if delta.get("content") == "" and len(delta) == 1:
                del delta["content"]
            if delta or choice.get("finish_reason") is not None:
                choices.append(choice)
        if not choices and not chunk.get("usage"):
            continue
        if usage := chunk.get("usage"):
            chunk["usage"] = _of_both(usage, partial.pieces)
        out.append(b"data: " + _encoder.encode({**chunk, "choices": choices}) + b"\n\n")
    return b"".join(out)


def _of_both(usage: dict[str, Any], pieces: int) -> dict[str, Any]:
    """As one engine would have counted: what the first one said was the second one's prompt, and is answer."""
    moved = min(pieces, usage.get("prompt_tokens") or 0)
    return {
        **usage,
        "prompt_tokens": (usage.get("prompt_tokens") or 0) - moved,
        "completion_tokens": (usage.get("completion_tokens") or 0) + moved,
    }
