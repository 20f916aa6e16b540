"""What admin routes take, as Structs: the decoders, the messages and the OpenAPI document are made of these.

What it is: types and phrases. Ranges that a store checks as well are here too, so that the document says them.
What it refuses to be: lenient. An unknown field is an error that names the nearest known one; a field that is left out
of a PATCH stays as it is, null takes a limit away.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from appliance.api.admin.route import Listing, Name, OfTenant, OneOf, UnixMs
from appliance.types import Channel, Endpoint, Residency, Role

Label = Annotated[str, Meta(min_length=1, max_length=64)]
Money = Annotated[int, Meta(ge=0, le=10**18)]
Count = Annotated[int, Meta(ge=1, le=10**9)]
Names = Annotated[list[Label], Meta(max_length=200)]
Amount = Annotated[str, Meta(min_length=1, max_length=40)]

# phrases that several share
_CAP = "nano-USD a month (1 USD is 1000000000), or null for no cap"
_RESIDENCY = "one of local_only, hosted_redacted, hosted_allowed"
_LIMIT = "an integer of at least 1, or null for no limit"
_FROM = "Unix milliseconds from which on it is in force; left out for now"
_DAYS = "an integer of days"


class TenantFields(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """What may be set of a tenant."""

    name: Annotated[Label | UnsetType, Meta(description="1 to 64 printable characters")] = UNSET
    residency: Annotated[Residency | UnsetType, Meta(description=_RESIDENCY)] = UNSET
    regions: Annotated[Names | UnsetType, Meta(description="an array of regions where hosted models may run")] = UNSET
    languages: Annotated[Names | UnsetType, Meta(description="an array of languages; empty for all")] = UNSET
    cap_nusd: Annotated[Money | UnsetType | None, Meta(description=_CAP)] = UNSET
    store_text: Annotated[bool | UnsetType, Meta(description="true or false; whether prompts and answers are kept")] = (
        UNSET
    )
    translation_memory: Annotated[
        bool | UnsetType, Meta(description="true or false; whether translations are kept too, where text is")
    ] = UNSET
    text_days: Annotated[Annotated[int, Meta(ge=1, le=36_500)] | UnsetType, Meta(description=_DAYS)] = UNSET
    log_days: Annotated[
        Annotated[int, Meta(ge=365, le=36_500)] | UnsetType,
        Meta(description="an integer of days, 365 at least (DPDP Rules 2025, rule 6)"),
    ] = UNSET
    legal_hold: Annotated[bool | UnsetType, Meta(description="true or false; true stops deletion and erasure")] = UNSET
    presume_after_h: Annotated[
        Annotated[int, Meta(ge=1, le=8760)] | UnsetType, Meta(description="an integer of hours from 1 to 8760")
    ] = UNSET


class NewTenant(TenantFields, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A tenant to be made."""

    id: Annotated[Label, Meta(description="1 to 64 lower-case letters, digits, - and _")]


