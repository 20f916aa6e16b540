"""Where sentences end, for every script, whole and in pieces."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.translation.sentences import Stream, split

# Each case is its sentences, space included; what is split is their join.
CASES = {
    "english": ["Dr. Sharma paid Rs. 500.50 to Acme Pvt. Ltd. on 5.6.2024. ", "See www.example.com. ", "Thanks!"],
    "numbers": ["No. 5 is here. ", "No. ", "I did not. ", "See fig. 3. ", "We met at 5 p.m. ", "Then we left."],
    "quotes": ['He said "Go." ', '"Really?" she asked. ', "(It was late.) ", "Fine."],
    "dots": ["hello... world. ", "Wait... ", "What… ", "No"],
    "no space": ["దారి మూసివేయబడినది.", "ఈ సంభాషణ కి.మీ.లలో ఉంది. ", "సరే"],
    "short": ["Max. 8 items, No. of sheets: 5. ", "Fine."],
    "nothing said": ["… sets the point. ", "?! What? ", "॥ १ ॥ ", "राम॥"],
    "rows": ["2,... are integers. ", "१, २,... पूर्णांक हैं। ", "ଦବାନ୍ତୁ\u0b64", "ବାହାର"],
    "lists": ["1. First item\n", "2. Second item. ", "More\n\n", "iv. Fourth\r\n", "- a. nested"],
    "typed": ["mera order nahi aaya. ", "kab aayega? ", "2 hrs. se wait kar raha hoon"],
    "address": ["Open https://x.in/?a=1!b and i.e. that. ", "U.S. Army bases."],
    "hin_Deva": ["डॉ. शर्मा आए। ", "क्या हुआ? ", "ए. पी. जे. अब्दुल कलाम आए। ", "मूल्य ₹1,234.50 है।", "ठीक॥"],
    "mar_Deva": ["डॉ. जोशी आले. ", "ता. १२.५.२०२४ रोजी आले. ", "कधी?"],
    "san_Deva": ["रामः वनं गच्छति। ", "धर्मक्षेत्रे कुरुक्षेत्रे॥ ", "१॥"],
    "ben_Beng": ["ডা. সেন এসেছেন। ", "কখন? ", "জানি না।"],
    "asm_Beng": ["মই ভাল আছোঁ। ", "আপুনি?"],
    "mni_Beng": ["ঐ চৎলি। ", "নঙ?"],
    "mni_Mtei": ["ꯑꯩ ꯆꯠꯂꯤ꯫ ", "ꯅꯪꯒꯤ꯫"],
    "sat_Olck": ["ᱟᱢ ᱪᱮᱫ ᱞᱮᱠᱟ᱾ ", "ᱤᱧ ᱵᱮᱥ᱿"],
    "guj_Gujr": ["તે સારું છે. ", "ડૉ. પટેલ આવ્યા. ", "હવે શું?"],
    "pan_Guru": ["ਡਾ. ਸਿੰਘ ਆਏ। ", "ਕਦੋਂ?"],
    "ory_Orya": ["ଡା. ଦାସ ଆସିଲେ। ", "କେବେ?"],
    "tam_Taml": ["திரு. குமார் வந்தார். ", "எம். ஜி. ராமசந்திரன் ரூ. 500 கொடுத்தார். ", "ஏன்?"],
    "tel_Telu": ["డా. రావు వచ్చారు. ", "ఎప్పుడు?"],
    "kan_Knda": ["ಡಾ. ರಾವ್ ಬಂದರು. ", "ಯಾವಾಗ?"],
    "mal_Mlym": ["ഡോ. നായർ വന്നു. ", "എപ്പോൾ?"],
    "urd_Arab": ["آپ کہاں ہیں؟ ", "قیمت 3۔5 ہے۔", "اب چلو!"],
    "snd_Arab": ["توهان ڪيئن آهيو؟ ", "مان ٺيڪ آهيان۔"],
    "kas_Arab": ["تۄہہِ چھِو وارٕ؟ ", "بہٕ چھُس ٹھیٖک۔"],
}


def streamed(text: str, sizes: list[int], limit: int = 1000) -> list[str]:
    stream = Stream(limit)
    out: list[str] = []
    at = 0
    for size in [*sizes, len(text)]:
        out += stream.push(text[at : at + size])
        at += size
    return out + stream.close()


@pytest.mark.parametrize("sentences", CASES.values(), ids=CASES.keys())
def test_sentences_end_where_readers_end_them(sentences: list[str]) -> None:
    text = "".join(sentences)
    assert split(text) == sentences
    assert streamed(text, [1] * len(text)) == sentences


def test_a_stream_gives_a_sentence_with_the_first_letter_of_the_next() -> None:
    stream = Stream()
    assert stream.push("मेरा ऑर्डर कहाँ है?") == []
    assert stream.push(" क") == ["मेरा ऑर्डर कहाँ है? "]
    assert stream.held == "क"
    assert stream.push("ल आएगा।") == []
    assert stream.close() == ["कल आएगा।"]
    assert stream.close() == []


def test_an_abbreviation_at_the_end_of_what_arrived_is_waited_for() -> None:
    stream = Stream()
    assert stream.push("I met Dr") == []
    assert stream.push(". ") == []
    assert stream.push("Rao. ") == []
    assert stream.push("He") == ["I met Dr. Rao. "]


@pytest.mark.parametrize(
    ("limit", "pieces"),
    [
        (16, ["one two, ", "three four five"]),
        (10, ["one two ", "three four"]),
        (6, ["क्ष", "त्रिय", "क्ष", "त्रिय"]),
        (10, ["x" * 10, "x" * 10, "x" * 5]),
    ],
)
def test_what_is_too_long_is_cut_where_it_hurts_least(limit: int, pieces: list[str]) -> None:
    assert split("".join(pieces), limit) == pieces


def test_a_sentence_has_at_least_one_character() -> None:
    with pytest.raises(ValueError, match="at least one character"):
        Stream(0)


TEXTS = st.text(st.sampled_from("aएBी. .!?।۔\n\r\"'1१एपी.“”)…-\u200d् ,"), max_size=60) | st.text(max_size=80)


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 9), max_size=30), st.integers(1, 40) | st.just(1000))
def test_pieces_join_to_the_text_and_a_stream_gives_the_same(text: str, sizes: list[int], limit: int) -> None:
    whole = split(text, limit)
    assert "".join(whole) == text
    assert all(whole) and all(len(piece) <= limit for piece in whole)
    assert streamed(text, sizes, limit) == whole


@pytest.mark.parametrize("unit", [".", "-", "a. ", "क", "ए. ", " ", "\n", "?! ", "क्", "1.", '"'])
def test_no_text_is_slow(unit: str) -> None:
    text = unit * (50_000 // len(unit))
    began = time.process_time()
    assert "".join(split(text)) == text
    # under 0.2 s here; a quadratic rule takes minutes
    assert time.process_time() - began < 10
