"""The hosted process' own check of every permit. It believes nothing the gateway says without one.

What it is: signature, bytes, age, use, region, model, tenant, redaction and money, each checked here, each refusal one
sentence with a code of its own; and the process' own caps beside the permit's.
What it refuses to be: an issuer (it holds a public key only), or forgetful: a nonce is remembered until its permit has
expired, and one issued before this process started is refused, because it may have been used then.
What it costs: 110 µs a request, most of it the signature; a nonce is kept for a minute.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from appliance.errors import ApplianceError
from appliance.policy.egress import EgressPermit, NotSealed, Verifier, digest, has_media, opened, residue

LONGEST_LIFE_MS = 600_000
NUSD = 1_000_000_000


class Refused(ApplianceError):
    """403: no valid permit. ``code`` says what was wrong with it."""

    status = 403
    type = "permission_error"
    code = "permit_invalid"


class Own(Struct, frozen=True):
    """What this process holds permits against: its place, its models, and its operator's limits.

    Empty ``tenants`` are all; ``started_ms`` is when it began to remember nonces.
    """

    region: str
    models: tuple[str, ...]
    tenants: tuple[str, ...]
    redacted_only: bool
    call_cap_nusd: int
    day_cap_nusd: int
    started_ms: int


class Checks:
    """Of one process. ``now_ms`` is the wall clock, which gateway and host share."""

    def __init__(self, key: Verifier, own: Own, now_ms: Callable[[], int]) -> None:
        self._key = key
        self._own = own
        self._now_ms = now_ms
        self._used: dict[str, int] = {}
        self._day = 0
        self._spent_nusd = 0
        self._held_nusd = 0

    @property
    def spent_nusd(self) -> int:
        """Of today (UTC), as far as answers have said what they took."""
        self._turn_day()
        return self._spent_nusd

    def admit(self, token: str, body: bytes, model: str) -> EgressPermit:
        """The permit for ``body``, which is used up by this. Raises Refused."""
        permit = self._sealed(token)
        now = self._now_ms()
        self._check_time(permit, now)
        if permit.body_sha256 != digest(body):
            raise Refused("the permit is for another request body; get one for these bytes", code="permit_body")
        self._check_place(permit, model)
        self._check_redaction(permit, body)
        self._use(permit, now)
        self._hold(permit, body)
        return permit

    def settle(self, permit: EgressPermit, body: bytes, cost_nusd: int) -> None:
        """It has ended and cost so much; what was held back for it is free again."""
        self._turn_day()
        self._held_nusd -= permit.ceiling_nusd(body)
        self._spent_nusd += cost_nusd

    def _sealed(self, token: str) -> EgressPermit:
        if not token:
            raise Refused("nothing leaves without a permit, and none came with this request", code="permit_missing")
        try:
            return opened(token, self._key)
        except NotSealed:
            raise Refused("the permit is not signed by this appliance's gateway; check permit_key") from None

    def _check_time(self, permit: EgressPermit, now: int) -> None:
        if permit.expires_ms <= now:
            raise Refused("the permit has expired; ask for a new one", code="permit_expired")
        if permit.issued_ms > now + 1000 or permit.expires_ms - permit.issued_ms > LONGEST_LIFE_MS:
            raise Refused("the permit is good for longer than any may be; check the clock", code="permit_expired")
        if permit.nonce in self._used or permit.issued_ms < self._own.started_ms:
            raise Refused("the permit was used before, or may have been; ask for a new one", code="permit_replayed")

    def _check_place(self, permit: EgressPermit, model: str) -> None:
        own = self._own
        if permit.region != own.region:
            raise Refused(
                f"the permit is for region {permit.region} and this endpoint is in {own.region}", code="permit_region"
            )
        if permit.model != model or model not in own.models:
            raise Refused("the permit is for another model than the one asked for", code="permit_model")
        if own.tenants and permit.tenant not in own.tenants:
            raise Refused("this tenant is not on the hosted process' own list", code="permit_tenant")

    def _check_redaction(self, permit: EgressPermit, body: bytes) -> None:
        if permit.redaction != "redacted":
            if self._own.redacted_only:
                raise Refused("only redacted requests may leave here, and this one is not", code="permit_redaction")
            return
        try:
            if has_media(body):
                raise Refused(
                    "the permit says redacted and the body holds images or recordings", code="permit_redaction"
                )
            if found := residue(body, permit.formats):
                kinds = ", ".join(sorted(found))
                raise Refused(f"the permit says redacted and the body still holds {kinds}", code="permit_redaction")
        except ValueError as e:
            raise Refused(f"the body cannot be checked: {e}", code="permit_body") from None

    def _use(self, permit: EgressPermit, now: int) -> None:
        if len(self._used) > 1024:
            self._used = {nonce: until for nonce, until in self._used.items() if until > now}
        self._used[permit.nonce] = permit.expires_ms

    def _hold(self, permit: EgressPermit, body: bytes) -> None:
        try:
            ceiling = permit.ceiling_nusd(body)
        except ValueError as e:
            raise Refused(f"the body cannot be checked: {e}", code="permit_body") from None
        own = self._own
        if ceiling > permit.cap_nusd:
            raise Refused(
                f"this request may cost {_usd(ceiling)} and its permit allows {_usd(permit.cap_nusd)}; lower"
                " max_tokens",
                code="permit_cap",
            )
        if ceiling > own.call_cap_nusd:
            raise Refused(
                f"this request may cost {_usd(ceiling)} and the hosted process allows {_usd(own.call_cap_nusd)}"
                " (max_usd_per_call); lower max_tokens",
                code="permit_cap",
            )
        self._turn_day()
        if self._spent_nusd + self._held_nusd + ceiling > own.day_cap_nusd:
            raise Refused(
                f"the hosted process has reached its {_usd(own.day_cap_nusd)} for today (max_usd_per_day)",
                code="permit_cap",
            )
        self._held_nusd += ceiling

    def _turn_day(self) -> None:
        day = self._now_ms() // 86_400_000
        if day != self._day:
            self._day, self._spent_nusd = day, 0


def _usd(nusd: int) -> str:
    return f"${nusd / NUSD:.4f}"
