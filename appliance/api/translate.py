"""``/v1/translate``: texts in one of the 22 languages or English in, the same in another out.

What it is: languages by any dialect of code, detection where none is given, the pipeline, and the rendering of the
host's result; with ``stream`` sentences as they are done. ``transliterated`` is the same way for Latin letters that
only a learned transliterator can read.
What it refuses to be: a model. It knows no sentence.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.api.detect import identifier
from appliance.api.http import Exchange
from appliance.api.idempotency import Copy, idempotency_of
from appliance.api.params_texts import TranslateParams, parse_translate
from appliance.api.service import Service
from appliance.api.sinks import StreamSink, WholeSink
from appliance.api.translate_texts import Texts, code_of
from appliance.api.turns import turn_of
from appliance.errors import BadRequest, EngineFailed
from appliance.languages import ENGLISH, display_name, resolve, script, script_of
from appliance.ledger.remembered import Remembered
from appliance.pipeline import Work
from appliance.types import Endpoint, Key

if TYPE_CHECKING:
    from appliance.language_id import Identified

    Identify = Callable[[str], Identified]

PATH = "/v1/translate"
# more than this is worth a thread, so that other requests go on
_AT_ONCE = 4000
_LOOK = 2000
# how Unicode's names of letters begin
_LETTERS = {
    "Arab": "ARABIC", "Beng": "BENGALI", "Deva": "DEVANAGARI", "Gujr": "GUJARATI", "Guru": "GURMUKHI",
    "Knda": "KANNADA", "Latn": "LATIN", "Mlym": "MALAYALAM", "Mtei": "MEETEI", "Olck": "OL CHIKI", "Orya": "ORIYA",
    "Taml": "TAMIL", "Telu": "TELUGU",
}  # fmt: skip


class SourceMismatch(BadRequest):
    """400: a text has no letter of the script that its source is written in."""

    code = "source_mismatch"


def translate_route(service: Service) -> Callable[[Exchange], Awaitable[None]]:
    """The handler over ``service``."""

    async def handle(exchange: Exchange) -> None:
        key = service.authenticate(exchange)
        with service.slot():
            await answer(exchange, key)

    async def answer(exchange: Exchange, key: Key) -> None:
        async with service.upload_time():
            body = await exchange.body(service.settings.server.max_body_bytes, "server.max_body_bytes")
        params = parse_translate(body)
        target = _target(params.target)
        size = sum(map(len, params.texts))
        identify = await identifier() if params.source is None else None
        if size > _AT_ONCE:
            sources = await asyncio.to_thread(_sources, params, identify)
        else:
            sources = _sources(params, identify)
        texts = Texts(params, sources, target)
        if params.glossary is not None:
            await asyncio.to_thread(texts.mark, service, key)
        memory = None
        if key.tenant.translation_memory and texts.rememberable:
            memory = Remembered(service.store, key.tenant.id, service.now_ms, variant=texts.variant)
            await texts.recall(memory)
        copy = Copy() if exchange.header(b"idempotency-key") else None
        sink = _StreamSink(exchange, texts, copy) if params.stream else _WholeSink(exchange, texts, copy)
        await run_ask(service, exchange, key, "translate", params.model, body, texts.ask(), sink)
        if memory is not None:
            await texts.learn(memory)

    return handle


async def run_ask(
    service: Service,
    exchange: Exchange,
    key: Key,
    endpoint: Endpoint,
    model: str,
    body: bytes,
    ask: dict[str, Any],
    sink: WholeSink | StreamSink,
) -> None:
    """Admit, translate, settle, send. Raises ApplianceError after it was recorded."""
    resolved = service.model_for(model, "translate", key, endpoint)
    deadline_s = service.settings.server.request_deadline_s
    encoded = msgspec.json.encode({**ask, "deadline_s": deadline_s})
    idempotency = idempotency_of(exchange, f"/v1/{endpoint}", body)
    request = service.request(exchange, key, endpoint, model, bool(ask.get("stream")))
    work = Work(
        path=PATH,
        model=resolved,
        stream=bool(ask.get("stream")),
        deadline_s=deadline_s,
        body_for=lambda _model, _salt: encoded,
    )
    exchange.watch()
    turn = msgspec.structs.replace(turn_of(exchange, key), opens=False)  # a tool's call is no conversation
    await service.run(service.admission(request, turn, 0, 0, idempotency), work, sink)


class _WholeSink(WholeSink):
    """Renders the result once it is complete."""

    def __init__(self, exchange: Exchange, texts: Texts, copy: Copy | None) -> None:
        super().__init__(exchange, copy)
        self._texts = texts

    def render(self, body: bytes) -> bytes:
        """In the caller's shapes."""
        return msgspec.json.encode(self._texts.told(shown(body)))


