"""What has to be done, where its answer goes, and what is known of a request while it runs.

What it is: the values and Protocols that ``api`` and the pipeline share (``Work``, ``Sink``, ``Ask``), and ``Run``.
What it refuses to be: a decision. Who does the work is the plan's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from appliance.types import Admission, Admitted, Answer, Attempt, AttemptRecord, CallRecord, Decision, End, Kept

if TYPE_CHECKING:
    from appliance.pipeline.deciding import Known
    from appliance.policy.values import Decision as Plan

CLIENT_LEFT = 499  # nginx's number for a client that closed the request; nobody ever sees it
# What a task is cancelled with when its client left. Any other cancellation is the appliance shutting down.
LEFT = "client left"


class Sink(Protocol):
    """Where an answer goes. ``begin`` comes once, before the first byte."""

    async def begin(self, attempt: Attempt, admitted: Admitted) -> None:
        """The attempt that answers, and what the ledger said."""
        ...

    async def data(self, body: bytes) -> None:
        """A piece of the answer."""
        ...

    def render(self, body: bytes) -> bytes:
        """The closing bytes in the caller's format. Raises EngineFailed; the outcome is not written yet."""
        ...

    def kept(self, body: bytes) -> Kept | None:
        """The whole answer with its closing bytes, where it is to be kept for an Idempotency-Key."""
        ...

    async def end(self, body: bytes) -> None:
        """The closing bytes, rendered; the outcome is durable by now."""
        ...

    async def replay(self, kept: Kept) -> None:
        """An answer that was kept, instead of all of the above."""
        ...


class Ask(Protocol):
    """One call of an engine on a request's behalf, recorded with it."""

    async def __call__(self, model: str, path: str, header: str, body: bytes) -> bytes:
        """The engine's whole answer. Raises ApplianceError."""
        ...


class Work(Struct, frozen=True):
    """What has to be done, independent of who does it.

    ``model`` is the resolved name, where ``Request.model`` is what the caller called it.
    ``body_for(model, cache_salt)`` gives the engine's request body; the salt is None where the engine does
    not know the parameter. ``thread(answer)`` is the history's HMAC with this answer, ``prompt()`` what was asked, as
    JSON; None where there is no history.
    ``prepare`` runs once the request is admitted and may call engines before it says what is to be done; ``judge`` sees
    a whole answer before anything has left; where it gives other work with it, that is tried instead, once.
    ``tail``: a chat's sealed body, for routes that need it changed; empty where there is none.
    ``progress`` is told how much is done, by engines that can tell.
    """

    path: str
    model: str
    stream: bool
    deadline_s: float
    body_for: Callable[[str, str | None], bytes]
    choices: int = 1
    keep_usage: bool = False
    header: str = ""
    thread: Callable[[Answer], bytes] | None = None
    prompt: Callable[[], str] | None = None
    prepare: Callable[[Ask], Awaitable[Work]] | None = None
    judge: Callable[[End], tuple[End, Work | None]] | None = None
    tail: bytes = b""
    progress: Callable[[float], None] | None = None


class Run:
    """What is known of one request while it runs. ``records`` come in the order in which attempts ended."""

    def __init__(self, admission: Admission, started_s: float, monotonic: Callable[[], float]) -> None:
        self.admission = admission
        self.admitted: Admitted | None = None
        self.started_s = started_s
        self.records: list[AttemptRecord] = []
        self.attempts = 0  # begun so far; the next one's ordinal
        self.before: list[CallRecord] = []  # calls that belong to the attempt that follows them
        self.begun = False
        self.known: Known | None = None  # what a decision found out
        self.plan: Plan | None = None  # what a policy decided
        self.decision: Decision | None = None  # what a judge made of the first answer
        self.hosted_nusd = 0  # that hosted attempts have cost so far, or may have
        self.ttft_ms: float | None = None
        self._monotonic = monotonic

    def next_ordinal(self) -> int:
        """Of an attempt that begins now."""
        self.attempts += 1
        return self.attempts - 1

    def hosted_left_nusd(self) -> int:
        """What is left of the money that was held back for hosted attempts."""
        return 0 if self.admitted is None else self.admitted.hosted_nusd - self.hosted_nusd

    def now(self) -> float:
        """The clock that ``started_s`` was read from, in seconds."""
        return self._monotonic()

    def ms_since(self, start_s: float) -> float:
        """Milliseconds since then."""
        return (self._monotonic() - start_s) * 1000.0

    def remaining_s(self, deadline_s: float) -> float:
        """What is left of the request's time; never nothing, so that a time-out is what ends it."""
        return max(deadline_s - (self._monotonic() - self.started_s), 0.001)


def why_cancelled(error: asyncio.CancelledError) -> tuple[int, str]:
    """HTTP status and code of a cancellation."""
    return (CLIENT_LEFT, "client_left") if LEFT in error.args else (503, "shutting_down")
