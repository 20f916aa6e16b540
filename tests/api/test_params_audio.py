"""Transcription fields: each accepted and refused once, as forms write them."""

from __future__ import annotations

import msgspec
import pytest

from appliance.api.multipart import Form
from appliance.api.parameters import TRANSCRIPTION
from appliance.api.params_audio import TranscriptionParams, parse_transcription
from appliance.errors import BadRequest


def parse(**fields: str | list[str]) -> TranscriptionParams:
    """Parse a form with model m and ``fields``; ``__`` at the end of a name stands for ``[]``."""
    form = {"model": ["m"]}
    for name, value in fields.items():
        form[name.replace("__", "[]")] = value if isinstance(value, list) else [value]
    return parse_transcription(Form(form, b"audio"))


def refused(**fields: str | list[str]) -> BadRequest:
    """The error for ``fields``."""
    with pytest.raises(BadRequest) as e:
        parse(**fields)
    return e.value


def test_defaults() -> None:
    params = parse()
    assert params == TranscriptionParams("m", "json", False, None, None, None, False, True)
    assert params.host_params() == {
        "language": None,
        "prompt": None,
        "temperature": None,
        "word_timestamps": False,
        "stream": False,
    }


@pytest.mark.parametrize("value", ["json", "text", "srt", "vtt", "verbose_json"])
def test_formats(value: str) -> None:
    assert parse(response_format=value).response_format == value


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("hi", "hi"),
        ("HI", "hi"),
        ("hi-IN", "hi"),
        ("zh_hant_tw", "zh"),
        ("yue", "yue"),
        ("", None),
        ("od-IN", "or"),
        ("english", "en"),
        ("kas_Deva", "ks"),
        ("nep", "ne"),
        ("auto", None),
        ("Unknown", None),
    ],
)
def test_languages(given: str, code: str | None) -> None:
    assert parse(language=given).language == code


@pytest.mark.parametrize(("given", "value"), [("0", 0.0), ("1", 1.0), ("0.2", 0.2), (".5", 0.5), ("", None)])
def test_temperatures(given: str, value: float | None) -> None:
    assert parse(temperature=given).temperature == value


@pytest.mark.parametrize(
    ("given", "value"), [("true", True), ("True", True), ("1", True), ("false", False), ("", False)]
)
def test_stream(given: str, value: bool) -> None:
    assert parse(stream=given).stream is value


def test_granularities_under_both_names() -> None:
    words = parse(response_format="verbose_json", timestamp_granularities__="word")
    assert (words.word_timestamps, words.segment_timestamps) == (True, False)
    both = parse(response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert (both.word_timestamps, both.segment_timestamps) == (True, True)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"known_speaker_names__": ["a", "b", "c"], "response_format": "diarized_json"}, "known_speaker_names"),
        ({"mode": "codemixed"}, "mode"),
        ({"mode": "codemix", "stream": "true"}, "mode"),
        ({"mode": "loud"}, "mode"),
        ({"mode": "translit", "stream": "true"}, "mode"),
        ({"input_audio_codec": "pcm_s16le"}, "sample_rate"),
        ({"input_audio_codec": "pcm_s16le", "sample_rate": "1"}, "sample_rate"),
        ({"input_audio_codec": "pcm_s16le", "sample_rate": "8000", "channels": "3"}, "channels"),
        ({"input_audio_codec": "g729"}, "input_audio_codec"),
        ({"sample_rate": "8000"}, "sample_rate"),
        ({"response_format": "diarized_json", "stream": "true"}, "response_format"),
        ({"response_format": "xml"}, "response_format"),
        ({"language": "klingon"}, "language"),
        ({"languages__": ["hi", "klingon"]}, "languages"),
        ({"languages__": ["hi"] * 9}, "languages"),
        ({"keywords__": ["x" * 65]}, "keywords"),
        ({"keywords__": ["x"] * 65}, "keywords"),
        ({"language": "h\u00efndi"}, "language"),
        ({"temperature": "1.1"}, "temperature"),
        ({"temperature": "-0.1"}, "temperature"),
        ({"temperature": "nan"}, "temperature"),
        ({"temperature": "1e-1"}, "temperature"),
        ({"temperature": "٠"}, "temperature"),
        ({"stream": "maybe"}, "stream"),
        ({"stream": "true", "response_format": "srt"}, "response_format"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"timestamp_granularities__": "word"}, "timestamp_granularities"),
        ({"response_format": "verbose_json", "timestamp_granularities__": "letter"}, "timestamp_granularities"),
        ({"chunking_strategy": '{"type":"server_vad"}'}, "chunking_strategy"),
        ({"chunking_strategy[type]": "server_vad"}, "chunking_strategy"),
        ({"include__": "logprobs"}, "include"),
        ({"known_speaker_names__": "a"}, "known_speaker_names"),
        ({"known_speaker_references__": "a"}, "known_speaker_references"),
        ({"language": ["hi", "en"]}, "language"),
        ({"model": ["m", "n"]}, "model"),
        ({"model": ""}, "model"),
        ({"model": "a\nb"}, "model"),
        ({"langauge": "hi"}, "langauge"),
        ({"hotwords": "x"}, "hotwords"),
    ],
)
def test_refused(fields: dict[str, str | list[str]], param: str) -> None:
    assert refused(**fields).param == param


