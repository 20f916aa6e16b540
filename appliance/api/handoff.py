"""``POST /v1/conversations/{id}/handoff``: what a person needs who takes over a conversation, in their own language.

What it is: the last turns as they were, and a summary of the whole made by a local model; in the agent's language, by
the translation engine where there is one. It is a request of its own in the ledger, with a call an engine.
What it refuses to be: a store. Messages come in the body, unless the tenant stores text; and it hands over nothing by
itself: ``POST …/outcome`` says that it was done.
What it costs: one local answer of up to 400 tokens, and the translation of it and of the last turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from appliance.api.conversations import conversation_id, unknown
from appliance.api.detect import identifier
from appliance.api.http import Exchange
from appliance.api.idempotency import idempotency_of
from appliance.api.messages import MAX_MESSAGES, Message, tidy
from appliance.api.service import Service
from appliance.api.sinks import WholeSink
from appliance.api.speech_translate import NoTranslator, translator_of
from appliance.errors import BadRequest, Conflict, EngineFailed
from appliance.languages import ENGLISH, bcp47, display_name, resolve
from appliance.pipeline import Ask, Work
from appliance.pipeline.handoff import parted, question, read
from appliance.translation.messages import has_letters, prose
from appliance.types import Key, Turn

_CHAT = "/v1/chat/completions"
_TRANSLATE = "/v1/translate"
_encoder = msgspec.json.Encoder()


class HandoffBody(Struct, forbid_unknown_fields=True, frozen=True):
    """``messages``: the conversation, where the tenant stores no text. ``language``: the agent's."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)] | None = None
    language: Annotated[str, Meta(min_length=1, max_length=64)] = "en"
    model: Annotated[str, Meta(min_length=1, max_length=256)] = "default"


class HandedTurn(Struct, frozen=True):
    """One of the last turns. ``translation`` is there where it is in another language than the agent's."""

    role: str
    content: str
    translation: str | None = None


class Handoff(Struct, frozen=True, kw_only=True):
    """What the agent is given. ``language`` is the agent's, ``customer_language`` what the customer writes."""

    conversation_id: str
    language: str
    customer_language: str | None
    intent: str | None
    value_class: str | None
    answered_by: str | None
    escalated: bool
    summary: str
    messages: list[HandedTurn]
    object: Literal["conversation.handoff"] = "conversation.handoff"


_decoder = msgspec.json.Decoder(HandoffBody)


def handoff_route(service: Service) -> Callable[[Exchange], Awaitable[None]]:
    """The handler over ``service``."""

    async def handle(exchange: Exchange) -> None:
        key = service.authenticate(exchange)
        with service.slot():
            await answer(exchange, key)

    async def answer(exchange: Exchange, key: Key) -> None:
        found_id = conversation_id(exchange)
        async with service.upload_time():
            raw = await exchange.body(service.settings.server.max_body_bytes, "server.max_body_bytes")
        key = service.authenticate(exchange)
        body = _parsed(raw)
        target = resolve(body.language, "language").tag
        service.check_endpoint(key, "handoff")
        found, messages = await asyncio.to_thread(_look, service, key, found_id, body.messages)
        model = service.model_for(body.model, "chat", key, "handoff")
        identify = await identifier()
        handing = _Handing(service, key, messages, target, model, identify)
        sink = _Sink(exchange, found, handing)
        request = service.request(exchange, key, "handoff", body.model, False)
        exchange.watch()
        turn = Turn(conversation_id=found.id, opens=False)  # nobody in it has said anything, but it bears the cost
        admission = service.admission(request, turn, 0, 0, idempotency_of(exchange, f"handoff/{found_id}", raw))
        await service.run(admission, handing.work(), sink)

    return handle


