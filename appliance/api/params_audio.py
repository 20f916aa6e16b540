"""``/v1/audio/transcriptions``: the form fields, checked.

What it is: ``parse_transcription`` turns a read form into ``TranscriptionParams`` or raises BadRequest. An
empty field counts as absent, because forms have no null. Names are taken with and without ``[]``.
What it refuses to be: a judge of languages. A code or name that the appliance knows becomes its BCP-47 code
(``od-IN`` is ``or``), any other well-formed one its first part in lower case; the host knows which its model speaks.
"""

from __future__ import annotations

import json
import re
from types import MappingProxyType
from typing import Any, Literal, get_args

from msgspec import Struct, structs

from appliance.api.multipart import Form
from appliance.api.parameters import TRANSCRIPTION, Use
from appliance.api.strictjson import invalid, missing, unknown
from appliance.errors import BadRequest
from appliance.languages import ENGLISH, UnknownLanguage, language_of, resolve

MAX_PROMPT_CHARS = 2000  # Whisper reads the last 224 tokens; the host's header must hold it escaped

TranscriptionFormat = Literal["json", "text", "srt", "vtt", "verbose_json", "diarized_json"]
Mode = Literal["transcribe", "verbatim", "translit", "codemix", "translate"]

# what callers call raw samples, and what FFmpeg does
_CODECS = MappingProxyType(
    {
        "pcm_s16le": "s16le",
        "pcm_raw": "s16le",
        "pcm_s16be": "s16be",
        "pcm_l16": "s16be",
        "mulaw": "mulaw",
        "alaw": "alaw",
    }
)
_MOST_SPEAKERS = 2

MOST_LANGUAGES = 8
MOST_KEYWORDS = 64
MOST_KEYWORD_CHARS = 64
# what callers write where they want the language found
_TO_BE_FOUND = frozenset({"auto", "unknown", "und"})
_LISTS = frozenset({"timestamp_granularities", "languages", "keywords", "known_speaker_names"})
# containers and codecs that say what they are: a caller that names one of them is right and changes nothing
_IN_FILES = frozenset({"wav", "mp3", "aac", "m4a", "mp4", "ogg", "opus", "flac", "amr", "webm", "wma", "aiff", "x-m4a"})
_GRANULARITIES = frozenset({"word", "segment"})
_LANGUAGE = re.compile(r"([a-z]{2,3})(?:[-_][a-z0-9]{2,8})*")
_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+", re.ASCII)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class Raw(Struct, frozen=True):
    """Bare samples: FFmpeg's name of the encoding, samples a second, channels."""

    codec: str
    rate: int
    channels: int


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
    languages: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    mode: Mode = "transcribe"
    raw: Raw | None = None
    speakers: tuple[str, ...] = ()
    target: str = ENGLISH

    def host_params(self) -> dict[str, Any]:
        """What a speech host has to know, without the deadline."""
        given: dict[str, Any] = {
            "language": self.language,
            "prompt": self.prompt,
            "temperature": self.temperature,
            "word_timestamps": self.word_timestamps,
            "stream": self.stream,
        }
        if self.languages:
            given["languages"] = self.languages
        if self.keywords:
            given["hotwords"] = self.keywords
        if self.mode == "verbatim":
            given["verbatim"] = True
        if self.response_format == "diarized_json":
            given["split"] = True
        if self.raw is not None:
            given["raw"] = structs.asdict(self.raw)
        return given

    def host_header(self, deadline_s: float, **changes: Any) -> str:
        """The host's ``x-appliance-params`` header: compact JSON, all ASCII because headers are Latin-1.

        ``changes`` stand for what the route decided, such as the language that was detected.
        """
        return json.dumps({**self.host_params(), **changes, "deadline_s": deadline_s}, separators=(",", ":"))


