"""Which model hears a language, and whether a transcript is in its script."""

from __future__ import annotations

import pytest

from appliance.languages import SCHEDULED, whisper_code
from appliance.policy.speech import CONFORMER, Speaker, detectable, not_heard, ranked, speaker, wrong_script
from appliance_models import catalogue

WHISPER, CONF = catalogue.load("whisper-base"), catalogue.load(CONFORMER)


def whisper(ready: bool = True, name: str = "w") -> Speaker:
    return speaker(name, "whisper", WHISPER.languages, WHISPER.preferred_for, ready)


def conformer(ready: bool = True) -> Speaker:
    return speaker("c", "conformer", CONF.languages, CONF.preferred_for, ready)


def names(code: str, speakers: list[Speaker], **prefer: str) -> list[str]:
    return [s.model for s in ranked(code, speakers, prefer)]


@pytest.mark.parametrize("code", [language.bcp47 for language in SCHEDULED])
def test_every_scheduled_language_goes_to_indicconformer_first_and_to_whisper_only_where_it_has_a_token(
    code: str,
) -> None:
    has_token = whisper_code(next(x for x in SCHEDULED if x.bcp47 == code).tags[0]) is not None
    assert names(code, [whisper(), conformer()]) == (["c", "w"] if has_token else ["c"])
    assert names(code, [whisper()]) == (["w"] if has_token else [])


def test_english_and_languages_outside_the_table_are_whispers() -> None:
    assert names("en", [conformer(), whisper()]) == ["w"]
    assert names("fr", [conformer(), whisper()]) == ["w"]


def test_the_operator_is_obeyed_and_what_is_ready_goes_first() -> None:
    assert names("hi", [conformer(), whisper()], hi="w") == ["w", "c"]
    assert names("hi", [conformer(ready=False), whisper()]) == ["w", "c"]
    assert names("or", [conformer(ready=False), whisper()]) == ["c"]
    assert names("or", [conformer(), whisper()], **{"or": "w"}) == ["c"]  # what has no token is not asked to guess


def test_a_model_of_unknown_languages_is_asked_after_those_that_are_known() -> None:
    elsewhere = speaker("e", "openai", (), (), True)
    assert names("ta", [elsewhere, whisper()]) == ["w", "e"]
    assert names("sat", [elsewhere, whisper()]) == ["e"]


def test_kinds_speak_for_themselves_where_the_catalogue_is_silent() -> None:
    assert len(speaker("c", "conformer", (), (), True).languages) == 22
    assert "or" not in speaker("w", "whisper", (), (), True).languages
    assert not speaker("c", "conformer", (), (), True).detects


def test_the_refusal_names_the_command() -> None:
    error = not_heard("or", [whisper()])
    assert error.status == 400
    assert f"hears Odia; fetch one with `appliance models pull {CONFORMER}`" in error.message
    assert "pull" not in not_heard("en", [conformer()]).message
    assert not_heard("or", [whisper()], ["c"]).message == "w does not hear Odia; name c as 'model', or an alias"


def test_only_what_a_detector_knows_can_be_told_from_others() -> None:
    assert detectable("hi", [whisper()])
    assert not detectable("mai", [whisper()])


@pytest.mark.parametrize(
    ("text", "code", "wrong"),
    [
        ("मेरा ऑर्डर कहाँ है", "hi", False),
        ("mera order kahan hai", "hi", True),
        ("میرا آرڈر کہاں ہے", "hi", True),
        ("میرا آرڈر کہاں ہے", "ur", False),
        ("mo nama ramesh", "or", True),
        ("ମୋ ନାମ ରମେଶ", "or", False),
        ("मेरा SBI account block हो गया है कृपया देखें", "hi", False),
        ("where is my order", "en", False),
        ("ok", "hi", False),
        ("12 34", "hi", False),
        ("", "hi", False),
        ("कॉशुर ज़बान", "ks", False),
        ("کٲشُر زَبان", "ks", False),
        ("ᱥᱟᱱᱛᱟᱲᱤ ᱯᱟᱹᱨᱥᱤ", "sat", False),
        ("ꯃꯤꯇꯩꯂꯣꯟ", "mni", False),
        ("bonjour tout le monde", "fr", False),
        ("bonjour", None, False),
    ],
)
def test_scripts(text: str, code: str | None, wrong: bool) -> None:
    assert wrong_script(text, code) is wrong
