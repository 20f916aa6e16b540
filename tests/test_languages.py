"""Codes in every dialect, and the table they lead to."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import languages
from appliance.languages import INDIC_TAGS, LANGUAGES, SCHEDULED, TAGS, UnknownLanguage, bcp47, parse, resolve, tags_of


def test_the_table_is_the_eighth_schedule() -> None:
    assert len(SCHEDULED) == 22
    assert len(INDIC_TAGS) == len(set(INDIC_TAGS)) == 25
    assert TAGS[-1] == languages.ENGLISH


def test_tags_are_those_of_indictrans2() -> None:
    assert sorted(INDIC_TAGS) == [
        "asm_Beng", "ben_Beng", "brx_Deva", "doi_Deva", "gom_Deva", "guj_Gujr", "hin_Deva", "kan_Knda", "kas_Arab",
        "kas_Deva", "mai_Deva", "mal_Mlym", "mar_Deva", "mni_Beng", "mni_Mtei", "npi_Deva", "ory_Orya", "pan_Guru",
        "san_Deva", "sat_Olck", "snd_Arab", "snd_Deva", "tam_Taml", "tel_Telu", "urd_Arab",
    ]  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.bcp47)
def test_native_names_are_written_in_the_default_script(language: languages.Language) -> None:
    name = languages.script(languages.script_of(language.tags[0])).name.upper()
    unicode_name = {"PERSO-ARABIC": "ARABIC", "ODIA": "ORIYA"}.get(name, name)
    letters = [c for c in language.native if unicodedata.category(c) == "Lo" or c.isascii()]
    assert letters
    assert all(unicodedata.name(c).startswith(unicode_name) for c in letters)


@pytest.mark.parametrize("tag", TAGS)
def test_every_spelling_of_a_tag_leads_back_to_it(tag: str) -> None:
    language, script = languages.language_of(tag), tag[4:]
    for spelling in (tag, tag.lower(), tag.replace("_", "-"), bcp47(tag), f"{language.bcp47}-{script}-IN"):
        assert parse(spelling) == tag
    assert parse(languages.display_name(tag)) == tag


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.bcp47)
def test_names_and_codes_lead_to_the_default_tag(language: languages.Language) -> None:
    for spelling in (language.name, language.native, *language.codes, *language.names, f"{language.bcp47}-IN"):
        assert parse(spelling) == language.tags[0]
        assert parse(f"  {spelling.upper()} ") == language.tags[0]


@pytest.mark.parametrize(
    ("code", "tag"),
    [
        ("od-IN", "ory_Orya"),  # Sarvam
        ("panjabi", "pan_Guru"),  # Whisper
        ("knn", "gom_Deva"),
        ("ks", "kas_Arab"),
        ("ks-Deva-IN", "kas_Deva"),
        ("Kashmiri (Devanagari)", "kas_Deva"),
        ("sindhi devanagari", "snd_Deva"),
        ("mni_Mtei", "mni_Mtei"),
        ("Meitei (Manipuri)", "mni_Beng"),
        ("Odia/Oriya", "ory_Orya"),
        ("ଓଡ଼ିଆ", "ory_Orya"),  # nukta apart, as NFC leaves it
        ("bn-BD", "ben_Beng"),
        ("hi-419", "hin_Deva"),
        ("hi-u-nu-deva", "hin_Deva"),
        ("hi-IN-x-private", "hin_Deva"),
        ("en-GB-oxendict", "eng_Latn"),
        ("Hindi (India)", "hin_Deva"),
        ("English (United States)", "eng_Latn"),
        ("हिन्\u200dदी", "hin_Deva"),  # a joiner says nothing
    ],
)
def test_dialects_of_codes(code: str, tag: str) -> None:
    assert parse(code) == tag


@pytest.mark.parametrize("code", ["hi-Latn", "hin_Latn", "hi-Latn-IN", "Hindi (romanised)", "Hinglish"])
def test_latin_letters_are_known_and_are_no_target(code: str) -> None:
    assert resolve(code) == languages.Code("hin_Deva", True)
    with pytest.raises(UnknownLanguage, match=r"asks for Hindi in Latin letters.*give 'hi'"):
        parse(code)


@pytest.mark.parametrize(
    "code", ["", " ", "zh", "auto", "hindustani", "hi-XX1", "hi hi hi en", "i-klingon", "x" * 5000, "\ud800", "हि" * 40]
)
def test_what_is_not_in_the_table_is_an_error_with_the_list(code: str) -> None:
    with pytest.raises(UnknownLanguage) as caught:
        parse(code, "target")
    assert caught.value.status == 400
    assert caught.value.param == "target"
    assert "known: as (Assamese)" in caught.value.message
    assert "ks-Deva (Kashmiri (Devanagari))" in caught.value.message
    assert len(caught.value.message) < 1000


def test_the_nearest_entry_is_named() -> None:
    with pytest.raises(UnknownLanguage, match=r"did you mean 'mr' \(Marathi\)"):
        parse("maratti")


def test_a_script_the_language_is_not_handled_in_says_which_is() -> None:
    with pytest.raises(UnknownLanguage, match="Punjabi is handled in Gurmukhi here; give 'pa'"):
        parse("pa-Arab")
    with pytest.raises(UnknownLanguage, match="Sindhi is handled in Perso-Arabic or Devanagari here"):
        parse("sd-Beng")


def test_control_characters_do_not_reach_the_message() -> None:
    with pytest.raises(UnknownLanguage) as caught:
        parse("hi\x00\x1b[31m")
    assert caught.value.message.isprintable()


def test_tags_of_a_language_begin_with_the_asked_one() -> None:
    assert tags_of("ks") == ("kas_Arab", "kas_Deva")
    assert tags_of("ks-Deva") == ("kas_Deva", "kas_Arab")
    assert tags_of("ta") == ("tam_Taml",)


def test_bcp47_names_the_script_only_where_it_is_not_the_default() -> None:
    assert [bcp47(tag) for tag in ("hin_Deva", "kas_Arab", "kas_Deva", "mni_Mtei", "gom_Deva")] == [
        "hi", "ks", "ks-Deva", "mni-Mtei", "kok",
    ]  # fmt: skip
    assert bcp47("hin_Deva", "Latn") == "hi-Latn"


def test_what_else_a_tag_tells() -> None:
    assert languages.direction("urd_Arab") == "rtl"
    assert languages.direction("snd_Deva") == "ltr"
    assert languages.iso639_3("npi_Deva") == "npi"
    assert languages.display_name("snd_Deva") == "Sindhi (Devanagari)"
    assert [tag for tag in INDIC_TAGS if languages.whisper_code(tag) is None] == [
        "brx_Deva", "doi_Deva", "kas_Arab", "kas_Deva", "gom_Deva", "mai_Deva", "mni_Beng", "mni_Mtei", "ory_Orya",
        "sat_Olck",
    ]  # fmt: skip
    for ask in (languages.language_of, languages.script_of, languages.iso639_3, languages.script):
        with pytest.raises(KeyError):
            ask("xyz_Abcd")


@given(st.text(max_size=80))
def test_any_text_gives_a_tag_or_the_error(text: str) -> None:
    try:
        assert resolve(text).tag in TAGS
    except UnknownLanguage as e:
        e.envelope()