class KeyFields(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """What may be set of a key. Its role and tenant are not among it."""

    models: Annotated[Names | UnsetType, Meta(description="an array of models; empty for all")] = UNSET
    endpoints: Annotated[
        Annotated[list[Endpoint], Meta(max_length=16)] | UnsetType,
        Meta(description="an array of endpoints such as chat.completions or translate; empty for all"),
    ] = UNSET
    residency: Annotated[Residency | UnsetType | None, Meta(description=_RESIDENCY + ", or null for the tenant's")] = (
        UNSET
    )
    requests_per_minute: Annotated[Count | UnsetType | None, Meta(description=_LIMIT)] = UNSET
    tokens_per_minute: Annotated[Count | UnsetType | None, Meta(description=_LIMIT)] = UNSET
    max_concurrent: Annotated[Count | UnsetType | None, Meta(description=_LIMIT)] = UNSET
    cap_nusd: Annotated[Money | UnsetType | None, Meta(description=_CAP)] = UNSET
    expires_ms: Annotated[UnixMs | UnsetType | None, Meta(description="Unix milliseconds, or null for never")] = UNSET


class NewKey(KeyFields, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A key to be made."""

    name: Annotated[Label, Meta(description="1 to 64 printable characters")]
    role: Annotated[Role, Meta(description="one of client, operator, admin")] = "client"
    tenant: OfTenant = None


class OfSubject(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Whose data is asked for: what the caller sends as ``user``, which the ledger does not hold."""

    user: Annotated[
        Annotated[str, Meta(min_length=1, max_length=512)], Meta(description="what the caller sends as 'user'")
    ]
    tenant: OfTenant = None


class NewServerCost(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """What the server costs from a moment on; money as decimal text."""

    purchase_usd: Annotated[Amount, Meta(description='a decimal as text, such as "250000"')]
    lifetime_months: Annotated[Annotated[int, Meta(ge=1, le=1200)], Meta(description="an integer from 1 to 1200")]
    busy_w: Annotated[Annotated[int, Meta(ge=0, le=10**6)], Meta(description="an integer of watts")]
    idle_w: Annotated[Annotated[int, Meta(ge=0, le=10**6)], Meta(description="an integer of watts, at most busy_w")]
    tariff_inr_per_kwh: Annotated[Amount, Meta(description='a decimal as text, such as "9.5"')]
    inr_per_usd: Annotated[Amount, Meta(description='a decimal as text, such as "84.5"')]
    upkeep_usd_per_month: Annotated[Amount, Meta(description='a decimal as text, such as "900"')] = "0"
    effective_ms: Annotated[UnixMs | None, Meta(description=_FROM)] = None


class PriceFields(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """What a hosted model charges from a moment on."""

    provider: Annotated[Label, Meta(description="lower-case letters, digits, - and _, such as google")]
    model: Annotated[Label, Meta(description="the model's name at its provider")]
    unit: Annotated[
        Label,
        Meta(
            description="one of prompt_token, cached_token, completion_token, thinking_token, audio_token, audio_s,"
            " character"
        ),
    ]
    usd_per_million: Annotated[Amount, Meta(description='a decimal as text, such as "0.25"')]
    batch: Annotated[bool, Meta(description="true or false")] = False
    effective_ms: Annotated[UnixMs | None, Meta(description=_FROM)] = None
    source: Annotated[Annotated[str, Meta(max_length=500)], Meta(description="where the price was looked up")] = ""


Nanoseconds = Annotated[float, Meta(ge=0, le=1e15)]


class NewCoefficients(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """How long units of a model's work take, in nanoseconds of the server; model ``*`` is any other."""

    model: Annotated[Label, Meta(description="a model's name, or * for any other")]
    prompt_token_ns: Annotated[Nanoseconds, Meta(description="nanoseconds an uncached token of the prompt")] = 0.0
    completion_token_ns: Annotated[Nanoseconds, Meta(description="nanoseconds a token of the answer")] = 0.0
    audio_s_ns: Annotated[Nanoseconds, Meta(description="nanoseconds a second of audio")] = 0.0
    character_ns: Annotated[Nanoseconds, Meta(description="nanoseconds a character")] = 0.0
    effective_ms: Annotated[UnixMs | None, Meta(description=_FROM)] = None
    source: Annotated[Annotated[str, Meta(max_length=500)], Meta(description="the profile it was measured with")] = ""


# query strings

State = Literal["open", "resolved", "unresolved", "handed_to_human", "presumed_resolved"]
RequestStatus = Literal["open", "ok", "failed", "refused", "cancelled", "lost"]


class TenantListing(Listing, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A list that is narrowed to a tenant."""

    tenant: OfTenant = None


class ConversationListing(TenantListing, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Conversations, newest first."""

    state: Annotated[State | None, Meta(description="the state it is in")] = None
    channel: Annotated[Channel | None, Meta(description="one of whatsapp, voice, ivr, web, api")] = None
    intent: Annotated[Label | None, Meta(description="an intent as callers name it")] = None
    language: Annotated[Label | None, Meta(description="a FLORES tag such as hin_Deva")] = None
    subject: Annotated[Name | None, Meta(description="a pseudonym as other lists show it")] = None
    since_ms: Annotated[UnixMs | None, Meta(description="Unix milliseconds; opened then or later")] = None
    before_ms: Annotated[UnixMs | None, Meta(description="Unix milliseconds; opened before")] = None


class RequestListing(TenantListing, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Requests, newest first."""

    conversation_id: Annotated[Name | None, Meta(description="a conversation's id")] = None
    key: Annotated[Name | None, Meta(description="a key's id")] = None
    status: Annotated[RequestStatus | None, Meta(description="how it ended")] = None
    since_ms: Annotated[UnixMs | None, Meta(description="Unix milliseconds; arrived then or later")] = None
    before_ms: Annotated[UnixMs | None, Meta(description="Unix milliseconds; arrived before")] = None


class OutcomeListing(TenantListing, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Outcomes, newest first."""

    conversation_id: Annotated[Name | None, Meta(description="a conversation's id")] = None
    source: Annotated[Literal["api", "silence", "reopened"] | None, Meta(description="who said it")] = None


class BudgetListing(TenantListing, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Budgets, oldest month first."""

    month: Annotated[
        Annotated[str, Meta(min_length=7, max_length=7)] | None, Meta(description="a month such as 2026-11")
    ] = None
    scope: Annotated[Literal["tenant", "key"] | None, Meta(description="tenant or key")] = None


class AuditListing(TenantListing, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Changes, newest first."""

    actor: Annotated[Label | None, Meta(description="a key's id, or cli: and a user of the machine")] = None
    action: Annotated[Label | None, Meta(description="what was done, such as key.create")] = None
    target: Annotated[Annotated[str, Meta(max_length=256)] | None, Meta(description="the id it was done to")] = None


class ReportOf(OneOf, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A month, of all tenants or of one."""

    month: Annotated[str, Meta(description="such as 2026-11", max_length=16)]
