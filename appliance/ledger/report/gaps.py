"""What a report could not say for want of an input, and the command that gives it.

What it refuses to be: a default. Nothing here is filled in; the page says what is missing in its place.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.ledger.report.conversations import Costed
from appliance.ledger.report.reading import Tokens
from appliance.ledger.report.values import Hosted, Missing, Server, Utilisation

_SERVER = (
    "appliance server-cost set --purchase-usd … --lifetime-months … --busy-w … --idle-w … --tariff-inr-per-kwh …"
    " --inr-per-usd …"
)
_PRICE = "appliance prices set PROVIDER MODEL prompt_token USD_PER_MILLION"
_COEFFICIENTS = "appliance coefficients set MODEL --prompt-token-ns … --completion-token-ns …"


def gaps(
    chosen: Costed,
    tokens: Sequence[Tokens],
    used: Utilisation,
    charged: Server | None,
    quoted: Hosted,
    reconciled_until_ms: int | None,
    until_ms: int,
    start_ms: int,
) -> tuple[Missing, ...]:
    """In the order in which they matter."""
    found = []
    if charged is None:
        found.append(
            Missing(
                "What the server costs is not set.",
                "the fully loaded cost, the break-even volume, electricity and rupees",
                _SERVER,
            )
        )
    elif charged.covered_h * 3_600_000 < (until_ms - start_ms) - 60_000:
        found.append(
            Missing(
                f"What the server costs is set for the last {charged.covered_h:,.0f} hours of this time only.",
                "the server's cost before; the fully loaded cost is too low by it",
                f"{_SERVER} --from DATE",
            )
        )
    standard = quoted.quote(batch=False)
    if standard is None:
        found.append(
            Missing(
                "No hosted model has prices that were in force.",
                "the all-hosted comparison and the break-even volume",
                _PRICE,
            )
        )
    elif standard.total_nusd is None:
        found.append(Missing(f"{standard.why.capitalize()}.", "the all-hosted comparison", _PRICE))
    elif standard.why:
        found.append(
            Missing(
                f"{standard.provider}/{standard.model}: {standard.why}.",
                "speech in the all-hosted comparison, which is too low by it",
                _PRICE.replace("prompt_token", "audio_s"),
            )
        )
    if standard is not None and standard.total_nusd is not None and quoted.quote(batch=True) is None:
        found.append(
            Missing(
                f"{standard.provider}/{standard.model} has no batch prices.",
                "all-hosted at batch price",
                f"{_PRICE} --batch",
            )
        )
    computed = any(day.prompt or day.audio_s for day in tokens)
    if computed and chosen.cohort.size and not chosen.load_ns.any():
        found.append(
            Missing(
                "Local work has neither coefficients nor measured time.",
                "its electricity, and the server's share of a tenant, intent, language or channel",
                _COEFFICIENTS,
            )
        )
    if used.busy_share is None:
        found.append(
            Missing("No engine was measured in this time.", "utilisation, and idle time in the fully loaded cost", "")
        )
    elif reconciled_until_ms is None:
        found.append(
            Missing(
                "Nothing is reconciled yet; a gateway does it by itself two hours after each hour.",
                "electricity by measured time; what the coefficients booked stands in for it",
                "",
            )
        )
    if not chosen.confirmed.any() and chosen.cohort.size:
        found.append(
            Missing(
                "No conversation was reported resolved.",
                "every cost of a resolved conversation",
                "POST /v1/conversations/{id}/outcome",
            )
        )
    return tuple(found)
