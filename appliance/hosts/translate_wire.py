"""What crosses the translation host's socket: one JSON body in, a result (or its lines) out.

What it is: the contract with ``engines/translate``, as msgspec structs. Languages are FLORES tags.
What it refuses to be: the public shapes, or a place that knows other spellings of languages; the gateway does those.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from appliance.errors import BadRequest

Mode = Literal["text", "html", "markdown"]
Digits = Literal["ascii", "native", "source"]
Issue = Literal["truncated", "untranslated", "entities_lost"]


class Item(Struct, frozen=True, forbid_unknown_fields=True):
    """One text and the tag it is in; None where there is nothing to translate in it."""

    text: str
    source: str | None


class Ask(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to translate. ``terms``: words of the source and what each becomes, None to leave it as it is.

    ``bulk`` gives way to what is not. With ``stream`` the text comes in deltas and not in the result.
    """

    items: list[Item]
    target: str
    mode: Mode = "text"
    digits: Digits = "ascii"
    alternatives: Annotated[int, Meta(ge=0, le=4)] = 0
    terms: dict[str, str | None] = {}
    stream: bool = False
    bulk: bool = False
    deadline_s: Annotated[float, Meta(gt=0)] = 600.0


class Translation(Struct, frozen=True, omit_defaults=True):
    """One text's translation. ``via``: the steps it took, models and rules by name; empty where it passed untouched.

    ``confidence`` is the mean probability of the model's tokens, None where no model was asked. ``issues``: what is
    not as it should be. ``lost``: entities of the source that are not in ``text``.
    """

    text: str
    source: str | None
    confidence: float | None
    via: list[str]
    alternatives: list[str] = []
    issues: list[Issue] = []
    lost: list[str] = []


class Usage(Struct, frozen=True):
    """What was computed: characters asked for, sentences and tokens over all steps."""

    characters: int = 0
    sentences: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Result(Struct, frozen=True):
    """Translations in the order of the items."""

    translations: list[Translation]
    usage: Usage


class Delta(Struct, frozen=True, tag_field="type", tag="delta"):
    """More of item ``index``: all its deltas joined are its text. ``progress`` is the share of everything done."""

    index: int
    text: str
    progress: float


class Done(Struct, frozen=True, tag_field="type", tag="done"):
    """The last line of a good answer."""

    result: Result


class Failure(Struct, frozen=True, tag_field="type", tag="error"):
    """The last line of an answer that broke off."""

    status: int
    code: str
    message: str


Line = Delta | Done | Failure

_ask = msgspec.json.Decoder(Ask)


def parse(body: bytes) -> Ask:
    """The ask in ``body``. Raises BadRequest that says what is wrong."""
    try:
        return _ask.decode(body)
    except (msgspec.DecodeError, UnicodeError) as e:
        raise BadRequest(f"the body is not usable: {e}; send one JSON object") from None
