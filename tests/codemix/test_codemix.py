"""English words in Latin letters inside other scripts, and what stays as it is."""

from __future__ import annotations

import pytest

from appliance.codemix import NoWords, codemix
from appliance.languages import LANGUAGES


@pytest.mark.parametrize(
    ("tag", "heard", "written"),
    [
        ("hin_Deva", "मेरा पासवर्ड और फ़ाइल कहाँ है?", "मेरा password और file कहाँ है?"),
        ("hin_Deva", "मेरा पासवर्ड और फाइल कहाँ है?", "मेरा password और file कहाँ है?"),
        ("hin_Deva", "मेरा नाम राम है, भारत में रहता हूँ", "मेरा नाम राम है, भारत में रहता हूँ"),
        ("hin_Deva", "फ़ाइलों में", "फ़ाइलों में"),
        ("ben_Beng", "ফাইল আর মেনু", "file আর menu"),
        ("tam_Taml", "இண்டர்நெட் இல்லை", "internet இல்லை"),
        ("tel_Telu", "ఫైల్, 25 MB", "file, 25 MB"),
        ("mal_Mlym", "ഫയല്\u200d തുറക്കുക", "file തുറക്കുക"),
        ("hin_Deva", "", ""),
    ],
)
def test_known_words_are_written_as_in_english(tag: str, heard: str, written: str) -> None:
    assert codemix(heard, tag) == written


def test_a_language_without_a_list_says_so() -> None:
    with pytest.raises(NoWords, match="urd_Arab"):
        codemix("میرا پاس ورڈ", "urd_Arab")


def test_names_of_countries_and_cousins_stay() -> None:
    for word in ("जापान", "नाम", "दशमलव", "इतर"):
        for language in LANGUAGES:
            if "Deva" in language.tags[0]:
                assert codemix(word, language.tags[0]) == word