class _Handing:
    """One handoff: the calls that make it, and what came of them."""

    def __init__(
        self,
        service: Service,
        key: Key,
        messages: list[dict[str, Any]],
        target: str,
        model: str,
        identify: Callable[[str], Any],
    ) -> None:
        self.last = [m for m in parted(messages).last if any(map(has_letters, prose(m)))]
        self.target = target
        self.sources = [_source("\n".join(prose(m)), target, identify) for m in self.last]
        asked = next((s for m, s in zip(reversed(self.last), reversed(self.sources), strict=True) if _is_user(m)), None)
        self.customer = identify("\n".join(prose(self._newest()))).tag if asked is None else asked
        self._model = model
        self._deadline_s = service.settings.server.request_deadline_s
        self._translator = _translator(service, key) if target != ENGLISH or any(self.sources) else None
        # a small model writes English best; without a translation it has to try
        spoken = "English" if self._translator is not None else display_name(target)
        turns = [m for m in messages if m.get("role") != "system"]
        self._question = question(turns, model, spoken)
        self._summary = ""

    def work(self) -> Work:
        """The summary; with a translation engine, then what has to be translated."""
        straight = Work(_CHAT, self._model, False, self._deadline_s, lambda _model, _salt: self._question)
        if self._translator is None:
            return straight
        translator = self._translator

        async def prepare(ask: Ask) -> Work:
            self._summary = read(await ask(self._model, _CHAT, "", self._question))
            encoded = _encoder.encode(self._asked())
            return replace(straight, path=_TRANSLATE, model=translator, body_for=lambda _m, _s: encoded, prepare=None)

        return replace(straight, prepare=prepare)

    def told(self, body: bytes) -> tuple[str, list[HandedTurn]]:
        """Summary and turns, of the last engine's answer. Raises EngineFailed."""
        texts = ["\n".join(prose(m)) for m in self.last]
        made: list[str] = texts
        if self._translator is None:
            summary = read(body)
        else:
            try:
                found = [str(one["text"]) for one in msgspec.json.decode(body)["translations"]]
                summary, made = found[0], found[1:]
            except (msgspec.DecodeError, KeyError, TypeError, IndexError):
                raise EngineFailed("the translation engine's answer is not a result object") from None
        if not summary:
            raise EngineFailed("the model wrote no summary; try again, or name another model")
        turns = [
            HandedTurn(str(m["role"]), text, new if source is not None and new != text else None)
            for m, text, new, source in zip(self.last, texts, made, self.sources, strict=True)
        ]
        return summary, turns

    def _asked(self) -> dict[str, Any]:
        first = {"text": self._summary, "source": ENGLISH if self.target != ENGLISH else None}
        turns = zip(self.last, self.sources, strict=True)
        items = [first, *({"text": "\n".join(prose(m)), "source": source} for m, source in turns)]
        return {"items": items, "target": self.target, "mode": "markdown", "deadline_s": self._deadline_s}

    def _newest(self) -> dict[str, Any]:
        return next((m for m in reversed(self.last) if _is_user(m)), {"content": ""})


class _Sink(WholeSink):
    """Renders the handoff."""

    def __init__(self, exchange: Exchange, found: Any, handing: _Handing) -> None:
        super().__init__(exchange)
        self._found = found
        self._handing = handing

    def render(self, body: bytes) -> bytes:
        """In the caller's shape."""
        summary, turns = self._handing.told(body)
        found, customer = self._found, self._handing.customer
        return _encoder.encode(
            Handoff(
                conversation_id=found.id,
                language=bcp47(self._handing.target),
                customer_language=found.language or (None if customer is None else bcp47(customer)),
                intent=found.intent,
                value_class=found.value_class,
                answered_by=found.answered_by,
                escalated=found.escalated,
                summary=summary,
                messages=turns,
            )
        )


def _parsed(raw: bytes) -> HandoffBody:
    try:
        body = _decoder.decode(raw or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise BadRequest(
            f"the handoff is not understood ({e}); send an object with messages, language (the agent's) or model"
        ) from None
    if body.messages is not None:
        tidy(body.messages)
    return body


def _look(service: Service, key: Key, found_id: str, given: list[Message] | None) -> tuple[Any, list[dict[str, Any]]]:
    """The conversation and its messages. Raises NotFound, and Conflict where nobody has them."""
    from appliance.ledger.stores import conversations

    engine = service.store()
    found = conversations.get(engine, key.tenant.id, found_id)
    if found is None:
        raise unknown(found_id)
    if given is not None:
        return found, msgspec.to_builtins(given)
    said = conversations.last_text(engine, key.tenant.id, found_id) if key.tenant.store_text else None
    if said is None:
        raise Conflict(
            "the text of this conversation is not stored; send its messages in the body", code="text_not_stored"
        )
    prompt, answer = said
    return found, [*msgspec.json.decode(prompt), {"role": "assistant", "content": answer}]


def _translator(service: Service, key: Key) -> str | None:
    try:
        return translator_of(service, key)
    except NoTranslator:
        return None


def _source(text: str, target: str, identify: Callable[[str], Any]) -> str | None:
    """What a turn has to be translated from; None where it is the agent's language, or nobody can tell."""
    found = identify(text)
    if found.tag is None or found.tag == target:
        return None
    return f"{found.tag[:3]}_Latn" if found.romanised and found.tag != ENGLISH else str(found.tag)


def _is_user(message: dict[str, Any]) -> bool:
    return message.get("role") == "user"
