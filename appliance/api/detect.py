"""``/v1/detect-language``: what language and script texts are in.

What it is: ``language_id`` over HTTP, a text or many, in the codes that callers use and the tags used inside.
What it refuses to be: in need of an engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.api.http import Exchange
from appliance.api.inside import answer_inside
from appliance.api.params_texts import parse_detect
from appliance.api.service import Service
from appliance.languages import bcp47
from appliance.types import Key

if TYPE_CHECKING:
    from appliance.language_id import Identified

MODEL = "language-id"
# other requests get their turn after so many texts
_AT_A_TIME = 16


def detect_route(service: Service) -> Callable[[Exchange], Awaitable[None]]:
    """The handler over ``service``."""

    async def handle(exchange: Exchange) -> None:
        key = service.authenticate(exchange)
        service.check_endpoint(key, "detect-language")
        with service.slot():
            await answer(exchange, key)

    async def answer(exchange: Exchange, key: Key) -> None:
        async with service.upload_time():
            body = await exchange.body(service.settings.server.max_body_bytes, "server.max_body_bytes")
        params = parse_detect(body)

        async def work() -> bytes:
            identify = await identifier()
            data = []
            for n, text in enumerate(params.texts):
                if n and n % _AT_A_TIME == 0:
                    await asyncio.sleep(0)
                data.append({"index": n, **shown(identify(text))})
            return msgspec.json.encode({"object": "list", "data": data, "usage": {"characters": size}})

        size = sum(map(len, params.texts))
        await answer_inside(service, exchange, key, "detect-language", MODEL, body, size, work)

    return handle


async def identifier() -> Callable[[str], Identified]:
    """``language_id.identify``, ready to use.

    NumPy and the model are loaded by the first call, in a thread: a gateway that never detects does not pay for them.
    """
    return _load() if _load.cache_info().currsize else await asyncio.to_thread(_load)


@cache
def _load() -> Callable[[str], Identified]:
    from appliance.language_id import identify

    identify("")
    return identify


def shown(found: Identified) -> dict[str, Any]:
    """One answer: ``language`` in BCP 47 (``hi-Latn`` for romanised Hindi), null where it cannot be told."""
    language = None if found.tag is None else bcp47(found.tag, found.script or None)
    languages = found.mixed or (((found.tag, 1.0),) if found.tag is not None else ())
    return {
        "language": language,
        "tag": found.tag,
        "script": found.script or None,
        "confidence": found.confidence,
        "romanised": found.romanised,
        "languages": [{"language": bcp47(tag), "tag": tag, "share": share} for tag, share in languages],
    }
