"""What may leave the box at all, decided before anything is planned. Never learned, never overridden.

What it is: ``strictest`` over everything that has a say in residency, and ``refusal`` of one hosted candidate: the
first reason of the closed set that speaks against it, or None.
What it refuses to be: the last word. The permit (``egress``) and the hosted host check again, each by itself.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from appliance.types import Reason, Residency

PersonalData = Literal["block", "redact", "allow"]
_ORDER: tuple[Residency, ...] = ("local_only", "hosted_redacted", "hosted_allowed")


class Asked(Struct, frozen=True):
    """What a request brings to the gate.

    ``residency`` is the strictest of tenant, key, intent and request; ``personal``: personal data was found in what
    would be sent, which ``personal_data`` says what to do about; ``media``: it holds images or recordings.
    ``budget_nusd`` is what the caps leave, ``cap_nusd`` what this request may cost in all; None where nothing bounds.
    """

    residency: Residency = "local_only"
    regions: tuple[str, ...] = ()
    personal: bool = False
    personal_data: PersonalData = "block"
    media: bool = False
    budget_nusd: int | None = None
    cap_nusd: int | None = None


def strictest(tenant: Residency, *others: Residency | None) -> Residency:
    """The strictest of all who have a say; None has none."""
    found = tenant
    for other in others:
        if other is not None and _ORDER.index(other) < _ORDER.index(found):
            found = other
    return found


def must_redact(asked: Asked) -> bool:
    """Whether what leaves has to go through redaction first."""
    return asked.residency == "hosted_redacted" or (asked.personal and asked.personal_data == "redact")


def refusal(asked: Asked, region: str, ceiling_nusd: int) -> Reason | None:
    """Why a hosted model in ``region`` that may cost ``ceiling_nusd`` must not answer; None where it may."""
    if asked.residency == "local_only":
        return Reason.RESIDENCY
    if region not in asked.regions:
        return Reason.REGION
    if asked.personal and asked.personal_data == "block":
        return Reason.PERSONAL_DATA
    if asked.media and must_redact(asked):  # nothing here can redact a picture or a voice
        return Reason.PERSONAL_DATA
    if asked.budget_nusd is not None and ceiling_nusd > asked.budget_nusd:
        return Reason.BUDGET
    if asked.cap_nusd is not None and ceiling_nusd > asked.cap_nusd:
        return Reason.COST_CAP
    return None
