"""Transcripts in the forms OpenAI's transcription route has: json, text, srt, vtt, verbose_json, and events.

What it is: pure rendering of the host's result object (seconds, segments, words) into bytes.
What it refuses to be: an editor. Text stays as the model wrote it; only what would break a subtitle file is
changed: blank lines, the arrow, and markup in WebVTT.
What it costs: about 1 µs a segment.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct, structs

from appliance.api.language_names import language_name
from appliance.api.params_audio import TranscriptionParams
from appliance.codemix import NoWords, codemix
from appliance.errors import ApplianceError, EngineFailed
from appliance.languages import resolve, script_of
from appliance.transliterate import transliterate

_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_VTT = "text/vtt; charset=utf-8"

_encoder = msgspec.json.Encoder()


class Segment(Struct, frozen=True):
    """One segment, with OpenAI's fields. Times in seconds; ``channel`` of a split recording."""

    start: float
    end: float
    text: str
    id: int = 0
    seek: int = 0
    tokens: list[int] = []
    temperature: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 0.0
    no_speech_prob: float = 0.0
    channel: int | None = None


class Word(Struct, frozen=True, omit_defaults=True):
    """One word. Times in seconds; ``confidence`` 0 to 1 where the engine tells."""

    word: str
    start: float
    end: float
    confidence: float | None = None


class Warned(Struct, frozen=True):
    """Something about a transcript that its reader should know."""

    code: str
    message: str


class Result(Struct, frozen=True):
    """What a transcription engine gives back, as far as it is rendered.

    ``detected``: the language was found, not given, with ``language_probability``.
    """

    text: str
    duration_s: float
    language: str | None = None
    segments: list[Segment] = []
    words: list[Word] | None = None
    language_probability: float | None = None
    detected: bool = False
    warnings: list[Warned] = []


def render(result: dict[str, Any], params: TranscriptionParams) -> tuple[str, bytes]:
    """Content type and body in the caller's format. Raises EngineFailed for a result that is none."""
    transcript = in_mode(_read(result), params.mode)
    match params.response_format:
        case "text":
            return _TEXT, transcript.text.strip().encode() + b"\n"
        case "srt":
            return _TEXT, _srt(transcript).encode()
        case "vtt":
            return _VTT, _vtt(transcript).encode()
        case "verbose_json":
            return _JSON, _verbose(transcript, params)
        case "diarized_json":
            return _JSON, _diarized(transcript, params)
        case _:
            body = {"text": transcript.text.strip(), "usage": _usage(transcript)}
            return _JSON, _encoder.encode({**body, **_found(transcript), **_warned(transcript)})


def _probability(transcript: Result) -> float | None:
    """As ``detect-language`` says it, to four places."""
    probability = transcript.language_probability
    return None if probability is None else round(probability, 4)


def delta_event(text: str) -> bytes:
    """A server-sent event with a piece of text."""
    return b"data: " + _encoder.encode({"type": "transcript.text.delta", "delta": text}) + b"\n\n"


def done_event(result: dict[str, Any]) -> bytes:
    """The closing server-sent event with the whole text. OpenAI ends this stream without ``[DONE]``.

    It carries no usage: clients expect counts of audio tokens there, which Whisper does not have. ``languages`` are
    OpenAI's: what was detected, [] for none.
    """
    transcript = _read(result)
    event: dict[str, Any] = {"type": "transcript.text.done", "text": transcript.text.strip()}
    if transcript.detected:
        event["languages"] = [{"code": transcript.language}] if transcript.language else []
        event["language_probability"] = _probability(transcript)
    return b"data: " + _encoder.encode(event) + b"\n\n"


def _read(result: dict[str, Any]) -> Result:
    try:
        transcript = msgspec.convert(result, Result)
    except msgspec.ValidationError as e:
        raise EngineFailed(f"the engine's transcript cannot be read: {e}") from None
    return transcript


def _usage(transcript: Result) -> dict[str, Any]:
    return {"type": "duration", "seconds": round(transcript.duration_s, 3)}


