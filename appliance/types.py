"""Messages that cross rooms: frozen, without behaviour, without I/O.

What it is: the vocabulary of one request's way through the appliance. Everything here is a
``msgspec.Struct`` because the hot path builds several of them a request (a frozen dataclass costs
about four times as much to build).
What it refuses to be: a place for logic, settings or defaults that mean something.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

from msgspec import Struct

Role = Literal["admin", "operator", "client"]
Residency = Literal["local_only", "hosted_redacted", "hosted_allowed"]
Channel = Literal["whatsapp", "voice", "ivr", "web", "api"]
Task = Literal["chat", "transcribe", "translate"]
Endpoint = Literal[
    "chat.completions",
    "completions",
    "audio.transcriptions",
    "audio.translations",
    "audio.detect-language",
    "detect-language",
    "transliterate",
    "translate",
    "handoff",
]
SHADOW: Final = "shadow"
"""In an endpoint's place: a question that was answered, asked of another route as well (``pipeline.shadowing``)."""
BESIDE: Final = frozenset({SHADOW, "handoff"})
"""Of these a conversation bears the cost; they are no turn of it."""


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
    """Whose traffic it is. ``cache_salt`` keeps prefix caches of tenants apart (vllm's cache_salt).

    ``secret`` keys the HMACs of threads and subjects. Empty ``languages`` means all; ``cap_nusd`` is a month's.
    """

    id: str
    name: str
    cache_salt: str
    secret: bytes = b""
    residency: Residency = "local_only"
    regions: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    cap_nusd: int | None = None
    store_text: bool = False
    translation_memory: bool = False


class Key(Struct, frozen=True):
    """An authenticated caller. The secret itself is never held, only its SHA-256 in the ledger.

    Empty ``models`` and ``endpoints`` mean all. A limit of None means none.
    """

    id: str
    name: str
    role: Role
    tenant: Tenant
    models: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    residency: Residency | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent: int | None = None
    cap_nusd: int | None = None
    expires_ms: int | None = None


class Usage(Struct, frozen=True):
    """What an engine computed. Tokens as the engine counts them; audio in seconds of input.

    ``prompt_tokens`` include the cached ones and those of recordings, ``completion_tokens`` the thinking ones.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    audio_s: float = 0.0
    thinking_tokens: int = 0
    characters: int = 0
    audio_tokens: int = 0


class Request(Struct, frozen=True):
    """One admitted request.

    ``model`` is the name the caller used; ``at_ms`` wall clock in Unix milliseconds at arrival.
    """

    id: str
    key: Key
    endpoint: Endpoint | Literal["shadow"]
    model: str
    stream: bool
    at_ms: int


class Turn(Struct, frozen=True):
    """What ties a request to its conversation, and what is known of that.

    ``conversation_id`` is the caller's own name for it; ``previous_id`` the id of an earlier answer; ``thread`` the
    HMAC of the history up to its last assistant message. All None: a first turn, which opens a conversation, unless
    ``opens`` is False: a tool's call such as language detection, which belongs to one only where its caller says so.
    ``residency`` may only tighten what tenant and key say; ``route`` is one that the caller insists on.
    """

    conversation_id: str | None = None
    previous_id: str | None = None
    thread: bytes | None = None
    subject: str | None = None
    channel: Channel = "api"
    language: str | None = None
    intent: str | None = None
    value_class: str | None = None
    opens: bool = True
    residency: Residency | None = None
    route: str | None = None


class Idempotency(Struct, frozen=True):
    """The caller's ``Idempotency-Key`` and the SHA-256 of what it came with."""

    name: str
    digest: bytes


class Admission(Struct, frozen=True):
    """A request that asks to be admitted.

    ``new_conversation_id`` is used if it opens one. ``reserve_nusd`` and ``reserve_tokens`` are the most it is
    expected to cost and to compute; ``hosted_nusd`` the most that hosted attempts may cost beside that, which is held
    back only where the caps leave it. ``shadow_cap_nusd``: what its tenant's shadow runs may cost a month.
    """

    request: Request
    turn: Turn
    new_conversation_id: str
    reserve_nusd: int = 0
    reserve_tokens: int = 0
    idempotency: Idempotency | None = None
    hosted_nusd: int = 0
    shadow_cap_nusd: int | None = None


class Limit(Struct, frozen=True):
    """One rate limit after this request: ``limit`` a minute, ``remaining`` now, full again in ``reset_s``."""

    limit: int
    remaining: int
    reset_s: float


class Kept(Struct, frozen=True):
    """An answer that was kept for its Idempotency-Key."""

    request_id: str
    http_status: int
    content_type: str
    headers: dict[str, str]
    body: bytes


