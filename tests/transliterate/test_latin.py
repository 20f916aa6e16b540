"""ISO 15919 both ways, informal one way."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.transliterate.latin import from_iso, to_informal, to_iso

LETTERS = [*"कखगघङचछजझञटठडढणतथदधनपफबभमयरलवशषसहळ", "क़", "ख़", "ग़", "ज़", "फ़", "ड़", "ढ़"]
SIGNS = ["", "ा", "ि", "ी", "ु", "ू", "ृ", "ॆ", "े", "ै", "ॊ", "ो", "ौ", "ॉ", "्"]
VOWELS = "अआइईउऊऋऎएऐऒओऔऑ"
parts = st.one_of(
    st.builds(str.__add__, st.sampled_from(LETTERS), st.sampled_from(SIGNS)),
    st.sampled_from([*VOWELS, " ", "-", "।", "१", "12"]),
)


@given(st.lists(parts, max_size=16).map("".join))
def test_iso_comes_back(text: str) -> None:
    text = unicodedata.normalize("NFC", text)
    assert from_iso(to_iso(text)) == text


@pytest.mark.parametrize(
    ("hub", "iso"),
    [
        ("हिन्दी संस्कृतम्", "hindī saṁskr̥tam"),
        ("दुःख माँ", "duḥkha mām̐"),
        ("कई अइ क्ह ख", "kaī a:i k:ha kha"),
        ("ज़मीन ख़बर बड़ा", "zamīna k͟habara baṛā"),
        ("तॆलुगु", "telugu"),
        ("मेरा नाम।", "mērā nāma।"),
    ],
)
def test_iso(hub: str, iso: str) -> None:
    assert to_iso(hub) == unicodedata.normalize("NFC", iso)
    assert from_iso(iso) == hub


def test_from_iso_takes_capitals_and_decomposed_letters() -> None:
    assert from_iso("Hindī") == "हिन्दी"
    assert from_iso(unicodedata.normalize("NFD", "bhārata")) == "भारत"


def test_a_colon_that_is_punctuation_stays() -> None:
    assert from_iso(to_iso("नाम: राम")) == "नाम: राम"
    assert from_iso("10:30") == "10:30"


@pytest.mark.parametrize(
    ("hub", "tag", "typed"),
    [
        ("मेरा घर कहाँ है", "hin_Deva", "mera ghar kahan hai"),
        ("करना समझना मित्र ज्ञान", "hin_Deva", "karna samajhna mitra gyan"),
        ("नमस्कार", "mar_Deva", "namaskar"),
        ("मम पुस्तकं", "san_Deva", "mama pustakan"),
        ("राम गतः।", "san_Deva", "rama gatah."),
        ("ऩाऩ्", "tam_Taml", "nan"),
    ],
)
def test_informal(hub: str, tag: str, typed: str) -> None:
    assert to_informal(hub, tag) == typed


@given(st.lists(parts, max_size=16).map("".join))
def test_informal_is_plain(text: str) -> None:
    assert all(c.isascii() or c in "१" for c in to_informal(text, "hin_Deva"))
