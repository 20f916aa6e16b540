"""What a caller is told of a request that nobody may answer, or that a person has to.

What it is: one error a reason of the closed set, each with a sentence that names who can change it.
What it refuses to be: a way to learn another tenant's rules. It speaks of the caller's own.
"""

from __future__ import annotations

from appliance.errors import ApplianceError, BadRequest, BudgetExceeded, EngineUnavailable, Forbidden
from appliance.policy.values import Decision
from appliance.types import Reason

_HERE = "and no engine on this site can answer it"
_FORBIDDEN: dict[Reason, str] = {
    Reason.RESIDENCY: f"this traffic stays on the site (residency local_only), {_HERE}; ask the operator",
    Reason.REGION: f"the tenant allows no region that a hosted model runs in, {_HERE}; ask the operator",
    Reason.PERSONAL_DATA: f"it holds personal data that must not leave the site, {_HERE}; leave that out",
    Reason.HOSTED_DISABLED: f"hosted models are switched off (policy.toml, [hosted] enabled) or have no price, {_HERE}",
    Reason.PINNED: "the route that is asked for is not to be had; leave metadata.appliance_route out",
    Reason.LANGUAGE_PIVOT: "there is nothing to translate; leave metadata.appliance_route out",
}
_TOO_DEAR: dict[Reason, str] = {
    Reason.BUDGET: "the budget does not leave what a hosted model may cost",
    Reason.COST_CAP: "a hosted model may cost more than one request is allowed to",
}


class HumanNeeded(Forbidden):
    """403: policy.toml wants a person where a hosted model may not answer."""

    code = "human_needed"


def of(model: str, decision: Decision, engines: str) -> ApplianceError:
    """The error for a decision without attempts; ``engines`` says how those are that serve the model."""
    reason = decision.refusal or Reason.NOT_INSTALLED
    headers = {"x-appliance-reason": reason.value}
    if decision.wanted_hosted is not None and decision.instead == "human":
        return HumanNeeded(
            "this conversation has to go to a person: POST /v1/conversations/{id}/handoff gives what they need",
            headers=headers,
        )
    if reason in _FORBIDDEN:
        return Forbidden(f"nobody may answer this: {_FORBIDDEN[reason]}", code=reason.value, headers=headers)
    if reason in _TOO_DEAR:
        return BudgetExceeded(
            f"{_TOO_DEAR[reason]}, {_HERE}; ask for a shorter answer (max_tokens), or have an operator raise the cap",
            code=reason.value,
            headers={**headers, "x-should-retry": "false"},
        )
    if reason is Reason.CONTEXT_TOO_LONG:
        return BadRequest(
            f"the conversation is longer than model {model!r} can take; send less of it",
            code="context_length_exceeded",
            param="messages",
            headers=headers,
        )
    if reason is Reason.CAPABILITY_MISSING:
        return BadRequest(f"model {model!r} cannot do what is asked for, {_HERE}", code=reason.value, headers=headers)
    return EngineUnavailable(
        f"no engine can answer for model {model!r} now ({engines or 'its engine has not started yet'});"
        " try again shortly, GET /health/ready tells when",
        headers={"retry-after": "5", **headers},
    )