def test_the_nearest_known_field_is_named() -> None:
    assert "'language'" in refused(langauge="hi").message


def test_every_parameter_of_the_table_was_seen() -> None:
    assert parse(chunking_strategy="auto", prompt="p", language="hi").prompt == "p"
    for name in TRANSCRIPTION.accepted():
        if name != "file":
            assert refused(**{name: ["?" * 3000, "?"]}).param == name


def test_the_host_header_is_ascii_whatever_the_prompt() -> None:
    header = parse(prompt="नमस्ते\r\nx-evil: 1", language="hi", temperature="0.2").host_header(30.0)
    assert header.isascii()
    assert header.isprintable()
    assert msgspec.json.decode(header) == {
        "language": "hi",
        "prompt": "नमस्ते\r\nx-evil: 1",
        "temperature": 0.2,
        "word_timestamps": False,
        "stream": False,
        "deadline_s": 30.0,
    }
    # a server that bounds headers at 64 kB takes the longest one
    assert len(parse(prompt="\N{GRINNING FACE}" * 2000).host_header(30.0)) < 32_000


def test_hints_and_keywords_reach_the_host() -> None:
    params = parse(languages__=["hi-IN", "ta", "hi"], keywords__=["UPI", " Aadhaar  card "])
    assert (params.languages, params.keywords) == (("hi", "ta"), ("UPI", "Aadhaar card"))
    assert parse(languages="hi, ta,auto").languages == ("hi", "ta")
    header = msgspec.json.decode(params.host_header(5.0, language="hi"))
    assert (header["languages"], header["hotwords"]) == (["hi", "ta"], ["UPI", "Aadhaar card"])
    assert (header["language"], header["deadline_s"]) == ("hi", 5.0)


def test_bare_samples_are_described_to_the_host() -> None:
    params = parse(input_audio_codec="mulaw", sample_rate="8000")
    assert msgspec.json.decode(params.host_header(5.0))["raw"] == {"codec": "mulaw", "rate": 8000, "channels": 1}
    stereo = parse(input_audio_codec="pcm_l16", sample_rate="16000", response_format="diarized_json")
    header = msgspec.json.decode(stereo.host_header(5.0))
    assert (header["raw"]["codec"], header["raw"]["channels"], header["split"]) == ("s16be", 2, True)
    assert parse(input_audio_codec="wav").raw is None


def test_modes() -> None:
    assert parse().mode == "transcribe"
    assert msgspec.json.decode(parse(mode="verbatim").host_header(5.0))["verbatim"] is True
    assert "verbatim" not in parse(mode="translit").host_header(5.0)
    assert parse(mode="codemix").mode == "codemix"
    assert parse(mode="translate").target == "eng_Latn"
    assert parse(mode="translate", target="ta").target == "tam_Taml"
    assert refused(target="ta").param == "target"
    assert refused(mode="translate", stream="true").param == "stream"
