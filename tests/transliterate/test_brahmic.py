"""Devanagari and the eight scripts that repeat its layout."""

from __future__ import annotations

import lzma
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.transliterate.brahmic import BLOCKS, from_hub, lossless, to_hub

DATA = Path(__file__).resolve().parent.parent / "data" / "language_id"
SCRIPTS = sorted(set(BLOCKS) - {"Deva"})
CONSONANTS = "कखगघङचछजझञटठडढणतथदधनपफबभमयरलवशषसह"
SIGNS = ["", "ा", "ि", "ी", "ु", "ू", "ृ", "े", "ै", "ो", "ौ", "्"]
MARKS = ["", "ं", "ः"]
syllables = st.one_of(
    st.builds(str.__add__, st.sampled_from(CONSONANTS), st.sampled_from([s + m for s in SIGNS[:-1] for m in MARKS])),
    st.builds(str.__add__, st.sampled_from(CONSONANTS), st.just("्")),
    st.sampled_from(["अ", "आ", "इ", "ई", "उ", "ऊ", "ए", "ऐ", "ओ", "औ", " ", "।", "१", "PDF ", "ड़", "ढ़"]),
)
texts = st.lists(syllables, max_size=20).map("".join)


def devanagari() -> list[str]:
    """Hand-written questions, and the whole parallel data where a run names them."""
    lines = (DATA / "native.tsv").read_text("utf-8").splitlines()
    found = [line.split("\t")[1] for line in lines if "_Deva\t" in line]
    if path := os.environ.get("APPLIANCE_PARALLEL"):
        with lzma.open(path, "rt", encoding="utf-8") as file:
            found += [row[2].rstrip("\n") for row in (line.split("\t") for line in file) if row[0].endswith("_Deva")]
    return found


@pytest.mark.parametrize("script", SCRIPTS)
@settings(max_examples=60)
@given(text=texts)
def test_what_a_script_can_represent_comes_back(script: str, text: str) -> None:
    if lossless(text, script, "asm_Beng"):
        assert to_hub(from_hub(text, script, "asm_Beng"), script) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("script", SCRIPTS)
def test_real_text_comes_back(script: str) -> None:
    came_back = 0
    for text in devanagari():
        if lossless(text, script, "asm_Beng"):
            assert to_hub(from_hub(text, script, "asm_Beng"), script) == unicodedata.normalize("NFC", text)
            came_back += 1
    assert came_back >= (1 if script == "Taml" else 20)


@pytest.mark.parametrize("script", SCRIPTS)
@settings(max_examples=40)
@given(text=texts)
def test_no_devanagari_letter_is_left_over(script: str, text: str) -> None:
    left = [c for c in from_hub(text, script) if "ऀ" <= c <= "ॿ" and c not in "।॥०१२३४५६७८९"]
    assert left == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_devanagari_character_has_a_nearest_one(script: str) -> None:
    for code in (*range(0x0900, 0x0964), *range(0x0966, 0x0980)):
        spelled = from_hub(chr(code), script)
        assert not any("ऀ" <= c <= "ॿ" for c in spelled), f"U+{code:04X}"


@pytest.mark.parametrize(
    ("script", "tag", "hub", "there"),
    [
        ("Beng", "ben_Beng", "विद्या समय यात्रा सूर्य", "বিদ্যা সময় যাত্রা সূর্য"),
        ("Beng", "asm_Beng", "विवरण", "ৱিৱৰণ"),
        ("Beng", "ben_Beng", "हठात् सत्य", "হঠাৎ সত্য"),
        ("Guru", "pan_Guru", "पक्का अक्ख पढ़ना शहर गंगा हिंदी मैं काळ", "ਪੱਕਾ ਅੱਖ ਪੜ੍ਹਨਾ ਸ਼ਹਰ ਗੰਗਾ ਹਿੰਦੀ ਮੈਂ ਕਾਲ਼"),
        ("Gujr", "guj_Gujr", "मारूं नाम ऑफिस", "મારૂં નામ ઑફિસ"),
        ("Orya", "ory_Orya", "यात्रा समय विद्या बड़ा", "ଯାତ୍ରା ସମୟ ୱିଦ୍ୟା ବଡ଼ା"),
        ("Taml", "tam_Taml", "नान जानकी गंगा हिंदी", "நான ஜானகீ கங்கா ஹிந்தீ"),
        ("Telu", "tel_Telu", "नमस्कारं", "నమస్కారం"),
        ("Knda", "kan_Knda", "बॆंगळूरु", "ಬೆಂಗಳೂರು"),
        ("Mlym", "mal_Mlym", "अवन् पाल् अवळ् कर्णाटक", "അവൻ പാൽ അവൾ കർണാടക"),
    ],
)
def test_spelling(script: str, tag: str, hub: str, there: str) -> None:
    there = unicodedata.normalize("NFC", there)
    assert from_hub(hub, script, tag) == there
    assert lossless(hub, script, tag) <= (to_hub(there, script) == hub)


@pytest.mark.parametrize(
    ("script", "there", "hub"),
    [
        ("Orya", "ସ୍ୱାଗତ", "स्वागत"),  # indictranstoolkit leaves ୱ as it is
        ("Orya", "ସମୟ ସମଯ଼ ବିଷଯ", "समय समय बिषय"),
        ("Mlym", "അവൻ കർണാടക അവൾ", "अवन् कर्णाटक अवळ्"),
        ("Guru", "ਪੱਕਾ ਅੱਖ ਸਿੰਘ ਮਾਂ", "पक्का अक्ख सिंघ मां"),
        ("Beng", "হঠাৎ ৰাতি ৱা", "हठात् राति वा"),
        ("Taml", "நான் தமிழன்", "नान् तमिऴन्"),
        ("Telu", "తెలుగు", "तॆलुगु"),
    ],
)
def test_spelling_to_devanagari(script: str, there: str, hub: str) -> None:
    assert to_hub(there, script) == hub


def test_what_a_script_lacks_becomes_its_nearest_and_is_said_to_be_lost() -> None:
    assert from_hub("भाषा ऋषि", "Taml") == "பாஷா ருஷி"
    assert not lossless("भाषा", "Taml")
    assert not lossless("वन", "Beng", "ben_Beng")
    assert lossless("वन", "Beng", "asm_Beng")


def test_other_text_joiners_and_digits_stay() -> None:
    text = "Order #१२ is क्\u200dष — 50%"
    assert from_hub(text, "Gujr").startswith("Order #")
    assert "\u200d" in from_hub(text, "Gujr")
    assert from_hub("hello", "Taml") == "hello"
