"""policy.toml as pydantic models: which keys there are, of which type and range.

What it is: configuration, checked whole. ``load`` turns it into the frozen ``values.Policy``.
What it refuses to be: lenient. An unknown key is an error; money is decimal US dollars and never a binary fraction.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from appliance.policy.values import Guard, Need, Route, WhenRefused
from appliance.types import Reason, Residency

_NANO = 1_000_000_000


def _whole_nusd(value: Decimal) -> Decimal:
    if value * _NANO != int(value * _NANO):
        raise ValueError("an amount has at most nine decimals")
    return value


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as e:
        raise ValueError(f"{pattern!r} is no regular expression: {e}") from None
    return pattern


def _different(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    if len(set(routes)) != len(routes):
        raise ValueError("a route is named twice")
    return routes


Usd = Annotated[Decimal, Field(ge=0, le=1_000_000), AfterValidator(_whole_nusd)]
Share = Annotated[float, Field(ge=0, le=1)]
Ms = Annotated[float, Field(gt=0)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Routes = Annotated[tuple[Route, ...], AfterValidator(_different)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_compiles)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class HostedSection(_Strict):
    """Whether hosted may be used at all, and which model."""

    enabled: bool = False
    model: Name = "gemini-3.1-flash-lite"


class ChainSection(_Strict):
    """Of all attempts of one request together."""

    deadline_s: float | None = Field(default=None, gt=0)
    retries: int | None = Field(default=None, ge=0, le=16)
    cost_cap_usd: Usd | None = None


class JudgeSection(_Strict):
    """How answers are judged, where an intent says nothing else."""

    threshold: Share = 0.5
    hold_back: int = Field(default=160, ge=0, le=4000)
    whole: int = Field(default=600, ge=0, le=20_000)
    latency_usd_per_s: Usd = Decimal("0.001")
    explore: float = Field(default=0.0, ge=0, le=0.5)


class AffinitySection(_Strict):
    """For how long a silent conversation stays where it was."""

    idle_minutes: float = Field(default=30.0, ge=0)


class ShadowSection(_Strict):
    """What share of the permitted traffic a hosted model answers as well, unseen, for which tenants and what money."""

    share: Share = 0.0
    tenants: tuple[Name, ...] = ()
    month_usd: Usd = Decimal("1")


class RolloutSection(_Strict):
    """How this version begins."""

    share: Share = 1.0
    least: int = Field(default=200, ge=30)
    confidence: float = Field(default=0.95, ge=0.5, le=0.9999)


class IntentSection(_Strict):
    """What holds for one intent."""

    value_class: Name | None = None
    residency: Residency | None = None
    ttft_ms: Ms | None = None
    total_ms: Ms | None = None
    routes: Routes = ()
    guards: tuple[Guard, ...] | None = None
    threshold: Share | None = None
    hold_back: int | None = Field(default=None, ge=0, le=4000)
    whole: int | None = Field(default=None, ge=0, le=20_000)
    latency_usd_per_s: Usd | None = None
    when_refused: WhenRefused | None = None
    deadline_s: float | None = Field(default=None, gt=0)
    cost_cap_usd: Usd | None = None


class ValueClassSection(_Strict):
    """What a kind of conversation is worth."""

    unresolved_usd: Usd = Decimal("0.1")
    hosted_first: bool = False


class ScoresSection(_Strict):
    """A measured figure a route, larger is better."""

    local: float | None = None
    pivot: float | None = None


class LanguageSection(_Strict):
    """The routes of one language: the operator's own order, or what was measured."""

    routes: Routes = ()
    scores: ScoresSection = ScoresSection()
    least: float = 0.0


class TenantSection(_Strict):
    """Personal data of one tenant."""

    mode: Literal["block", "redact", "allow"] | None = None
    formats: tuple[Pattern, ...] = ()


class PersonalSection(_Strict):
    """What happens to personal data that would leave the box."""

    mode: Literal["block", "redact", "allow"] = "block"
    formats: tuple[Pattern, ...] = ()
    tenants: dict[Name, TenantSection] = Field(default_factory=dict)


class TestSection(_Strict):
    """A request, how the engines are, and where it must go.

    ``local``, ``pivot`` and ``hosted`` say how those are: up, down, slow (above any SLO) or absent; ``speaks``: the
    languages the local model knows, None for all.
    """

    __test__ = False  # pytest

    name: Name
    intent: str | None = None
    value_class: str | None = None
    language: str | None = None
    residency: Residency = "hosted_allowed"
    personal: bool = False
    media: bool = False
    context_tokens: int = Field(default=1000, ge=0)
    needs: tuple[Need, ...] = ()
    last: Route | None = None
    idle_minutes: float = Field(default=1.0, ge=0)
    tool_loop: bool = False
    customer_asked: bool = False
    pinned: Route | None = None
    budget_usd: Usd | None = None
    hosted_cost_usd: Usd = Decimal("0.001")
    local: Literal["up", "down", "slow", "absent"] = "up"
    pivot: Literal["up", "down", "slow", "absent"] = "up"
    hosted: Literal["up", "down", "slow", "absent"] = "up"
    speaks: tuple[str, ...] | None = None
    local_context: int = Field(default=8192, ge=1)
    local_needs: tuple[Need, ...] = ("tools", "json_schema", "logprobs")
    expect: Literal["local", "pivot", "hosted", "refused"]
    reason: Reason | None = None
    then: tuple[Route, ...] | None = None


class PolicyFile(_Strict):
    """policy.toml, whole."""

    when_refused: WhenRefused = "local"
    value_class: Name | None = None
    guards: tuple[Guard, ...] = ()
    ttft_ms: Ms | None = None
    total_ms: Ms | None = None
    pivot: bool = True
    hosted: HostedSection = HostedSection()
    chain: ChainSection = ChainSection()
    judge: JudgeSection = JudgeSection()
    affinity: AffinitySection = AffinitySection()
    shadow: ShadowSection = ShadowSection()
    rollout: RolloutSection = RolloutSection()
    intents: dict[Name, IntentSection] = Field(default_factory=dict)
    value_classes: dict[Name, ValueClassSection] = Field(default_factory=dict)
    languages: dict[str, LanguageSection] = Field(default_factory=dict)
    personal: PersonalSection = PersonalSection()
    test: tuple[TestSection, ...] = ()


def nusd(value: Decimal) -> int:
    """Whole nano-dollars of an amount that was checked."""
    return int(value * _NANO)
