"""Transcripts in every format, read back by the official client's types where it has them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openai.types.audio import (
    Transcription,
    TranscriptionDiarized,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionVerbose,
)

from appliance.api.params_audio import TranscriptionFormat, TranscriptionParams
from appliance.api.subtitles import delta_event, done_event, render
from appliance.errors import EngineFailed

RESULT: dict[str, Any] = {
    "language": "hi",
    "language_probability": 0.98,
    "duration_s": 4.5678,
    "text": " नमस्ते. How are you?",
    "segments": [
        {
            "id": 0,
            "seek": 0,
            "start": 0.0,
            "end": 1.5,
            "text": " नमस्ते.",
            "tokens": [1, 2],
            "temperature": 0.0,
            "avg_logprob": -0.25,
            "compression_ratio": 1.1,
            "no_speech_prob": 0.01,
        },
        {
            "id": 1,
            "seek": 0,
            "start": 1.5,
            "end": 3725.0009,
            "text": " How <b>are</b>\n\n you --> & me?",
            "tokens": [3],
            "temperature": 0.0,
            "avg_logprob": -0.5,
            "compression_ratio": 1.1,
            "no_speech_prob": 0.01,
        },
    ],
    "words": [{"word": " How", "start": 1.5, "end": 1.75}],
}


def rendered(
    response_format: TranscriptionFormat,
    result: dict[str, Any] | None = None,
    words: bool = False,
    segments: bool = True,
) -> tuple[str, str]:
    """Content type and text of RESULT in a format."""
    params = TranscriptionParams("m", response_format, False, None, None, None, words, segments)
    content_type, body = render(RESULT if result is None else result, params)
    return content_type, body.decode()


def test_json() -> None:
    content_type, body = rendered("json")
    assert content_type == "application/json"
    assert json.loads(body) == {"text": "नमस्ते. How are you?", "usage": {"type": "duration", "seconds": 4.568}}
    Transcription.model_validate_json(body, strict=True)


def test_text_is_not_quoted() -> None:
    assert rendered("text") == ("text/plain; charset=utf-8", "नमस्ते. How are you?\n")


def test_srt() -> None:
    assert rendered("srt") == (
        "text/plain; charset=utf-8",
        "1\n00:00:00,000 --> 00:00:01,500\nनमस्ते.\n\n2\n00:00:01,500 --> 01:02:05,001\nHow <b>are</b>\nyou -> & me?\n\n",
    )


def test_vtt() -> None:
    assert rendered("vtt") == (
        "text/vtt; charset=utf-8",
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nनमस्ते.\n\n"
        "00:00:01.500 --> 01:02:05.001\nHow &lt;b&gt;are&lt;/b&gt;\nyou -&gt; &amp; me?\n\n",
    )


def test_silence() -> None:
    silence: dict[str, Any] = {"language": None, "duration_s": 2.0, "text": "", "segments": [], "words": None}
    assert rendered("srt", silence)[1] == ""
    assert rendered("vtt", silence)[1] == "WEBVTT\n\n"
    assert rendered("text", silence)[1] == "\n"
    assert json.loads(rendered("verbose_json", silence, words=True)[1])["words"] == []


def test_verbose_json_as_the_client_types_it() -> None:
    content_type, body = rendered("verbose_json", words=True)
    assert content_type == "application/json"
    verbose = TranscriptionVerbose.model_validate_json(body, strict=True)
    assert verbose.language == "hindi"
    assert verbose.duration == 4.568
    assert verbose.segments is not None
    assert verbose.segments[0].model_dump() == RESULT["segments"][0]
    assert verbose.words is not None
    assert verbose.words[0].word == " How"
    assert json.loads(body)["task"] == "transcribe"


def test_verbose_json_carries_what_was_asked_for() -> None:
    assert "words" not in json.loads(rendered("verbose_json")[1])
    only_words = json.loads(rendered("verbose_json", words=True, segments=False)[1])
    assert "segments" not in only_words
    assert only_words["words"]


def test_times_that_a_player_would_choke_on() -> None:
    odd = {
        **RESULT,
        "segments": [{"start": -0.4, "end": -1.0, "text": "x"}, {"start": 59.9996, "end": 59.0, "text": "y"}],
    }
    text = rendered("srt", odd)[1]
    assert "00:00:00,000 --> 00:00:00,000" in text
    assert "00:01:00,000 --> 00:01:00,000" in text


@pytest.mark.parametrize("result", [{}, {"text": 5, "duration_s": 1}, {"text": "x", "duration_s": 1, "segments": [{}]}])
def test_a_result_that_is_none(result: dict[str, Any]) -> None:
    with pytest.raises(EngineFailed):
        rendered("json", result)


def test_events_as_the_client_types_them() -> None:
    delta, done = delta_event(" नम\n"), done_event(RESULT)
    for event in (delta, done):
        assert event.startswith(b"data: {")
        assert event.endswith(b"}\n\n")
        assert event.count(b"\n") == 2
    assert TranscriptionTextDeltaEvent.model_validate_json(delta[6:], strict=True).delta == " नम\n"
    assert TranscriptionTextDoneEvent.model_validate_json(done[6:], strict=True).text == "नमस्ते. How are you?"


def test_what_was_detected_is_in_the_last_event() -> None:
    found = {**RESULT, "detected": True, "language": "hi", "language_probability": 0.93333}
    done = done_event(found)
    assert json.loads(done[6:])["language_probability"] == 0.9333
    (language,) = TranscriptionTextDoneEvent.model_validate_json(done[6:], strict=True).languages or ()
    assert language.code == "hi"
    assert json.loads(done_event({**found, "language": None})[6:])["languages"] == []
    assert "languages" not in json.loads(done_event(RESULT)[6:])


HINDI = {
    "text": " नमस्ते",
    "duration_s": 2.0,
    "language": "hi",
    "segments": [{"start": 0.0, "end": 1.0, "text": " नमस्ते", "channel": 1}],
    "words": [{"word": "नमस्ते", "start": 0.0, "end": 1.0, "confidence": 0.9}],
}


def in_form(result: dict[str, Any], **fields: Any) -> dict[str, Any]:
    params = TranscriptionParams(
        "m", fields.pop("response_format", "verbose_json"), False, None, None, None, True, True
    )
    found: dict[str, Any] = msgspec.json.decode(render(result, msgspec.structs.replace(params, **fields))[1])
    return found


def test_translit_is_the_same_in_latin_letters() -> None:
    shown = in_form(HINDI, mode="translit")
    assert (shown["text"], shown["segments"][0]["text"].strip(), shown["words"][0]["word"]) == ("namaste",) * 3
    assert shown["words"][0]["confidence"] == 0.9


def test_codemix_writes_english_words_in_latin_letters_everywhere() -> None:
    words = [{"word": "फ़ाइल", "start": 0.0, "end": 1.0}]
    segments = [{"start": 0.0, "end": 1.0, "text": " मेरी फ़ाइल"}]
    shown = in_form({**HINDI, "text": " मेरी फ़ाइल", "segments": segments, "words": words}, mode="codemix")
    texts = (shown["text"].strip(), shown["segments"][0]["text"].strip(), shown["words"][0]["word"])
    assert texts == ("मेरी file", "मेरी file", "file")
    urdu = in_form({**HINDI, "text": "میری فائل", "language": "ur"}, mode="codemix")
    assert (urdu["text"], [w["code"] for w in urdu["warnings"]]) == ("میری فائل", ["not_codemixed"])


def test_where_no_rules_lead_to_latin_letters_the_transcript_says_so() -> None:
    shown = in_form({**HINDI, "text": "میرا آرڈر", "language": "ur"}, mode="translit")
    assert shown["text"] == "میرا آرڈر"
    assert [w["code"] for w in shown["warnings"]] == ["not_transliterated"]


def test_diarized_json_as_the_client_types_it() -> None:
    shown = in_form(HINDI, response_format="diarized_json")
    typed = TranscriptionDiarized.model_validate(shown)
    assert (typed.segments[0].speaker, typed.segments[0].text) == ("B", "नमस्ते")
    named = in_form(HINDI, response_format="diarized_json", speakers=("agent", "caller"))
    assert named["segments"][0]["speaker"] == "caller"


def test_a_detected_language_and_a_warning_are_told() -> None:
    told = {
        "detected": True,
        "language_probability": 0.7241724729537964,
        "warnings": [{"code": "wrong_script", "message": "m"}],
    }
    for form in ("json", "verbose_json", "diarized_json"):
        shown = in_form({**HINDI, **told}, response_format=form)
        assert shown["language_probability"] == 0.7242
        assert shown["warnings"] == told["warnings"]
    assert "language" not in in_form(HINDI, response_format="json")
