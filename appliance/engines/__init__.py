"""The gateway's adapters to engine processes, one Protocol.

What it is: how the gateway sees an engine: ``Engine.stream(call)`` gives events until ``End``, or raises
an ``ApplianceError``. A remote box or a distributed engine's handle can stand behind the same Protocol.
What it refuses to be: a runtime. No model library is imported here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from msgspec import Struct

from appliance.types import Event


class Call(Struct, frozen=True):
    """One engine call.

    ``body`` is what the engine gets, ready to send; ``header`` the host parameters of a transcription.
    ``request_id`` is sent along, and engines of our own give their answers ids made of it.
    ``choices`` is how many answers must finish; ``keep_usage`` says that the caller asked for the usage
    chunk, which otherwise stays here. How long it may take in all is the caller's to bound.
    ``traceparent`` is W3C's, empty where the request is not traced; ``permit`` the sealed leave to leave the box,
    without which a hosted engine answers nothing. ``progress`` is told the share that is done, by engines that can
    tell.
    """

    path: str
    model: str
    body: bytes
    stream: bool
    choices: int = 1
    keep_usage: bool = False
    header: str = ""
    request_id: str = ""
    traceparent: str = ""
    permit: str = ""
    progress: Callable[[float], None] | None = None


class Engine(Protocol):
    """What the pipeline needs of an engine."""

    def stream(self, call: Call) -> AsyncGenerator[Event]:
        """Run ``call``; closing the iterator early cancels the work in the engine."""
        ...
