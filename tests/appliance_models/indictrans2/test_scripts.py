from __future__ import annotations

import unicodedata

import pytest

from appliance_models.indictrans2 import scripts, tags

WORDS = {
    "asm_Beng": "আপোনাৰ নাম কি",
    "ben_Beng": "আমার সোনার বাংলা",
    "guj_Gujr": "ગુજરાતી ભાષા",
    "kan_Knda": "ಕನ್ನಡ ಭಾಷೆ",
    "mal_Mlym": "മലയാളം ഓർഡർ",
    "ory_Orya": "ଓଡିଆ ଭାଷା ସ୍ୱାଧୀନ",
    "pan_Guru": "ਪੰਜਾਬੀ ਭਾਸਾ",
    "tam_Taml": "தமிழ் மொழி கொடு",
    "tel_Telu": "తెలుగు భాష",
}


@pytest.mark.parametrize(("tag", "text"), WORDS.items())
def test_a_script_comes_back_from_devanagari(tag: str, text: str) -> None:
    unified = scripts.to_devanagari(text, tags.find(tag))
    assert any("\u0900" <= c <= "\u097f" for c in unified)
    assert scripts.from_devanagari(unified, tags.find(tag)) == text


@pytest.mark.parametrize("tag", ["hin_Deva", "urd_Arab", "sat_Olck", "mni_Mtei", "eng_Latn", "kas_Arab", "snd_Deva"])
def test_scripts_that_are_not_unified_pass_unchanged(tag: str) -> None:
    text = "नाम ناو ᱧᱩᱛᱩᱢ ꯃꯃꯤꯡ name"
    assert scripts.to_devanagari(text, tags.find(tag)) == text
    assert scripts.from_devanagari(text, tags.find(tag)) == text


@pytest.mark.parametrize("tag", [name for name, tag in tags.TAGS.items() if tag.base not in (None, 0x900)])
def test_no_code_point_that_does_not_exist_is_ever_written(tag: str) -> None:
    # IndicNLP's offset arithmetic gives U+0C0D for Devanagari's candra e in Telugu, an unassigned code point.
    block = "".join(map(chr, range(0x900, 0x970)))
    written = scripts.from_devanagari(block, tags.find(tag))
    assert [hex(ord(c)) for c in written if unicodedata.category(c) == "Cn"] == []


def test_odia_ya_is_written_with_its_own_letter() -> None:
    # Toolkit bug: the replacement ran before the script was Odia, and so never found anything.
    assert scripts.from_devanagari("समय़", tags.find("ory_Orya")) == "ସମୟ"


def test_odia_wa_is_converted_both_ways() -> None:
    # Toolkit bug: U+0B71 lies beyond the common range and stayed Odia inside a Devanagari word.
    odia = tags.find("ory_Orya")
    assert scripts.to_devanagari("ସ୍ୱାଗତ", odia) == "स्वागत"
    assert scripts.from_devanagari("स्वागत", odia) == "ସ୍ୱାଗତ"


def test_dandas_are_shared_by_all_scripts() -> None:
    assert scripts.from_devanagari("। ॥", tags.find("ben_Beng")) == "। ॥"


def test_tamil_writes_one_letter_for_the_stops_of_a_row() -> None:
    assert scripts.from_devanagari("खगघ जझ फबभ श", tags.find("tam_Taml")) == "கககக"[:3] + " ஜச பபப ஷ"


def test_an_unknown_tag_names_the_known_ones() -> None:
    with pytest.raises(tags.UnknownTag, match="'kok_Deva': use one of asm_Beng, ben_Beng"):
        tags.find("kok_Deva")


def test_there_are_25_indic_tags_and_english() -> None:
    assert len(tags.TAGS) == 26
    assert len(set(tags.TAGS) - {tags.ENGLISH}) == 25
