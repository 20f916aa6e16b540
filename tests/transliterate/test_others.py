"""Ol Chiki, Meetei Mayek, Perso-Arabic, and the way from script to script."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.languages import INDIC_TAGS
from appliance.transliterate import LEARNED, NotByRules, NotInstalled, transliterate
from appliance.transliterate.meetei import bengali_to_mayek, mayek_to_bengali

SCRIPTS = ["Deva", "Beng", "Guru", "Gujr", "Orya", "Taml", "Telu", "Knda", "Mlym", "Olck", "Mtei", "Latn"]


@pytest.mark.parametrize(
    ("bengali", "mayek"),
    [
        ("ঐগী", "ꯑꯩꯒꯤ"),
        ("ফাইল পুম্নমক", "ꯐꯥꯏꯜ ꯄꯨꯝꯅꯃꯛ"),
        ("হান্না মীৎ", "ꯍꯥꯟꯅꯥ ꯃꯤꯠ"),
        ("প্রেস", "ꯄ꯭ꯔꯦꯁ"),
        ("ফংগনি।", "ꯐꯪꯒꯅꯤ꯫"),
    ],
)
def test_meetei_mayek(bengali: str, mayek: str) -> None:
    assert bengali_to_mayek(bengali) == mayek


@given(st.lists(st.sampled_from("ꯀꯁꯂꯃꯄꯅꯆꯇꯈꯊꯋꯌꯍꯐꯒꯔꯕꯖꯗꯘꯙꯚ"), min_size=1, max_size=8), st.sampled_from("ꯥꯤꯨꯦꯣꯩꯧ"))
def test_open_syllables_of_meetei_mayek_come_back(letters: list[str], sign: str) -> None:
    word = "".join(letter + sign for letter in letters)
    assert bengali_to_mayek(mayek_to_bengali(word)) == word


def test_santali() -> None:
    assert transliterate("ᱡᱟᱱᱣᱟᱨᱤ ᱥᱟᱱᱛᱟᱲᱤ", "sat_Olck", "Olck", "Deva") == "जान्वारि सान्ताड़ि"
    assert transliterate("पोटोम एटाक्", "sat_Olck", "Deva", "Olck") == "ᱯᱳᱴᱳᱢ ᱮᱴᱟᱠ"


def test_sindhi_and_kashmiri_as_far_as_rules_go() -> None:
    assert transliterate("مون کي رسيد ۾", "snd_Arab", "Arab", "Deva") == "मोन खी रसीद में"
    assert transliterate("मुंहिंजो खातो ऐं ॿार", "snd_Deva", "Deva", "Arab") == "منهنجو کاتو ۽ ٻار"
    assert transliterate("کام چھُ؟", "kas_Arab", "Arab", "Deva") == "काम छु?"
    assert transliterate("छु काम", "kas_Deva", "Deva", "Arab") == "چھُ کام"


@pytest.mark.parametrize("source", [s for s in SCRIPTS if s != "Latn"])
@pytest.mark.parametrize("target", SCRIPTS)
def test_there_is_a_way_between_all_scripts_but_perso_arabic(source: str, target: str) -> None:
    native = transliterate("नमस्ते भारत", "hin_Deva", "Deva", source)
    assert transliterate(native, "hin_Deva", source, target).strip()
    if source == target:
        assert transliterate(native, "hin_Deva", source, target) == native


def test_urdu_has_no_rules() -> None:
    with pytest.raises(NotByRules, match="Sindhi and Kashmiri only"):
        transliterate("مدد", "urd_Arab", "Arab", "Deva")


def test_informal_latin_letters_need_what_is_not_installed() -> None:
    with pytest.raises(NotInstalled) as caught:
        transliterate("mera order kab aayega", "hin_Deva", "Latn", "Deva", "informal")
    assert caught.value.status == 501
    assert f"[engines.translate] with the model {LEARNED}" in caught.value.message


def test_iso_goes_anywhere() -> None:
    assert transliterate("bhārata", "hin_Deva", "Latn", "Gujr") == "ભારત"
    assert transliterate("bhārata", "hin_Deva", "Latn", "Beng") == "ভারত"


def test_digits_as_asked() -> None:
    assert transliterate("काम १२3", "hin_Deva", "Deva", "Gujr") == "કામ ૧૨3"
    assert transliterate("काम १२3", "hin_Deva", "Deva", "Gujr", digits="ascii") == "કામ 123"
    assert transliterate("काम १२3", "hin_Deva", "Deva", "Gujr", digits="native") == "કામ ૧૨૩"
    assert transliterate("१२", "san_Deva", "Deva", "Latn", digits="native") == "12"


@pytest.mark.parametrize("tag", [tag for tag in INDIC_TAGS if tag != "urd_Arab"])
@settings(max_examples=20)
@given(text=st.text(max_size=60))
def test_any_text_goes_through(tag: str, text: str) -> None:
    for scheme in ("iso15919", "informal"):
        transliterate(text, tag, tag[4:], "Latn", scheme)
    assert isinstance(transliterate(text, tag, tag[4:], "Deva", digits="native"), str)
