"""Messages that cross rooms: frozen, without behaviour, without I/O.

What it is: the vocabulary of one request's way through the appliance. Everything here is a
``msgspec.Struct`` because the hot path builds several of them a request (a frozen dataclass costs
about four times as much to build).
What it refuses to be: a place for logic, settings or defaults that mean something.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from msgspec import Struct

Role = Literal["admin", "operator", "client"]
Task = Literal["chat", "transcribe"]
Endpoint = Literal["chat.completions", "completions", "audio.transcriptions"]


class Reason(StrEnum):
    """Why a route was taken or refused: the closed set of docs/architecture.md."""

    ROUTINE = "routine"
    STICKY = "sticky"
    PINNED = "pinned"
    HIGH_VALUE = "high_value"
    LANGUAGE_PIVOT = "language_pivot"
    CONTEXT_TOO_LONG = "context_too_long"
    CAPABILITY_MISSING = "capability_missing"
    CAPACITY_OVERFLOW = "capacity_overflow"
    ENGINE_UNHEALTHY = "engine_unhealthy"
    ENGINE_FAILED_MIDSTREAM = "engine_failed_midstream"
    LOW_CONFIDENCE = "low_confidence"
    SCHEMA_FAILED = "schema_failed"
    WRONG_LANGUAGE = "wrong_language"
    ENTITIES_LOST = "entities_lost"
    REPETITION = "repetition"
    TRUNCATED = "truncated"
    EMPTY_OUTPUT = "empty_output"
    CUSTOMER_ASKED = "customer_asked"
    RESIDENCY = "residency"
    REGION = "region"
    PERSONAL_DATA = "personal_data"
    BUDGET = "budget"
    RATE_LIMITED = "rate_limited"
    COST_CAP = "cost_cap"
    DEADLINE = "deadline"
    NOT_INSTALLED = "not_installed"
    HOSTED_DISABLED = "hosted_disabled"
    HOSTED_UNHEALTHY = "hosted_unhealthy"


class Status(StrEnum):
    """How a request, an attempt or a call ended. ``OPEN`` rows left by a crash become ``LOST``."""

    OPEN = "open"
    OK = "ok"
    FAILED = "failed"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    LOST = "lost"


class Tenant(Struct, frozen=True):
    """Whose traffic it is. ``cache_salt`` keeps prefix caches of tenants apart (vllm's cache_salt)."""

    id: str
    name: str
    cache_salt: str


class Key(Struct, frozen=True):
    """An authenticated caller. The secret itself is never held, only its SHA-256 in the ledger."""

    id: str
    name: str
    role: Role
    tenant: Tenant


class Usage(Struct, frozen=True):
    """What an engine computed. Tokens as the engine counts them; audio in seconds of input."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    audio_s: float = 0.0


class Request(Struct, frozen=True):
    """One admitted request.

    ``model`` is the name the caller used; ``at_ms`` wall clock in Unix milliseconds at arrival.
    """

    id: str
    key: Key
    endpoint: Endpoint
    model: str
    stream: bool
    at_ms: int


class Attempt(Struct, frozen=True):
    """One route of a plan: which engine, under which name it serves the model, and why."""

    ordinal: int
    engine: str
    model: str
    route: str
    reason: Reason


class Plan(Struct, frozen=True):
    """Attempts in order of preference. Empty means refused, and ``refusal`` says why."""

    attempts: tuple[Attempt, ...]
    refusal: Reason | None = None


class Data(Struct, frozen=True):
    """A piece of an answer, to be passed on as it is while the answer is still being made."""

    body: bytes


class End(Struct, frozen=True):
    """The end of a complete answer; an answer that breaks off raises instead.

    ``body`` is the closing bytes: the whole answer where it does not stream, ``data: [DONE]`` where it
    does. They are released only after the outcome is durable.
    """

    usage: Usage
    finish_reason: str
    body: bytes


Event = Data | End


class CallRecord(Struct, frozen=True):
    """One engine call inside an attempt. Durations in milliseconds; ``ttft_ms`` None before any byte."""

    ordinal: int
    engine: str
    model: str
    status: Status
    usage: Usage
    finish_reason: str | None
    ttft_ms: float | None
    total_ms: float


class AttemptRecord(Struct, frozen=True):
    """One route that was tried, with its calls."""

    attempt: Attempt
    status: Status
    error_code: str | None
    calls: tuple[CallRecord, ...]
    total_ms: float


class Outcome(Struct, frozen=True):
    """How an admitted request ended; written once, durable before the last byte leaves."""

    request_id: str
    status: Status
    http_status: int
    error_code: str | None
    total_ms: float
    ttft_ms: float | None
    attempts: tuple[AttemptRecord, ...]


EngineKind = Literal["vllm", "whisper", "openai", "fake"]
EnginePhase = Literal["starting", "ready", "stopping", "stopped", "failed"]


class EngineState(Struct, frozen=True, omit_defaults=False):
    """What ``engine run NAME`` writes to ``run/NAME.json`` and the gateway reads.

    ``address`` is a Unix socket path (it starts with ``/``) or an ``http://`` base URL.
    ``models`` are the names the engine answers to; ``context_tokens`` is 0 where it has no meaning.
    ``detail`` is one sentence for people: why it is not ready, or what it is doing.
    """

    name: str
    kind: EngineKind
    task: Task
    phase: EnginePhase
    address: str
    models: tuple[str, ...]
    detail: str
    since_unix_s: float
    supervisor_pid: int
    engine_pid: int
    context_tokens: int = 0
