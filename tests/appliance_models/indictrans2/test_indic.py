from __future__ import annotations

import pytest

from appliance_models.indictrans2 import indic, tags


@pytest.mark.parametrize(
    ("tag", "text", "normal"),
    [
        ("hin_Deva", "क़लम", "क\u093cलम"),
        ("hin_Deva", "नाम:", "नामः"),
        ("hin_Deva", "क्\u200dष", "क्ष"),
        ("hin_Deva", "वह|", "वह।"),
        ("mar_Deva", "ॲप", "एप"),
        ("ben_Beng", "বড়", "বড\u09bc"),
        ("ben_Beng", "ক\u09c7\u09be", "কো"),
        ("mal_Mlym", "അവന്\u200d", "അവൻ"),
        ("pan_Guru", "ਸ਼ਹਿਰ", "ਸ\u0a3cਹਿਰ"),
        ("ory_Orya", "ଵ", "ବ"),
        ("tam_Taml", "\u0b92\u0bd7", "ஔ"),
        ("urd_Arab", "ﺁپ كا", "آپ کا"),
        ("urd_Arab", "500روپے", "500 روپے"),
    ],
)
def test_one_spelling(tag: str, text: str, normal: str) -> None:
    assert indic.normalise(text, tags.find(tag)) == normal


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("hin_Deva", "क्या आप (कल) आएँगे? हाँ!"),
        ("hin_Deva", 'उसने कहा, "मैं आऊँगा"।'),
        ("ben_Beng", "সময় 10:30, তারিখ 12/05/2024।"),
        ("urd_Arab", "کیا آپ آئیں گے؟ جی ہاں، ضرور۔"),
        ("tam_Taml", "அவர்-இவர், யார்?"),
    ],
)
def test_tokens_join_to_the_same_text(tag: str, text: str) -> None:
    found = tags.find(tag)
    assert indic.detokenise(indic.tokenise(text, found), found) == text


def test_numbers_and_dates_stay_whole() -> None:
    tokens = indic.tokenise("तारीख 12/05/2024, समय 10:30", tags.find("hin_Deva"))
    assert tokens == ["तारीख", "12/05/2024", ",", "समय", "10:30"]