def _found(transcript: Result) -> dict[str, Any]:
    """The language with its probability, where nobody had said it."""
    if not transcript.detected:
        return {}
    return {"language": transcript.language, "language_probability": _probability(transcript)}


def _warned(transcript: Result) -> dict[str, Any]:
    return {"warnings": transcript.warnings} if transcript.warnings else {}


def _verbose(transcript: Result, params: TranscriptionParams) -> bytes:
    body: dict[str, Any] = {
        "task": "translate" if params.mode == "translate" else "transcribe",
        "language": language_name(transcript.language),
        "duration": round(transcript.duration_s, 3),
        "text": transcript.text.strip(),
    }
    if params.segment_timestamps:
        body["segments"] = [
            {name: value for name, value in structs.asdict(segment).items() if name != "channel"}
            for segment in transcript.segments
        ]
    if params.word_timestamps:
        body["words"] = transcript.words or []
    if transcript.detected:
        body["language_probability"] = _probability(transcript)
    body |= _warned(transcript)
    body["usage"] = _usage(transcript)
    return _encoder.encode(body)


def in_mode(transcript: Result, mode: str) -> Result:
    """In Latin letters, or English words in them, as was asked; where nothing leads there, as it is, and it says so."""
    if mode not in ("translit", "codemix") or transcript.language in (None, "en") or not transcript.text:
        return transcript
    try:
        tag = resolve(str(transcript.language)).tag
        write: Callable[[str], str] = partial(codemix, tag=tag)
        if mode == "translit":
            write = partial(transliterate, tag=tag, source=script_of(tag), target="Latn", scheme="informal")
        words = transcript.words
        return structs.replace(
            transcript,
            text=write(transcript.text),
            segments=[structs.replace(s, text=write(s.text)) for s in transcript.segments],
            words=None if words is None else [structs.replace(w, word=write(w.word)) for w in words],
        )
    except NoWords as e:
        return structs.replace(transcript, warnings=[*transcript.warnings, Warned("not_codemixed", str(e))])
    except ApplianceError as e:
        return structs.replace(transcript, warnings=[*transcript.warnings, Warned("not_transliterated", e.message)])


def _diarized(transcript: Result, params: TranscriptionParams) -> bytes:
    """OpenAI's ``diarized_json``; a speaker is a channel, by its name or as A and B."""
    names = (*params.speakers, *"AB"[len(params.speakers) :])
    segments = [
        {
            "type": "transcript.text.segment",
            "id": f"seg_{n}",
            "start": segment.start,
            "end": segment.end,
            "speaker": names[segment.channel or 0],
            "text": segment.text.strip(),
        }
        for n, segment in enumerate(transcript.segments)
    ]
    body = {
        "task": "transcribe",
        "duration": round(transcript.duration_s, 3),
        "text": transcript.text.strip(),
        "segments": segments,
        **_found(transcript),
        **_warned(transcript),
        "usage": _usage(transcript),
    }
    return _encoder.encode(body)


def _srt(transcript: Result) -> str:
    cues = (
        f"{i}\n{_clock(s.start, ',')} --> {_clock(max(s.start, s.end), ',')}\n{_lines(s.text)}\n\n"
        for i, s in enumerate(transcript.segments, 1)
    )
    return "".join(cues)


def _vtt(transcript: Result) -> str:
    cues = (
        f"{_clock(s.start, '.')} --> {_clock(max(s.start, s.end), '.')}\n{_escape(_lines(s.text))}\n\n"
        for s in transcript.segments
    )
    return "WEBVTT\n\n" + "".join(cues)


def _lines(text: str) -> str:
    # an empty line ends a cue, an arrow begins one
    return "\n".join(line.strip() for line in text.splitlines() if line.strip()).replace("-->", "->")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float, mark: str) -> str:
    ms = max(0, math.floor(seconds * 1000 + 0.5))
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{mark}{ms % 1000:03}"
