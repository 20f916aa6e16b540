"""Speech in one language, text in another: the transcript of ``speech.py`` through the translation engine.

What it is: the ``Work`` of a request whose mode is translate. The transcription is a call made before the attempt, the
translation is the attempt itself, so the ledger has one attempt with a call an engine. Segments are translated one by
one, which keeps their times.
What it refuses to be: a translator, or a second way to hear. Speech that is in the target already passes untouched.
What it costs: the segments' sentences on the translation engine, and no other try where the speech engine fails.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from appliance.api.params_audio import TranscriptionParams
from appliance.api.service import Service, allowed
from appliance.api.translate import PATH
from appliance.errors import BadRequest, EngineFailed
from appliance.languages import resolve
from appliance.pipeline import Ask, Work
from appliance.types import End, Key, Usage


class NoTranslator(BadRequest):
    """400: this box serves no translation model that the key may use."""

    code = "mode_not_installed"


def translator_of(service: Service, key: Key) -> str:
    """The translation model, ready ones first. Raises NoTranslator."""
    found: dict[str, bool] = {}
    for name, engine in service.settings.engines.items():
        if engine.task != "translate":
            continue
        entry = service.registry.entries.get(name)
        models = entry.state.models if entry is not None else (engine.model, *engine.models)
        for model in filter(None, models):
            names = (model, *(a for a in service.settings.aliases if service.registry.resolve(a) == model))
            if any(allowed(key, n, model) for n in names):
                found[model] = found.get(model, False) or (entry is not None and entry.state.phase == "ready")
    if not found:
        raise NoTranslator(
            "no translation model is served here for this key; run `appliance models pull"
            " indictrans2-indic-en-dist-200m` and name it in [engines.translate], or send mode=transcribe",
            param="mode",
        )
    return max(found, key=lambda model: found[model])


def translated(service: Service, key: Key, params: TranscriptionParams, heard: Work) -> Work:
    """``heard`` (whole, not streamed), and its transcript in ``params.target``. Raises BadRequest."""
    if params.language is not None and _tag(params.language) == params.target:
        return heard
    model = translator_of(service, key)

    async def prepare(ask: Ask) -> Work:
        result = await _hear(ask, heard)
        encoded = msgspec.json.encode(_asked(result, params.target, heard.deadline_s))
        return replace(
            heard,
            path=PATH,
            model=model,
            header="",
            body_for=lambda _model, _salt: encoded,
            prepare=None,
            judge=lambda end: (replace(end, body=_merged(result, end.body)), None),
        )

    return replace(heard, prepare=prepare)


async def _hear(ask: Ask, work: Work) -> dict[str, Any]:
    """The transcript, on another model once where its script was wrong."""
    if work.prepare is not None:
        work = await work.prepare(ask)
    end, again = await _call(ask, work)
    if again is not None:
        end, _ = await _call(ask, again)
    result: dict[str, Any] = msgspec.json.decode(end.body)
    return result


async def _call(ask: Ask, work: Work) -> tuple[End, Work | None]:
    end = End(Usage(), "stop", await ask(work.model, work.path, work.header, work.body_for(work.model, None)))
    return (end, None) if work.judge is None else work.judge(end)


def _tag(code: str) -> str:
    return resolve(code, "language").tag


def _asked(result: dict[str, Any], target: str, deadline_s: float) -> dict[str, Any]:
    segments = result.get("segments") or []
    texts = [str(s["text"]).strip() for s in segments] or [str(result.get("text", "")).strip()]
    language = result.get("language")
    source = None
    if language is not None and any(texts):
        source = _tag(language)
    items = [{"text": t, "source": source if source != target and any(map(str.isalpha, t)) else None} for t in texts]
    return {"items": items, "target": target, "deadline_s": deadline_s}


def _merged(result: dict[str, Any], answer: bytes) -> bytes:
    """The transcript with its texts translated; words have no times of their own any more."""
    try:
        texts = [str(one["text"]) for one in msgspec.json.decode(answer)["translations"]]
        segments = result.get("segments") or []
        if segments:
            segments = [{**s, "text": t, "tokens": []} for s, t in zip(segments, texts, strict=True)]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        raise EngineFailed("the translation engine's answer does not fit its question") from None
    text = " ".join(t.strip() for t in texts if t.strip())
    return msgspec.json.encode({**result, "text": text, "segments": segments, "words": None})