class Admitted(Struct, frozen=True):
    """What the ledger said yes to. With ``kept`` nothing is to be run: the answer is there already.

    ``conversation_id`` is empty for a request that belongs to none. ``hosted_nusd`` is what was held back for hosted
    attempts, ``answered_by`` the route of the conversation's last answer, ``last_seen_ms`` when that was.
    """

    conversation_id: str
    new_conversation: bool
    requests: Limit | None = None
    tokens: Limit | None = None
    kept: Kept | None = None
    hosted_nusd: int = 0
    answered_by: str | None = None
    last_seen_ms: int = 0
    reopened: bool = False


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


class ToolUse(Struct, frozen=True):
    """A tool call the model made; ``arguments`` is the text of its JSON."""

    id: str
    name: str
    arguments: str


class Answer(Struct, frozen=True):
    """What the first choice of an answer said, as a client will send it back in its next turn."""

    content: str
    tools: tuple[ToolUse, ...] = ()


class Partial(Struct, frozen=True):
    """What a chat stream had said when it broke off: its id and time, its text, and in how many pieces it came."""

    id: str
    created: int
    model: str
    content: str
    pieces: int


class End(Struct, frozen=True):
    """The end of a complete answer; an answer that breaks off raises instead.

    ``body`` is the closing bytes: the whole answer where it does not stream, ``data: [DONE]`` where it
    does. They are released only after the outcome is durable.
    """

    usage: Usage
    finish_reason: str
    body: bytes
    answer: Answer | None = None


Event = Data | End


class LiveState(Struct, frozen=True):
    """``run/live.json``: where a live process listens, as ``host:port``."""

    pid: int
    address: str
    since_unix_s: float


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
    provider: str = "local"
    hosted_nusd: int = 0
    work_ns: int = 0


class AttemptRecord(Struct, frozen=True):
    """One route that was tried, with its calls."""

    attempt: Attempt
    status: Status
    error_code: str | None
    calls: tuple[CallRecord, ...]
    total_ms: float


class Decision(Struct, frozen=True):
    """What the judge made of a request's first answer, and what learning from it later needs. It holds no text.

    ``policy`` and ``parameters`` are the versions in force. ``route`` was judged; ``alternative`` is the route it could
    escalate to, None where none was permitted. ``p_fail`` is P(unresolved) of the judged answer,
    ``p_fail_alternative`` of the other route; ``cost_nusd`` and ``extra_s`` are what that one was expected to cost, and
    how much longer the customer would have waited. ``propensity``: how likely ``verdict`` was, given ``signals``; 1.0
    where nothing was drawn. ``shadow_of``: the request whose question this one answered a second time, unseen by the
    customer, ``agreement`` (0 to 1) of the two answers.
    """

    policy: str
    route: str
    verdict: Literal["commit", "escalate"]
    p_fail: float
    reason: Reason | None = None
    alternative: str | None = None
    p_fail_alternative: float | None = None
    propensity: float = 1.0
    cost_nusd: int = 0
    extra_s: float = 0.0
    parameters: str = ""
    intent: str | None = None
    language: str | None = None
    value_class: str | None = None
    signals: dict[str, float] = {}
    shadow_of: str | None = None
    agreement: float | None = None


class Outcome(Struct, frozen=True):
    """How an admitted request ended; written once, durable before the last byte leaves.

    ``thread`` is the HMAC of the history with this answer; ``prompt`` and ``answer`` are given only where the tenant
    stores text; ``kept`` only where the caller sent an Idempotency-Key and the answer is complete; ``decision`` where
    an answer was judged.
    """

    request_id: str
    status: Status
    http_status: int
    error_code: str | None
    total_ms: float
    ttft_ms: float | None
    attempts: tuple[AttemptRecord, ...]
    thread: bytes | None = None
    prompt: str | None = None
    answer: str | None = None
    kept: Kept | None = None
    decision: Decision | None = None


EngineKind = Literal["vllm", "whisper", "conformer", "translate", "openai", "hosted", "fake"]
EnginePhase = Literal["starting", "ready", "swapping", "stopping", "stopped", "failed"]


class EngineState(Struct, frozen=True, omit_defaults=False):
    """What ``engine run NAME`` writes to ``run/NAME.json`` and the gateway reads.

    ``address`` is a Unix socket path (it starts with ``/``) or an ``http://`` base URL.
    ``models`` are the names the engine answers to; ``context_tokens`` is 0 where it has no meaning.
    ``detail`` is one sentence for people: why it is not ready, or what it is doing.
    ``exit`` is the class of the end it failed by (``supervisor.exits``), ``profile`` how many memory profiles it has
    stepped down; ``next_start_unix_s`` is set while a restart is due. ``languages`` are the tags its model knows by
    the catalogue (empty: not known), ``preferred_for`` those it is chosen for before others. ``region`` is where a
    hosted engine's models run, empty for what runs on this site. ``tuned`` says which measured profile it was started
    with, or why it was not.
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
    exit: str = ""
    profile: int = 0
    next_start_unix_s: float = 0.0
    languages: tuple[str, ...] = ()
    preferred_for: tuple[str, ...] = ()
    region: str = ""
    tuned: str = ""