def parse_transcription(form: Form, mode: Mode | None = None) -> TranscriptionParams:
    """Check the fields of ``form``; where ``mode`` is given, no other. Raises BadRequest naming the field."""
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
    if mode is not None and _one(fields, "mode") not in (None, mode):
        raise invalid("mode", f"must be {mode} here, or left out")
    mode = mode or _mode(fields)
    if stream and mode in ("translit", "codemix"):
        raise invalid("mode", f"must be another than {mode} with stream")
    if mode == "translate" and (stream or "word" in granularities):
        name = "stream" if stream else "timestamp_granularities"
        raise invalid(name, "has no meaning for a translation: it comes whole, with the times of its segments")
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
        languages=_hints(fields),
        keywords=_keywords(fields),
        mode=mode,
        raw=_raw(fields, response_format),
        speakers=_speakers(fields, response_format),
        target=_target(fields, mode),
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
    if given is None or given.strip().lower() in _TO_BE_FOUND:
        return None
    return _code(given, "language")


def _code(given: str, name: str) -> str:
    """The BCP-47 code of one of the appliance's languages, else the first part of a well-formed code."""
    try:
        return language_of(resolve(given).tag).bcp47
    except UnknownLanguage:
        code = _LANGUAGE.fullmatch(given.strip().lower())
    if code is None:
        raise _must_be(name)
    return code[1]


def _hints(fields: dict[str, list[str]]) -> tuple[str, ...]:
    """``languages``: repeated, or one list with commas."""
    given = [code for value in fields.get("languages", ()) for code in value.split(",") if code.strip()]
    if len(given) > MOST_LANGUAGES:
        raise _must_be("languages")
    found = [_code(code.strip(), "languages") for code in given if code.strip().lower() not in _TO_BE_FOUND]
    return tuple(dict.fromkeys(found))


def _mode(fields: dict[str, list[str]]) -> Mode:
    given = _one(fields, "mode") or "transcribe"
    for known in get_args(Mode):
        if given == known:
            return known  # type: ignore[no-any-return]
    raise _must_be("mode")


def _target(fields: dict[str, list[str]], mode: Mode) -> str:
    """The tag that a translation is to be in."""
    given = _one(fields, "target")
    if given is None:
        return ENGLISH
    if mode != "translate":
        raise invalid("target", "is for mode translate; send that with it")
    found = resolve(given, "target")
    if found.romanised:
        raise invalid("target", "must be a language in its own script")
    return found.tag


def _raw(fields: dict[str, list[str]], response_format: str) -> Raw | None:
    """What a file without a header holds. A codec that files name themselves (``wav``) is taken and changes nothing."""
    codec = _one(fields, "input_audio_codec")
    rate, channels = _integer(fields, "sample_rate", 4000, 192_000), _integer(fields, "channels", 1, 2)
    if codec is None or codec.lower() not in _CODECS:
        if codec is not None and codec.lower() not in _IN_FILES:
            raise _must_be("input_audio_codec")
        if rate is not None or channels is not None:
            name = "sample_rate" if rate is not None else "channels"
            raise invalid(name, "is for raw samples; send input_audio_codec with it")
        return None
    if rate is None:
        raise invalid("sample_rate", f"is missing; raw {codec} does not say it itself, send 8000 or 16000")
    return Raw(_CODECS[codec.lower()], rate, channels or (2 if response_format == "diarized_json" else 1))


def _integer(fields: dict[str, list[str]], name: str, least: int, most: int) -> int | None:
    given = _one(fields, name)
    if given is None:
        return None
    if len(given) > 9 or not (given.isascii() and given.isdigit()) or not least <= int(given) <= most:
        raise _must_be(name)
    return int(given)


def _speakers(fields: dict[str, list[str]], response_format: str) -> tuple[str, ...]:
    given = tuple(fields.get("known_speaker_names", ()))
    if given and response_format != "diarized_json":
        raise invalid("known_speaker_names", "is for response_format diarized_json")
    if len(given) > _MOST_SPEAKERS or any(len(name) > 64 or not name.isprintable() for name in given):
        raise _must_be("known_speaker_names")
    return given


def _keywords(fields: dict[str, list[str]]) -> tuple[str, ...]:
    given = tuple(" ".join(word.split()) for word in fields.get("keywords", ()) if word.strip())
    if len(given) > MOST_KEYWORDS or any(len(w) > MOST_KEYWORD_CHARS or not w.isprintable() for w in given):
        raise _must_be("keywords")
    return given


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
