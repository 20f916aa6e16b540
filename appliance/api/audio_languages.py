"""``GET /v1/audio/languages``: which languages are heard here, and by which model.

What it is: the same choice that an upload meets (``SpeechRoute``), asked beforehand. A live session asks it when it is
told its language, so that a wrong one is refused at once and not with the first turn.
What it refuses to be: a request of the ledger; no engine is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from appliance.api.http import Exchange
from appliance.api.language_names import CODES, language_name
from appliance.api.multipart import Form
from appliance.api.params_audio import parse_transcription
from appliance.api.service import Service
from appliance.api.speech import SpeechRoute
from appliance.api.strictjson import shorten
from appliance.errors import BadRequest
from appliance.languages import LANGUAGES

_MOST_FIELDS = 8
# what earlier Whisper models have no token for
_SINCE = {"yue": "large-v3"}


class HeardLanguage(Struct, frozen=True):
    """A language, and the models that may hear it, best first."""

    language: str
    name: str
    models: list[str]


class HeardLanguages(Struct, frozen=True):
    """All that ``model`` hears."""

    object: str
    model: str
    data: list[HeardLanguage]


class HeardQuery(Struct, frozen=True):
    """``model``: as a transcription names it. ``language``: this one alone; an error where it is not heard."""

    model: str
    language: str | None = None


def audio_languages_route(service: Service) -> Callable[[Exchange], Awaitable[None]]:
    """The handler over ``service``."""

    async def handle(exchange: Exchange) -> None:
        key = service.authenticate(exchange)
        params = parse_transcription(Form(_query(exchange), b""))
        model = service.model_for(params.model, "transcribe", key, "audio.transcriptions")
        route = SpeechRoute(service, key, params.model, model, params)
        found = heard(route)
        if (asked := params.language) is not None:
            if asked not in found:
                raise not_among(route, asked, found)
            found = {asked: found[asked]}
        data = [HeardLanguage(code, _name(code), models) for code, models in found.items()]
        await exchange.respond(200, msgspec.json.encode(HeardLanguages("list", params.model, data)))

    return handle


def heard(route: SpeechRoute) -> dict[str, list[str]]:
    """Codes with the models that hear them: the appliance's 23 first, then what Whisper knows beside them."""
    ours = [language.bcp47 for language in LANGUAGES]
    found = {code: route.able(code) for code in (*ours, *(code for code in CODES if code not in ours))}
    for code, least in _SINCE.items():
        found[code] = [model for model in found[code] if least in model]
    return {code: models for code, models in found.items() if models}


def not_among(route: SpeechRoute, asked: str, found: dict[str, list[str]]) -> BadRequest:
    """Why ``asked`` is refused, and what is accepted."""
    accepted = f"accepted here: {', '.join(found)}, or auto" if found else "no model here hears any"
    if asked in CODES:
        e = route.deaf(asked)
        return BadRequest(f"{e.message}; {accepted}", code=e.code, param="language")
    return BadRequest(
        f"'language' is {shorten(asked)!r}, which is no language known here; {accepted}",
        code="unknown_language",
        param="language",
    )


def _name(code: str) -> str:
    return next((language.name for language in LANGUAGES if language.bcp47 == code), language_name(code).title())


def _query(exchange: Exchange) -> dict[str, list[str]]:
    """The query string as the fields of a transcription's form."""
    found: dict[str, list[str]] = {}
    try:
        raw = bytes(exchange.scope.get("query_string", b"")).decode("ascii")
        for name, value in parse_qsl(raw, errors="strict", max_num_fields=_MOST_FIELDS):
            found.setdefault(name, []).append(value)
    except ValueError:  # UnicodeDecodeError is one
        raise BadRequest("the query string is not understood; write it as model=NAME&language=CODE in UTF-8") from None
    if beside := set(found) - {"model", "language"}:
        name = shorten(min(beside))
        raise BadRequest(f"'{name}' is not known here; send model and language", code="unknown_parameter", param=name)
    return found
