"""``/v1/audio/transcriptions``: the form fields, checked.

What it is: ``parse_transcription`` turns a read form into ``TranscriptionParams`` or raises BadRequest. An
empty field counts as absent, because forms have no null. Names are taken with and without ``[]``.
What it refuses to be: a judge of languages. It takes any well-formed code in lower case without its region
(``hi-IN`` is ``hi``); the host knows which ones its model speaks.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal, get_args

from msgspec import Struct

from appliance.api.multipart import Form
from appliance.api.parameters import TRANSCRIPTION, Use
from appliance.api.strictjson import invalid, missing, unknown
from appliance.errors import BadRequest

MAX_PROMPT_CHARS = 2000  # Whisper reads the last 224 tokens; the host's header must hold it escaped

TranscriptionFormat = Literal["json", "text", "srt", "vtt", "verbose_json"]

_LISTS = frozenset({"timestamp_granularities"})
_GRANULARITIES = frozenset({"word", "segment"})
_LANGUAGE = re.compile(r"([a-z]{2,3})(?:[-_][a-z0-9]{2,8})*")
_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+", re.ASCII)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class TranscriptionParams(Struct, frozen=True):
    """A checked transcription request, apart from the audio."""

    model: str
    response_format: TranscriptionFormat
    stream: bool
    language: str | None
    prompt: str | None
    temperature: float | None
    word_timestamps: bool
    segment_timestamps: bool

    def host_params(self) -> dict[str, Any]:
        """What the Whisper host has to know, without the deadline."""
        return {
            "language": self.language,
            "prompt": self.prompt,
            "temperature": self.temperature,
            "word_timestamps": self.word_timestamps,
            "stream": self.stream,
        }

    def host_header(self, deadline_s: float) -> str:
        """The host's ``x-appliance-params`` header: compact JSON, all ASCII because headers are Latin-1."""
        return json.dumps({**self.host_params(), "deadline_s": deadline_s}, separators=(",", ":"))


def parse_transcription(form: Form) -> TranscriptionParams:
    """Check the fields of ``form``. Raises BadRequest naming the field."""
    fields = _known_fields(form.fields)
    model = fields.pop("model", None)
    if model is None:
        raise missing("model", TRANSCRIPTION)
    if len(model[0]) > 256 or not model[0].isprintable():
        raise _must_be("model")
    response_format = _response_format(fields)
    granularities = _granularities(fields, response_format)
    stream = _boolean(fields, "stream")
    if stream and response_format not in ("json", "text"):
        raise invalid("response_format", f"must be json or text with stream, not {response_format}")
    if _one(fields, "chunking_strategy") not in (None, "auto"):
        raise _must_be("chunking_strategy")
    return TranscriptionParams(
        model=model[0],
        response_format=response_format,
        stream=stream,
        language=_language(fields),
        prompt=_prompt(fields),
        temperature=_temperature(fields),
        word_timestamps="word" in granularities,
        segment_timestamps=not granularities or "segment" in granularities,
    )


def _known_fields(given: dict[str, list[str]]) -> dict[str, list[str]]:
    """Fields under their plain names, empty values left out."""
    fields: dict[str, list[str]] = {}
    for full_name, values in given.items():
        # clients write lists as name[] and objects as name[key]
        name, bracket, _ = full_name.partition("[")
        use = TRANSCRIPTION.use(name)
        if use is None or name == "file":
            raise unknown(full_name, "", TRANSCRIPTION)
        kept = [value for value in values if value != ""]
        if not kept:
            continue
        if use is Use.REFUSED:
            reason = TRANSCRIPTION.expects(name)
            raise BadRequest(f"'{name}' is not supported; {reason}", code="unsupported_parameter", param=name)
        if bracket and not (name in _LISTS and full_name == f"{name}[]"):
            raise _must_be(name)
        fields.setdefault(name, []).extend(kept)
    for name, values in fields.items():
        if len(values) > 1 and name not in _LISTS:
            raise invalid(name, "is given more than once; send it once")
    return fields


def _must_be(name: str) -> BadRequest:
    return invalid(name, f"must be {TRANSCRIPTION.expects(name)}")


def _one(fields: dict[str, list[str]], name: str) -> str | None:
    values = fields.get(name)
    return values[0] if values else None


def _response_format(fields: dict[str, list[str]]) -> TranscriptionFormat:
    given = _one(fields, "response_format") or "json"
    for known in get_args(TranscriptionFormat):
        if given == known:
            return known  # type: ignore[no-any-return]
    raise _must_be("response_format")


def _granularities(fields: dict[str, list[str]], response_format: str) -> frozenset[str]:
    given = frozenset(fields.get("timestamp_granularities", ()))
    if given and (response_format != "verbose_json" or not given <= _GRANULARITIES):
        raise _must_be("timestamp_granularities")
    return given


def _boolean(fields: dict[str, list[str]], name: str) -> bool:
    given = _one(fields, name)
    if given is None:
        return False
    if given.lower() not in _BOOLEANS:
        raise _must_be(name)
    return _BOOLEANS[given.lower()]


def _language(fields: dict[str, list[str]]) -> str | None:
    given = _one(fields, "language")
    if given is None:
        return None
    code = _LANGUAGE.fullmatch(given.strip().lower())
    if code is None:
        raise _must_be("language")
    return code[1]


def _prompt(fields: dict[str, list[str]]) -> str | None:
    given = _one(fields, "prompt")
    if given is not None and len(given) > MAX_PROMPT_CHARS:
        raise _must_be("prompt")
    return given


def _temperature(fields: dict[str, list[str]]) -> float | None:
    given = _one(fields, "temperature")
    if given is None:
        return None
    if len(given) > 32 or _DECIMAL.fullmatch(given) is None or float(given) > 1:
        raise _must_be("temperature")
    return float(given)
