"""What the policy layer decides with and says: frozen values that ``pipeline``, ``plan``, ``judge`` and the cli share.

What it is: ``Policy`` (what policy.toml says, checked), ``Seen`` (what is known of one request), ``Candidate`` (what
could answer it now), ``Decision`` (ordered ``Step``s with a reason each, and ``Drop``s with theirs).
What it refuses to be: a loader (``load``), or a place for what only the ledger knows: tenants, keys, residency, caps
and prices reach it as numbers.
What it costs: nothing by itself; a ``Seen`` is built once a request, in under 1 µs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from appliance.policy.gate import Asked, PersonalData
from appliance.types import Attempt, Reason, Residency

Route = Literal["local", "pivot", "hosted"]
WhenRefused = Literal["local", "human", "refuse"]
"""What to do where hosted was wanted and is refused: the local answer after all, a person, or an error."""
Need = Literal["tools", "json_schema", "vision", "audio", "logprobs"]
Guard = Literal["amounts", "injection"]
"""Built-in guardrails: amounts and dates that are not in the context; instructions inside tool results."""
ROUTES: tuple[Route, ...] = ("local", "pivot", "hosted")


# What policy.toml says


class ValueClass(Struct, frozen=True):
    """``unresolved_nusd``: what an unresolved conversation costs its tenant. ``hosted_first``: it begins there."""

    name: str
    unresolved_nusd: int = 100_000_000
    hosted_first: bool = False


class Judging(Struct, frozen=True):
    """How answers are judged before they leave.

    ``threshold``: P(unresolved) from which an answer is not good enough, until calibrated models are fitted and the
    expected-cost rule decides. ``hold_back``: characters of a stream that wait for a verdict; ``whole``: an answer of
    up to so many characters is judged whole. ``latency_nusd_per_s``: what a second of waiting costs. ``explore``: the
    share of doubtful decisions that is turned round, so that a replay can say what another policy would have come to.
    """

    threshold: float = 0.5
    hold_back: int = 160
    whole: int = 600
    latency_nusd_per_s: int = 1_000_000
    explore: float = 0.0


class Intent(Struct, frozen=True):
    """What holds for one intent. None, and empty: the policy's own.

    ``ttft_ms`` and ``total_ms`` are its SLOs; ``routes`` the order of routes it wants whatever the language.
    """

    name: str
    value_class: str | None = None
    residency: Residency | None = None
    ttft_ms: float | None = None
    total_ms: float | None = None
    routes: tuple[Route, ...] = ()
    guards: tuple[Guard, ...] | None = None
    judging: Judging | None = None
    when_refused: WhenRefused | None = None
    deadline_s: float | None = None
    cost_cap_nusd: int | None = None


class LanguageRoutes(Struct, frozen=True):
    """What is known of one language's routes, by FLORES tag.

    ``routes`` is the operator's own order; without one, ``scores`` (measured, larger is better) order the routes on
    the box, and those below ``least`` come after hosted.
    """

    tag: str
    routes: tuple[Route, ...] = ()
    scores: Mapping[Route, float] = {}
    least: float = 0.0


class HostedModel(Struct, frozen=True):
    """The hosted model. Off unless policy.toml switches it on; who may use it the ledger says, tenant by tenant."""

    enabled: bool = False
    model: str = "gemini-3.1-flash-lite"


class ChainLimits(Struct, frozen=True):
    """Of all attempts of one request together. ``retries``: attempts after the first; None: as many as there are."""

    deadline_s: float | None = None
    retries: int | None = None
    cost_cap_nusd: int | None = None


class Rollout(Struct, frozen=True):
    """How a new version begins: with ``share`` of the conversations, until an operator raises it.

    It is stopped once ``least`` conversations of it have ended and more of them are unresolved, or they cost more,
    than the interval of ``confidence`` allows. ``share`` 1: everybody at once.
    """

    share: float = 1.0
    least: int = 200
    confidence: float = 0.95


class Shadowing(Struct, frozen=True):
    """What is asked of a hosted model as well, once its customer has the local answer, so that ``fit`` can compare.

    ``share``: of the requests for which hosted was permitted and not needed; ``tenants``: whose (empty: everybody's);
    ``month_nusd``: what that may cost each of them a month, beside all caps.
    """

    share: float = 0.0
    tenants: tuple[str, ...] = ()
    month_nusd: int = 1_000_000_000


class PersonalRule(Struct, frozen=True):
    """What happens to personal data that would leave the box, and what a tenant's own numbers look like.

    ``formats``: regular expressions of order and tracking numbers, which are nobody's data.
    """

    mode: PersonalData = "block"
    formats: tuple[str, ...] = ()


class Policy(Struct, frozen=True):
    """One version of policy.toml. ``version``: the first 12 hex digits of the SHA-256 of its text; ``built-in``: none.

    ``languages`` by FLORES tag, ``personal_by_tenant`` by the tenant's id. ``idle_minutes``: for how long a
    conversation stays where it was answered last; 0: not at all. ``pivot``: whether translate → model → translate
    back may be used. ``value_class``: of conversations that name none.
    """

    version: str = "built-in"
    hosted: HostedModel = HostedModel()
    when_refused: WhenRefused = "local"
    chain: ChainLimits = ChainLimits()
    judging: Judging = Judging()
    guards: tuple[Guard, ...] = ()
    ttft_ms: float | None = None
    total_ms: float | None = None
    idle_minutes: float = 0.0
    pivot: bool = True
    shadow: Shadowing = Shadowing()
    rollout: Rollout = Rollout()
    intents: Mapping[str, Intent] = {}
    value_classes: Mapping[str, ValueClass] = {}
    value_class: str = ""
    languages: Mapping[str, LanguageRoutes] = {}
    personal: PersonalRule = PersonalRule()
    personal_by_tenant: Mapping[str, PersonalRule] = {}


BUILT_IN = Policy()
"""What holds without a policy.toml: local engines, the least busy first, nothing held back, nothing hosted."""


# What is known of a request


class Last(Struct, frozen=True):
    """Who answered the conversation's last turn, and how long ago."""

    route: Route
    engine: str
    model: str
    idle_s: float


class Seen(Struct, frozen=True):
    """What is known of one request before anything is planned.

    ``asked`` is the gate's: the strictest residency of tenant, key and request (the intent's is added here), personal
    data, media, what budgets leave. ``intent`` None: not told and not recognised. ``language`` is a FLORES tag.
    ``context_tokens`` are prompt and the longest answer together. ``pinned``: the caller insists on a route.
    ``re_asked``: the customer asks the same again; ``customer_asked``: for a person, or for better.
    ``in_tool_loop``: the last message is a tool's result, or answers one.
    """

    model: str
    asked: Asked = Asked()
    intent: str | None = None
    intent_confidence: float = 0.0
    value_class: str | None = None
    language: str | None = None
    context_tokens: int = 0
    needs: frozenset[Need] = frozenset()
    personal: frozenset[str] = frozenset()
    last: Last | None = None
    in_tool_loop: bool = False
    re_asked: bool = False
    customer_asked: bool = False
    reopened: bool = False
    pinned: Route | None = None
    deadline_s: float | None = None


# What could answer it


class Candidate(Struct, frozen=True):
    """An engine that serves the model, as it is now; for ``pivot`` together with the translation on both sides.

    ``context_tokens`` 0, ``capabilities`` None and ``languages`` None: not known, and nothing is held against it.
    ``ttft_ms`` is what its latest answers and what is in it now let expect. ``region`` and ``ceiling_nusd`` (the most
    this request may cost there) are a hosted one's. ``open``: its breaker is open, do not try. ``priced``: somebody
    has set what a hosted one costs, without which it is not asked.
    """

    engine: str
    ready: bool
    in_flight: int = 0
    route: Route = "local"
    model: str = ""
    context_tokens: int = 0
    languages: frozenset[str] | None = None
    capabilities: frozenset[Need] | None = None
    ttft_ms: float | None = None
    open: bool = False
    region: str = ""
    ceiling_nusd: int = 0
    priced: bool = True


# What is decided


class Step(Attempt, frozen=True):
    """One attempt of a decision. ``redact``: what leaves is redacted first; ``ceiling_nusd`` bounds its permit."""

    region: str = ""
    ceiling_nusd: int = 0
    redact: bool = False


class Drop(Struct, frozen=True):
    """A candidate that will not be tried, and one sentence why."""

    engine: str
    model: str
    route: Route
    reason: Reason
    why: str


class Decision(Struct, frozen=True):
    """An ordered plan with everything that was dropped. Without attempts: refused, and ``refusal`` says why.

    ``instead``: what becomes of a request that wanted hosted and may not have it (``wanted_hosted`` is why it wanted
    it). ``escalation``: the ordinal of the first step that a judge may go on to; None: nothing better is permitted,
    and nothing is held back.
    """

    attempts: tuple[Step, ...] = ()
    refusal: Reason | None = None
    drops: tuple[Drop, ...] = ()
    version: str = "built-in"
    wanted_hosted: Reason | None = None
    instead: WhenRefused = "local"
    escalation: int | None = None
    judging: Judging = Judging()
    guards: tuple[Guard, ...] = ()
    value_class: ValueClass = ValueClass("")
    chain: ChainLimits = ChainLimits()


def personal_rule(policy: Policy, tenant_id: str) -> PersonalRule:
    """What happens to the personal data of a tenant."""
    return policy.personal_by_tenant.get(tenant_id, policy.personal)