class _StreamSink(StreamSink):
    """``translation.delta`` events, and ``translation.done`` with everything but the text."""

    def __init__(self, exchange: Exchange, texts: Texts, copy: Copy | None) -> None:
        super().__init__(exchange, copy)
        self._texts = texts

    async def data(self, body: bytes) -> None:
        """A sentence as an event."""
        line = msgspec.json.decode(body)
        delta = self._texts.restored(line["index"], line["text"])
        await super().data(
            _event({"type": "translation.delta", "index": line["index"], "delta": delta, "progress": line["progress"]})
        )

    def render(self, body: bytes) -> bytes:
        """The closing event."""
        done = self._texts.told(shown(body))
        for one in done["translations"]:
            del one["text"]
        return _event({"type": "translation.done", **done})


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def shown(result: bytes) -> dict[str, Any]:
    """The host's result in the caller's shapes. Raises EngineFailed."""
    try:
        decoded = msgspec.json.decode(result)
        translations = [
            {**one, "source": None if one["source"] is None else code_of(one["source"])}
            for one in decoded["translations"]
        ]
        usage = decoded["usage"]
        return {
            "translations": translations,
            "usage": {**usage, "total_tokens": usage["prompt_tokens"] + usage["completion_tokens"]},
        }
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise EngineFailed("the translation engine's answer is not a result object") from None


def _target(code: str) -> str:
    found = resolve(code, "target")
    if found.romanised:
        raise BadRequest(
            "translations are written in a language's own script; ask for that, then POST /v1/transliterate with"
            ' "target": "Latn"',
            param="target",
        )
    return found.tag


def _sources(params: TranslateParams, identify: Identify | None) -> list[str | None]:
    """Every text's tag as the engine wants it; None where there is nothing to translate."""
    if params.source is None:
        assert identify is not None, "the caller has it where no source is given"
        return [_detected(text, n, identify) for n, text in enumerate(params.texts)]
    found = resolve(params.source, "source")
    tag = f"{found.tag[:3]}_Latn" if found.romanised else found.tag
    return [_claimed(text, n, tag) for n, text in enumerate(params.texts)]


def _detected(text: str, n: int, identify: Identify) -> str | None:
    if not any(map(str.isalpha, text)):
        return None
    found = identify(text)
    if found.tag is None:
        raise BadRequest(f"input {n} is not translated: its language cannot be told; give 'source'", param="source")
    return f"{found.tag[:3]}_Latn" if found.romanised else found.tag


def _claimed(text: str, n: int, tag: str) -> str | None:
    """``tag``, unless no letter of the text is of its script. Raises SourceMismatch."""
    letters = [c for c in text[:_LOOK] if c.isalpha()]
    if not letters:
        return None if not any(map(str.isalpha, text)) else tag
    wanted = "Latn" if tag[4:] == "Latn" else script_of(tag)
    begins = _LETTERS[wanted]
    if not any(unicodedata.name(c, "").startswith(begins) for c in letters):
        said = (
            display_name(tag) if tag == ENGLISH or tag[4:] != "Latn" else f"{display_name(resolve(tag[:3]).tag)} typed"
        )
        raise SourceMismatch(
            f"input {n} has no {script(wanted).name} letter, and 'source' says {said}; leave 'source' out to have it"
            " detected, or name what it is",
            param="source",
        )
    return tag
