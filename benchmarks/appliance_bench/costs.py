"""What boxes, their electricity and a hosted model cost in a month, in rupees.

What it is: the ledger's cost model (docs/ledger.md): purchase ÷ lifetime and upkeep in dollars, watts busy and idle
times a tariff in rupees, tokens at a provider's price. Decimal throughout, rounded once, to whole rupees, where it is
shown.
What it refuses to be: a price list. The figures that come along are somebody's assumptions and say so; give your own
with --costs, or those of the ledger (`appliance server-cost show`, `appliance prices list`).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct

DAYS_A_MONTH = Decimal("30.4375")


class Server(Struct, frozen=True, forbid_unknown_fields=True):
    """One box, by the names of `appliance server-cost set`."""

    purchase_usd: Decimal
    lifetime_months: int
    upkeep_usd_per_month: Decimal
    busy_w: int
    idle_w: int
    tariff_inr_per_kwh: Decimal
    inr_per_usd: Decimal

    def __post_init__(self) -> None:
        if self.lifetime_months < 1 or min(self.purchase_usd, self.upkeep_usd_per_month, self.tariff_inr_per_kwh) < 0:
            raise ValueError("a server needs lifetime_months of at least 1, and no amount below 0")
        if self.inr_per_usd <= 0 or min(self.busy_w, self.idle_w) < 0:
            raise ValueError("a server needs inr_per_usd above 0, and no watts below 0")


class Hosted(Struct, frozen=True, forbid_unknown_fields=True):
    """A hosted model, in dollars a million tokens."""

    model: str
    prompt_usd_per_million: Decimal
    completion_usd_per_million: Decimal

    def __post_init__(self) -> None:
        if min(self.prompt_usd_per_million, self.completion_usd_per_million) < 0:
            raise ValueError("a hosted model has no price below 0")


class Costs(Struct, frozen=True, forbid_unknown_fields=True):
    """``source``: where these come from, said wherever they are used."""

    source: str
    server: Server
    hosted: Hosted


class Month(Struct, frozen=True):
    """Rupees of a month."""

    servers_inr: Decimal
    energy_inr: Decimal
    hosted_inr: Decimal

    @property
    def total_inr(self) -> Decimal:
        return self.servers_inr + self.energy_inr + self.hosted_inr


def month(
    costs: Costs, boxes: int, busy_by_hour: Sequence[float], prompt_tokens_a_day: float, answer_tokens_a_day: float
) -> Month:
    """``busy_by_hour``: of one box, the share of each of the day's 24 hours; tokens: what the hosted model gets."""
    server, hosted = costs.server, costs.hosted
    fixed_usd = server.purchase_usd / server.lifetime_months + server.upkeep_usd_per_month
    busy_h = sum((Decimal(repr(float(share))) for share in busy_by_hour), Decimal(0))
    idle_h = len(busy_by_hour) - busy_h
    kwh_a_day = (busy_h * server.busy_w + idle_h * server.idle_w) / 1000
    usd_a_day = (
        Decimal(repr(float(prompt_tokens_a_day))) * hosted.prompt_usd_per_million
        + Decimal(repr(float(answer_tokens_a_day))) * hosted.completion_usd_per_million
    ) / 1_000_000
    return Month(
        boxes * fixed_usd * server.inr_per_usd,
        boxes * kwh_a_day * DAYS_A_MONTH * server.tariff_inr_per_kwh,
        usd_a_day * DAYS_A_MONTH * server.inr_per_usd,
    )


def rupees(amount: Decimal) -> str:
    """Whole rupees in Indian grouping: ₹12,34,567. The one place that rounds."""
    digits = str(int(amount.quantize(Decimal(1), rounding="ROUND_HALF_UP")))
    head, tail = digits[:-3], digits[-3:]
    groups = []
    while len(head) > 2:
        groups.append(head[-2:])
        head = head[:-2]
    return "₹" + ",".join([*([head] if head else []), *reversed(groups), tail])
