"""``/v1/transliterate``: texts in another script.

What it is: ``transliterate`` over HTTP. Which language and script a text is in is taken from the caller or detected;
the target is a script, or a language (whose script is meant).
Informal Latin letters, which rules cannot read, go to the learned transliterator of a translation engine where one is
served.
What it refuses to be: a translator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.api.detect import identifier
from appliance.api.http import Exchange
from appliance.api.idempotency import Copy
from appliance.api.inside import answer_inside
from appliance.api.params_texts import TransliterateParams, parse_transliterate
from appliance.api.service import Service
from appliance.api.sinks import WholeSink
from appliance.api.translate import run_ask
from appliance.errors import BadRequest, EngineFailed
from appliance.languages import ENGLISH, SCRIPTS, UnknownLanguage, bcp47, display_name, resolve, script_of
from appliance.transliterate import LATIN, transliterate
from appliance.types import Key

if TYPE_CHECKING:
    from appliance.language_id import Identified

    Identify = Callable[[str], Identified]

MODEL = "transliteration-rules"
# more than this is worth a thread, so that other requests go on
_AT_ONCE = 4000
_SCRIPT = {name.casefold(): one.code for one in SCRIPTS for name in (one.code, one.name)}


def transliterate_route(service: Service) -> Callable[[Exchange], Awaitable[None]]:
    """The handler over ``service``."""

    async def handle(exchange: Exchange) -> None:
        key = service.authenticate(exchange)
        service.check_endpoint(key, "transliterate")
        with service.slot():
            await answer(exchange, key)

    async def answer(exchange: Exchange, key: Key) -> None:
        async with service.upload_time():
            body = await exchange.body(service.settings.server.max_body_bytes, "server.max_body_bytes")
        params = parse_transliterate(body)
        source = None if params.source is None else _source(params.source)
        target = _target(params.target)
        size = sum(map(len, params.texts))
        learner = service.registry.resolve("translate")
        if params.scheme != "iso15919" and target != LATIN and service.registry.task_of(learner) == "translate":
            identify = None if source is not None else await identifier()
            sources = await asyncio.to_thread(_tagged, params, source, identify)
            if any(written_in == LATIN for _, written_in in sources):
                ask, sink = _learned(exchange, params, sources, target)
                await run_ask(service, exchange, key, "transliterate", "translate", body, ask, sink)
                return

        async def work() -> bytes:
            identify = None if source is not None else await identifier()
            if size > _AT_ONCE:
                return await asyncio.to_thread(_answer, params, source, target, identify)
            return _answer(params, source, target, identify)

        await answer_inside(service, exchange, key, "transliterate", MODEL, body, size, work)

    return handle


def _tagged(
    params: TransliterateParams, source: tuple[str, str] | None, identify: Identify | None
) -> list[tuple[str, str]]:
    """Tag and script of every text."""
    if source is not None:
        return [source] * len(params.texts)
    return [_detected(text, n, identify) for n, text in enumerate(params.texts)]


def _learned(
    exchange: Exchange, params: TransliterateParams, sources: list[tuple[str, str]], target: str
) -> tuple[dict[str, Any], WholeSink]:
    """What the engine is asked, and where its answer goes. Raises BadRequest for several languages in one request."""
    typed = {tag for tag, written_in in sources if written_in == LATIN}
    if len(typed) > 1:
        names = ", ".join(sorted(display_name(tag) for tag in typed))
        raise BadRequest(f"texts typed in Latin letters are in {names}; send one language a request", param="input")
    (tag,) = typed
    items = [
        {"text": text, "source": f"{tag[:3]}_Latn"}
        for text, (_, written_in) in zip(params.texts, sources, strict=True)
        if written_in == LATIN
    ]
    ask = {"items": items, "target": tag, "digits": "source"}
    return ask, _Learned(exchange, params, sources, target)


class _Learned(WholeSink):
    """The engine's texts and those that rules write, in the order of the request."""

    def __init__(
        self, exchange: Exchange, params: TransliterateParams, sources: list[tuple[str, str]], target: str
    ) -> None:
        super().__init__(exchange, Copy() if exchange.header(b"idempotency-key") else None)
        self._params, self._sources, self._target = params, sources, target

    def render(self, body: bytes) -> bytes:
        """``/v1/transliterate``'s shape. Raises EngineFailed."""
        try:
            came = iter([one["text"] for one in msgspec.json.decode(body)["translations"]])
            data = []
            for n, (text, (tag, written_in)) in enumerate(zip(self._params.texts, self._sources, strict=True)):
                native = next(came) if written_in == LATIN else text
                begins = script_of(tag) if written_in == LATIN else written_in
                done = transliterate(native, tag, begins, self._target, digits=self._params.digits)
                data.append(
                    {"index": n, "text": done, "source": bcp47(tag, written_in), "target": bcp47(tag, self._target)}
                )
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, StopIteration):
            raise EngineFailed("the translation engine's answer is not a result object") from None
        size = sum(map(len, self._params.texts))
        return msgspec.json.encode({"object": "list", "data": data, "usage": {"characters": size}})


def _answer(
    params: TransliterateParams, source: tuple[str, str] | None, target: str, identify: Identify | None
) -> bytes:
    data: list[dict[str, Any]] = []
    for n, text in enumerate(params.texts):
        tag, written_in = _detected(text, n, identify) if source is None else source
        done = transliterate(text, tag, written_in, target, _scheme(params, written_in), params.digits)
        data.append({"index": n, "text": done, "source": bcp47(tag, written_in), "target": bcp47(tag, target)})
    return msgspec.json.encode(
        {"object": "list", "data": data, "usage": {"characters": sum(map(len, params.texts))}},
    )


def _scheme(params: TransliterateParams, written_in: str) -> Any:
    """Latin letters that come in are informal unless the caller says otherwise; those that go out are ISO 15919."""
    return params.scheme or ("informal" if written_in == LATIN else "iso15919")


def _source(code: str) -> tuple[str, str]:
    """Tag and script of a caller's code. Raises UnknownLanguage, BadRequest."""
    found = resolve(code, "source")
    if found.tag == ENGLISH:
        raise BadRequest("English is not transliterated here; give an Indic language as 'source'", param="source")
    return found.tag, LATIN if found.romanised else script_of(found.tag)


def _target(code: str) -> str:
    """The script of a caller's code: a script's own name or code, or a language's. Raises UnknownLanguage."""
    known = _SCRIPT.get(code.casefold())
    if known is not None:
        return known
    try:
        found = resolve(code, "target")
    except UnknownLanguage as e:
        raise UnknownLanguage(
            f"{e.message}; or a script: {', '.join(one.code for one in SCRIPTS)}", param="target"
        ) from None
    return LATIN if found.romanised else script_of(found.tag)


def _detected(text: str, n: int, identify: Identify | None) -> tuple[str, str]:
    """Tag and script of a text whose source was not given. Raises BadRequest where they cannot be told."""
    assert identify is not None, "the caller has it where no source is given"
    found = identify(text)
    if found.tag is None or found.tag == ENGLISH:
        what = "its language cannot be told" if found.tag is None else f"it is in {display_name(ENGLISH)}"
        raise BadRequest(
            f"input {n} is not transliterated: {what}; give 'source', such as hi or hi-Latn", param="source"
        )
    return found.tag, found.script
