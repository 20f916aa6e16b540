"""``/v1/conversations/{id}``: what a caller may know of its conversations, and say about how they ended.

What it is: ``GET`` the conversation with its outcomes; ``POST …/outcome`` what became of it, as often as need be.
What it refuses to be: a way into another tenant. A conversation of somebody else's is as unknown as one that never was.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from appliance.api.http import Exchange
from appliance.api.service import Service
from appliance.api.turns import is_id
from appliance.errors import BadRequest, NotFound
from appliance.ledger.money import usd
from appliance.ledger.said import LONGEST_NOTE, Said, Unsayable, checked
from appliance.types import Key

_BODY_BYTES = 64 * 1024


class OutcomeBody(Struct, forbid_unknown_fields=True, frozen=True):
    """What a caller may say."""

    resolved: bool | None = None
    handed_to_human: bool | None = None
    csat: Annotated[int, Meta(ge=1, le=5)] | None = None
    note: Annotated[str, Meta(max_length=LONGEST_NOTE)] | None = None

    def said(self) -> Said:
        """The same for the ledger."""
        return Said(self.resolved, self.handed_to_human, self.csat, self.note)


class OutcomeAnswer(Struct, frozen=True):
    """One recorded outcome. ``source``: api, silence or reopened."""

    id: str
    at_ms: int
    source: str
    resolved: bool | None
    handed_to_human: bool | None
    csat: int | None
    note: str | None


class RecordedOutcome(Struct, frozen=True):
    """What was recorded, and the state it put the conversation into."""

    conversation_id: str
    state: str
    outcome: OutcomeAnswer


class ConversationAnswer(Struct, frozen=True, kw_only=True):
    """What a caller may know. Times in Unix milliseconds."""

    id: str
    state: str
    channel: str
    language: str | None
    intent: str | None
    value_class: str | None
    opened_ms: int
    last_seen_ms: int
    requests: int
    reopened: int
    answered_by: str | None
    escalated: bool
    cost_usd: str
    outcomes: list[OutcomeAnswer]
    object: Literal["conversation"] = "conversation"


_SAME = tuple(n for n in ConversationAnswer.__struct_fields__ if n not in ("cost_usd", "outcomes", "object"))
_decoder = msgspec.json.Decoder(OutcomeBody)


class ConversationRoutes:
    """The handlers over ``service``."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def get(self, exchange: Exchange) -> None:
        """The conversation. Raises NotFound."""
        key = self._service.authenticate(exchange)
        with self._service.slot():
            body = await asyncio.to_thread(self._look, key, conversation_id(exchange))
        await exchange.respond(200, msgspec.json.encode(body))

    async def outcome(self, exchange: Exchange) -> None:
        """Record what became of it. Raises BadRequest, NotFound."""
        key = self._service.authenticate(exchange)
        with self._service.slot():
            async with self._service.upload_time():
                said = parse_outcome(await exchange.body(_BODY_BYTES, "an outcome's size"))
            key = self._service.authenticate(exchange)  # it may have been revoked while the body came
            body = await asyncio.to_thread(self._record, key, conversation_id(exchange), said)
        await exchange.respond(200, msgspec.json.encode(body))

    # SQLAlchemy is loaded by the first of these, in a thread: a gateway that only answers never pays for it

    def _look(self, key: Key, conversation_id: str) -> ConversationAnswer:
        from appliance.ledger.stores import conversations, outcomes

        engine = self._service.store()
        found = conversations.get(engine, key.tenant.id, conversation_id)
        if found is None:
            raise unknown(conversation_id)
        history = outcomes.history(engine, key.tenant.id, conversation_id)
        same = {name: getattr(found, name) for name in _SAME}
        cost_usd = f"{usd(found.hosted_nusd + found.energy_nusd):.9f}"  # exact; str would write 0E-9
        return ConversationAnswer(**same, cost_usd=cost_usd, outcomes=[_shown(one) for one in history])

    def _record(self, key: Key, conversation_id: str, said: Said) -> RecordedOutcome:
        from appliance.ledger.stores import conversations, outcomes

        engine, tenant_id = self._service.store(), key.tenant.id
        recorded = outcomes.record(engine, tenant_id, conversation_id, key.id, said, self._service.now_ms())
        found = None if recorded is None else conversations.get(engine, tenant_id, conversation_id)
        if recorded is None or found is None:
            raise unknown(conversation_id)
        return RecordedOutcome(found.id, found.state, _shown(recorded))


def parse_outcome(body: bytes) -> Said:
    """Check ``body``. Raises BadRequest."""
    try:
        said = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise BadRequest(
            f"the outcome is not understood ({e}); send an object with resolved and handed_to_human (true or false),"
            f" csat (1 to 5) or note (at most {LONGEST_NOTE} characters)"
        ) from None
    try:
        return checked(said.said())
    except Unsayable as e:
        raise BadRequest(str(e), param=e.field) from None


def _shown(outcome: Any) -> OutcomeAnswer:
    return OutcomeAnswer(*(getattr(outcome, field) for field in OutcomeAnswer.__struct_fields__))


def conversation_id(exchange: Exchange) -> str:
    """The conversation's id. What cannot be one is not looked for: PostgreSQL refuses to be asked for a NUL."""
    given = str(exchange.scope["path_params"]["id"])
    if not is_id(given):
        raise unknown(given)
    return given


def unknown(conversation_id: str) -> NotFound:
    """The error for one that the tenant does not have."""
    return NotFound(
        f"there is no conversation {conversation_id[:128]!r}; answers name theirs in X-Conversation-Id",
        code="conversation_not_found",
    )
