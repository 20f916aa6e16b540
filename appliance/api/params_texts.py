"""``/v1/detect-language``, ``/v1/transliterate`` and ``/v1/translate``: the bodies, checked.

What it is: what all take (a string, or a list of them) and what they may be told. What it refuses to be: a place that
knows languages; codes pass as the caller wrote them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from appliance.api.parameters import Parameters, Rule, Use
from appliance.api.strictjson import decode, invalid, missing

MOST_TEXTS = 256
MOST_CHARACTERS = 100_000
MOST_TRANSLATED = 4_000_000

Scheme = Literal["iso15919", "informal"]
Digits = Literal["keep", "native", "ascii"]
Mode = Literal["text", "html", "markdown"]
WrittenDigits = Literal["ascii", "native", "source"]
_Code = Annotated[str, Meta(min_length=1, max_length=64)]
_Input = str | Annotated[list[str], Meta(min_length=1, max_length=MOST_TEXTS)]

_TEXTS = Rule(Use.MAPPED, f"a string or an array of 1 to {MOST_TEXTS} strings")
_LANGUAGE = "a language code or name such as hi, hin_Deva, ks-Deva or Tamil"

DETECT = Parameters({"input": _TEXTS}, {}, {})
TRANSLITERATE = Parameters(
    {
        "input": _TEXTS,
        "source": Rule(Use.MAPPED, f"{_LANGUAGE}, with -Latn for Latin letters; absent means detected"),
        "target": Rule(Use.MAPPED, f"{_LANGUAGE}, with -Latn for Latin letters, or a script such as Beng or Latn"),
        "scheme": Rule(Use.MAPPED, "iso15919 or informal: how Latin letters are written"),
        "digits": Rule(Use.MAPPED, "keep, native (the target script's) or ascii"),
    },
    {},
    {},
)

TRANSLATE = Parameters(
    {
        "input": _TEXTS,
        "source": Rule(Use.MAPPED, f"{_LANGUAGE}, with -Latn for Latin letters; absent means detected"),
        "target": Rule(Use.MAPPED, _LANGUAGE),
        "model": Rule(Use.MAPPED, "the name of a translation model from /v1/models, at most 256 characters"),
        "mode": Rule(Use.MAPPED, "text, html or markdown: what passes untouched"),
        "digits": Rule(Use.MAPPED, "ascii, native (the target script's) or source (as they came)"),
        "glossary": Rule(Use.MAPPED, "the name of one of the tenant's glossaries, 1 to 64 characters"),
        "alternatives": Rule(Use.MAPPED, "an integer from 0 to 4: other translations beside the best"),
        "stream": Rule(Use.MAPPED, "true or false: for documents, sentences as they are done"),
        "priority": Rule(Use.MAPPED, "interactive or bulk: bulk gives way for up to two seconds a sentence"),
    },
    {},
    {},
)


class DetectFields(Struct, forbid_unknown_fields=True, frozen=True):
    """What ``/v1/detect-language`` takes."""

    input: _Input | UnsetType = UNSET


class TransliterateFields(Struct, forbid_unknown_fields=True, frozen=True):
    """What ``/v1/transliterate`` takes."""

    input: _Input | UnsetType = UNSET
    source: _Code | None = None
    target: _Code | UnsetType = UNSET
    scheme: Scheme | None = None
    digits: Digits | None = None


class TranslateFields(Struct, forbid_unknown_fields=True, frozen=True):
    """What ``/v1/translate`` takes."""

    input: _Input | UnsetType = UNSET
    source: _Code | None = None
    target: _Code | UnsetType = UNSET
    model: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    mode: Mode | None = None
    digits: WrittenDigits | None = None
    glossary: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    alternatives: Annotated[int, Meta(ge=0, le=4)] | None = None
    stream: bool | None = None
    priority: Literal["interactive", "bulk"] | None = None


class DetectParams(Struct, frozen=True):
    """``texts`` in the caller's order."""

    texts: tuple[str, ...]


class TransliterateParams(Struct, frozen=True):
    """``source`` and ``target`` are codes as the caller wrote them."""

    texts: tuple[str, ...]
    source: str | None
    target: str
    scheme: Scheme | None
    digits: Digits


class TranslateParams(Struct, frozen=True):
    """``source`` and ``target`` are codes as the caller wrote them."""

    texts: tuple[str, ...]
    source: str | None
    target: str
    model: str
    mode: Mode
    digits: WrittenDigits
    glossary: str | None
    alternatives: int
    stream: bool
    bulk: bool


_detect = msgspec.json.Decoder(DetectFields)
_transliterate = msgspec.json.Decoder(TransliterateFields)
_translate = msgspec.json.Decoder(TranslateFields)


def parse_detect(body: bytes) -> DetectParams:
    """Check ``body``. Raises BadRequest."""
    return DetectParams(_texts(decode(body, _detect, DETECT).input, DETECT))


def parse_transliterate(body: bytes) -> TransliterateParams:
    """Check ``body``. Raises BadRequest."""
    fields = decode(body, _transliterate, TRANSLITERATE)
    texts = _texts(fields.input, TRANSLITERATE)
    if isinstance(fields.target, UnsetType):
        raise missing("target", TRANSLITERATE)
    return TransliterateParams(texts, fields.source, fields.target, fields.scheme, fields.digits or "keep")


def parse_translate(body: bytes) -> TranslateParams:
    """Check ``body``. Raises BadRequest."""
    fields = decode(body, _translate, TRANSLATE)
    texts = _texts(fields.input, TRANSLATE, MOST_TRANSLATED)
    if isinstance(fields.target, UnsetType):
        raise missing("target", TRANSLATE)
    return TranslateParams(
        texts,
        fields.source,
        fields.target,
        fields.model or "translate",
        fields.mode or "text",
        fields.digits or "ascii",
        fields.glossary,
        fields.alternatives or 0,
        bool(fields.stream),
        fields.priority == "bulk",
    )


def _texts(given: _Input | UnsetType, parameters: Parameters, most: int = MOST_CHARACTERS) -> tuple[str, ...]:
    if isinstance(given, UnsetType):
        raise missing("input", parameters)
    texts = (given,) if isinstance(given, str) else tuple(given)
    size = sum(map(len, texts))
    if size > most:
        raise invalid("input", f"has {size} characters, more than {most}; send fewer a request")
    return texts
