"""What a report says, as values that JSON, CSV and the page are all made from.

What it is: frozen Structs. Money is nano-USD (``*_nusd``), whole for sums and fractional for means; None means that it
cannot be said, and ``Missing`` says why and what sets it.
"""

from __future__ import annotations

from msgspec import Struct


class Missing(Struct, frozen=True):
    """An input that is not there: what it leaves open, and the command that sets it ("" where time alone does)."""

    what: str
    leaves_open: str
    command: str


class Span(Struct, frozen=True):
    """A figure with its 95 % bootstrap interval; None where there is nothing to divide by."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Counts(Struct, frozen=True):
    """Conversations opened, by what became of them. ``confirmed``: their callers said that they are resolved."""

    conversations: int
    confirmed: int
    presumed: int
    unresolved: int
    handed_to_human: int
    open: int
    reopened: int
    escalated: int
    hosted: int  # those whose last answer came from a hosted model


class Quote(Struct, frozen=True):
    """The month's traffic at one hosted model's prices. ``total_nusd`` None: ``why`` says what price there is not."""

    provider: str
    model: str
    batch: bool
    total_nusd: int | None
    per_confirmed_nusd: float | None
    why: str = ""


class Hosted(Struct, frozen=True):
    """What all of it would cost hosted. ``chosen`` says how the model was found."""

    quotes: tuple[Quote, ...]
    chosen: str
    notes: tuple[str, ...] = ()

    def quote(self, batch: bool) -> Quote | None:
        """The headline quote, at standard or batch price."""
        return next((quote for quote in self.quotes if quote.batch == batch), None)


class Server(Struct, frozen=True):
    """The server's part of the month, or as much of the month as has passed."""

    covered_h: float
    fixed_nusd: int  # purchase by lifetime, and upkeep
    busy_energy_nusd: int
    idle_energy_nusd: int
    month_fixed_nusd: int  # of the whole month: purchase, upkeep and idle electricity
    share: float  # of it that the chosen tenant is charged with; 1 for all
    total_nusd: int  # share × (fixed + electricity)


class EngineUse(Struct, frozen=True):
    """An engine's month: hours busy and up, and hours that passed."""

    engine: str
    busy_h: float
    up_h: float


class Utilisation(Struct, frozen=True):
    """How busy the machine was. ``busy_share`` None: nothing was measured.

    Engines that run at the same time share the machine, so an hour counts as busy once at most.
    """

    elapsed_h: float
    busy_share: float | None
    busiest_hour: float | None
    engines: tuple[EngineUse, ...]
    by_hour: tuple[float, ...]  # of the day, the mean share; empty where nothing was measured


class Cost(Struct, frozen=True):
    """The three figures. ``marginal``: energy and hosted; ``loaded``: with the server and its idle time."""

    hosted_nusd: int
    energy_nusd: int
    energy_measured_share: float | None  # of energy: what is shared out from measured busy time
    marginal_nusd: int
    loaded_nusd: int | None
    marginal: Span
    marginal_with_presumed: float | None
    loaded: float | None
    loaded_with_presumed: float | None


class BreakEven(Struct, frozen=True):
    """Confirmed resolved conversations a month at which the server costs what all-hosted does; for the whole server.

    None: each costs more here than hosted, so there is no such volume. ``capacity`` is what the server could resolve
    at 70 % utilisation, ``now`` what a whole month at this month's pace resolves.
    """

    fixed_nusd: int
    here_each_nusd: float
    standard_each_nusd: float
    batch_each_nusd: float | None
    standard: float | None
    batch: float | None
    now: float
    capacity: float | None


class Group(Struct, frozen=True):
    """One tenant, intent, language or channel. ``confirmed_share`` is of all its conversations, ``reported_share`` of
    those whose outcome was reported, which says how well it goes where half of the outcomes are never told."""

    name: str | None
    label: str
    counts: Counts
    confirmed_share: Span
    reported_share: Span
    marginal: Span
    marginal_with_presumed: float | None
    loaded: float | None
    hosted_nusd: int
    energy_nusd: int


class RouteShare(Struct, frozen=True):
    """Requests that went one way for one reason."""

    route: str | None
    reason: str | None
    requests: int
    share: float
    ok_share: float
    hosted_nusd: int


class Latency(Struct, frozen=True):
    """Milliseconds, of ``answers`` looked at. SLOs are None where none is set."""

    intent: str
    label: str
    answers: int
    ttft_p50: float | None
    ttft_p95: float | None
    total_p50: float
    total_p95: float
    slo_ttft_p95: float | None = None
    slo_total_p95: float | None = None


class Escalated(Struct, frozen=True):
    """Conversations with an escalated answer beside those without, of one intent ("" for all).

    Shares are confirmed resolved of those whose outcome was reported.
    """

    intent: str
    label: str
    escalated: int
    reported_share: Span
    otherwise_share: Span
    added_nusd: float  # hosted charges, a conversation, above those that did not escalate
    read: int = 0  # escalated conversations whose text is kept and was looked at for repeated facts
    facts_repeated: float | None = None  # facts given again after the escalation, a conversation of those


class EscalationReason(Struct, frozen=True):
    """Answers that were replaced by a hosted one, for one reason."""

    reason: str
    answers: int
    hosted_nusd: int


class Trouble(Struct, frozen=True):
    """An intent in a language with many conversations that were not resolved."""

    intent: str
    language: str
    conversations: int
    unresolved: int
    handed_to_human: int
    share: Span


class Change(Struct, frozen=True):
    """A figure last month and this one. ``unit``: count, share, nusd."""

    name: str
    unit: str
    before: float | None
    now: float | None


class Advice(Struct, frozen=True):
    """Something to do, and the numbers it rests on."""

    title: str
    why: str


class Report(Struct, frozen=True):
    """A month, of all tenants or of one."""

    simulated: bool
    month: str
    tenant: str | None
    timezone: str
    as_of_ms: int
    complete: bool
    inr_per_usd: str | None
    reconciled_until_ms: int | None
    missing: tuple[Missing, ...]
    counts: Counts
    requests: int
    cost: Cost
    server: Server | None
    hosted: Hosted
    utilisation: Utilisation
    break_even: BreakEven | None
    break_even_why_not: str
    groups: dict[str, tuple[Group, ...]]
    routes: tuple[RouteShare, ...]
    latency: tuple[Latency, ...]
    latency_one_in: int
    escalation: tuple[Escalated, ...]
    escalation_reasons: tuple[EscalationReason, ...]
    facts_repeated_why_not: str
    trouble: tuple[Trouble, ...]
    changes: tuple[Change, ...]
    changes_why_not: str
    advice: tuple[Advice, ...]
    inputs: dict[str, str]
