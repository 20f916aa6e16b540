"""What answers look like, as far as the appliance can promise it, for the OpenAPI document.

What it is: Structs that the document is made of; a test holds real answers against it.
What it refuses to be: on a request's way. What engines answer passes through as they wrote it.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType


class ErrorBody(Struct, frozen=True):
    """What went wrong. ``code`` is a stable word for programs, ``message`` one sentence for people."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(Struct, frozen=True):
    """OpenAI's envelope."""

    error: ErrorBody


class TokenUsage(Struct, frozen=True):
    """Tokens as the engine counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(Struct, frozen=True):
    """A whole answer; with ``stream`` its chunks come as events."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: TokenUsage | UnsetType | None = UNSET


class Completion(Struct, frozen=True):
    """A whole text; with ``stream`` its chunks come as events."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: TokenUsage | UnsetType | None = UNSET


class Warned(Struct, frozen=True):
    """Something about a transcript that its reader should know."""

    code: str
    message: str


class Transcription(Struct, frozen=True):
    """``response_format`` json; verbose_json has more fields.

    ``language`` and ``language_probability`` where the language was detected; ``warnings`` where the transcript came in
    another script than its language's.
    """

    text: str
    language: str | None = None
    language_probability: float | None = None
    warnings: list[Warned] = []


class TranscriptionJob(Struct, frozen=True):
    """``status`` is queued, running, completed, failed or cancelled. Times in Unix seconds."""

    id: str
    object: str
    status: str
    created_at: int
    started_at: int | None
    ended_at: int | None
    progress_percent: int
    bytes: int
    request_id: str | None
    status_url: str
    result_url: str
    webhook: str | None
    deleted: bool = False


class LanguageGuess(Struct, frozen=True):
    """A language that may be spoken, and how sure the detector is, 0 to 1."""

    language: str
    confidence: float


class SpokenLanguage(Struct, frozen=True):
    """``language`` is null where nobody speaks; ``tag`` is null for a language that is none of the appliance's 23."""

    language: str | None
    tag: str | None
    confidence: float
    languages: list[LanguageGuess]


class CharacterUsage(Struct, frozen=True):
    """Characters of all texts together."""

    characters: int


class LanguageShare(Struct, frozen=True):
    """A language of a text and its share of the words."""

    language: str
    tag: str
    share: float


class DetectedText(Struct, frozen=True):
    """``language`` in BCP 47, ``tag`` as FLORES writes it; null where it cannot be told."""

    index: int
    language: str | None
    tag: str | None
    script: str | None
    confidence: float
    romanised: bool
    languages: list[LanguageShare]


class DetectedTexts(Struct, frozen=True):
    """In the order of the texts."""

    object: Literal["list"]
    data: list[DetectedText]
    usage: CharacterUsage


class WrittenText(Struct, frozen=True):
    """``source`` and ``target`` in BCP 47."""

    index: int
    text: str
    source: str
    target: str


class WrittenTexts(Struct, frozen=True):
    """In the order of the texts."""

    object: Literal["list"]
    data: list[WrittenText]
    usage: CharacterUsage


class TextUsage(Struct, frozen=True):
    """Characters asked for; sentences and the model's tokens over all steps."""

    characters: int
    sentences: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TranslatedText(Struct, frozen=True):
    """``source`` in BCP 47. ``via``: models and rules by name; ``confidence``: mean probability of the tokens."""

    text: str
    source: str | None
    confidence: float | None
    via: list[str]
    alternatives: list[str] | UnsetType = UNSET
    issues: list[Literal["truncated", "untranslated", "entities_lost", "terms_lost"]] | UnsetType = UNSET
    lost: list[str] | UnsetType = UNSET


class Translations(Struct, frozen=True):
    """In the order of the texts."""

    translations: list[TranslatedText]
    usage: TextUsage


class ModelCard(Struct, frozen=True):
    """A name that can be asked for."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int | UnsetType = UNSET


class ModelList(Struct, frozen=True):
    """All of them."""

    object: Literal["list"]
    data: list[ModelCard]


class Live(Struct, frozen=True):
    """The process answers."""

    status: Literal["ok"]


class EngineReadiness(Struct, frozen=True):
    """One engine. ``detail`` is for operators only."""

    ready: bool
    phase: str
    models: list[str]
    detail: str | UnsetType = UNSET


class Readiness(Struct, frozen=True):
    """Every engine."""

    status: Literal["ready", "not_ready"]
    engines: dict[str, EngineReadiness]
