"""What changed since last month: the same figures, side by side."""

from __future__ import annotations

from appliance.ledger.report.values import Change, Cost, Counts, Utilisation


def compare(
    was: Counts, was_cost: Cost, was_used: Utilisation, now: Counts, cost: Cost, used: Utilisation
) -> tuple[tuple[Change, ...], str]:
    """The changes, or why there are none to show."""
    if not was.conversations:
        return (), "The ledger holds no conversation of the month before."
    if not now.conversations:
        return (), "The ledger holds no conversation of this month."
    rows = [
        Change("Conversations opened", "count", was.conversations, now.conversations),
        Change("Confirmed resolved", "count", was.confirmed, now.confirmed),
        *(
            Change(name, "share", getattr(was, field) / was.conversations, getattr(now, field) / now.conversations)
            for name, field in (
                ("Confirmed resolved, share", "confirmed"),
                ("Presumed resolved, share", "presumed"),
                ("Not resolved, share", "unresolved"),
                ("Handed to a person, share", "handed_to_human"),
                ("Escalated, share", "escalated"),
                ("Reopened, share", "reopened"),
            )
        ),
        Change("Marginal cost a confirmed resolved one", "nusd", was_cost.marginal.value, cost.marginal.value),
        Change("Fully loaded cost a confirmed resolved one", "nusd", was_cost.loaded, cost.loaded),
        Change("Hosted charges", "nusd", was_cost.hosted_nusd, cost.hosted_nusd),
        Change("Utilisation", "share", was_used.busy_share, used.busy_share),
    ]
    return tuple(rows), ""
