"""One spelling for each of the 22 languages: what looks and sounds alike is equal, what does not is not."""

from __future__ import annotations

import pytest

from appliance_bench import wer
from appliance_bench.wer_scripts import one_spelling

# code, one spelling, another of the same words
ALIKE = [
    ("as", "১২ জন", "12 জন"),
    ("bn", "হঠাৎ", "হঠাত্\u200d"),
    ("bn", "ব\u09dc", "বড\u09bc"),
    ("brx", "\u0958लम", "क\u093cलम"),
    ("doi", "ॲप", "अ\u0945प"),
    ("gu", "૨૪", "24"),
    ("hi", "\u095bरूर", "ज\u093cरूर"),
    ("hi", "क\u094d\u200dया", "क्या"),
    ("hi", "१२", "12"),
    ("kn", "ಕ\u0ccb", "ಕ\u0cc6\u0cc2\u0cd5"),
    ("kok", "ऱ्हे", "र्हे"),
    ("ks", "کٲشُر", "كٲشُر"),
    ("mai", "अछि\u200b", "अछि"),
    ("ml", "അവൻ", "അവന\u0d4d\u200d"),
    ("ml", "പൗരൻ", "പൌരന\u0d4d\u200d"),
    ("mni", "꯱꯲", "12"),
    ("mr", "वऱ्हाड", "वर्हाड"),
    ("ne", "राम\u200cको", "रामको"),
    ("or", "ୟ", "ଯ\u0b3c"),
    ("or", "ସ୍ୱର", "ସ୍ଵର"),
    ("pa", "\u0a36ੇਰ", "ਸ\u0a3cੇਰ"),
    ("sa", "१०८", "108"),
    ("sat", "᱑᱒", "12"),
    ("sd", "آهي", "آهی"),
    ("ta", "க\u0bca", "க\u0bc6\u0bbe"),
    ("te", "౨౪", "24"),
    ("ur", "کہاں ہے", "كهاں هے"),
    ("ur", "مُحَمَّد", "محمد"),
]
# minimal pairs that stay apart
APART = [
    ("hi", "दिन", "दीन"),
    ("hi", "सजा", "सज़ा"),
    ("hi", "हंस", "हँस"),
    ("as", "ৰাম", "রাম"),
    ("ta", "மனம்", "மணம்"),
    ("ml", "പന", "പണ"),
    ("ur", "پر", "پڑ"),
    ("sd", "ڏس", "دس"),
]


@pytest.mark.parametrize(("code", "one", "other"), ALIKE)
def test_the_same_words_are_equal_however_they_were_typed(code: str, one: str, other: str) -> None:
    assert one != other
    assert wer.normalise(one) == wer.normalise(other)
    assert wer.errors(one, other).total == 0


def test_all_22_languages_were_looked_at() -> None:
    assert len({code for code, _, _ in ALIKE}) == 22


@pytest.mark.parametrize(("code", "one", "other"), APART)
def test_other_words_stay_other_words(code: str, one: str, other: str) -> None:
    assert wer.errors(one, other).total == 1


@pytest.mark.parametrize("text", [text for _, one, other in ALIKE for text in (one, other)])
def test_a_second_time_changes_nothing_and_no_word_falls_apart(text: str) -> None:
    once = one_spelling(text)
    assert one_spelling(once) == once
    assert len(wer.normalise(text)) >= len(text.split())
    assert any(c.isdecimal() for c in text) or len(wer.normalise(text)) == len(text.split())
