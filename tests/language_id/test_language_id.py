"""Which language: scripts, shared scripts, Latin letters, mixtures, and knowing when not to answer."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.language_id import LONGEST, Identified, identify
from appliance.language_id.model import MODEL
from appliance.languages import TAGS

DATA = Path(__file__).resolve().parent.parent / "data" / "language_id"


def labelled(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for line in (DATA / name).read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            label, text = line.split("\t")
            found[label].append(text)
    return dict(found)


def answer(text: str) -> str:
    found = identify(text)
    if found.tag is None:
        return "none"
    return f"{found.tag[:3]}_Latn" if found.romanised else found.tag


def right(texts: list[str], label: str) -> float:
    return sum(answer(text) == label for text in texts) / len(texts)


NATIVE, ROMANISED = labelled("native.tsv"), labelled("romanised.tsv")


@pytest.mark.parametrize("label", sorted(NATIVE))
def test_customers_questions_in_native_scripts(label: str) -> None:
    assert right(NATIVE[label], label) >= 0.75


def test_native_questions_cover_the_languages() -> None:
    assert set(TAGS) - set(NATIVE) == {"eng_Latn", "kas_Deva"}  # the one nobody here writes with confidence


@pytest.mark.parametrize("label", ["hin_Latn", "tam_Latn", "tel_Latn", "ben_Latn", "mar_Latn", "eng_Latn"])
def test_customers_questions_in_latin_letters(label: str) -> None:
    assert len(ROMANISED[label]) >= (20 if label == "eng_Latn" else 40)
    assert right(ROMANISED[label], label) >= 0.85


def test_other_languages_in_latin_letters_are_mostly_abstained_from() -> None:
    assert right(ROMANISED["none"], "none") >= 0.6


@pytest.mark.parametrize(
    ("text", "tag", "script"),
    [
        ("ગુજરાતી", "guj_Gujr", "Gujr"),
        ("ಕನ್ನಡ", "kan_Knda", "Knda"),
        ("മലയാളം", "mal_Mlym", "Mlym"),
        ("ଓଡ଼ିଆ", "ory_Orya", "Orya"),
        ("ਪੰਜਾਬੀ", "pan_Guru", "Guru"),
        ("தமிழ்", "tam_Taml", "Taml"),
        ("తెలుగు", "tel_Telu", "Telu"),
        ("ᱥᱟᱱᱛᱟᱲᱤ", "sat_Olck", "Olck"),
        ("ꯃꯤꯇꯩꯂꯣꯟ", "mni_Mtei", "Mtei"),
    ],
)
def test_nine_scripts_settle_the_language(text: str, tag: str, script: str) -> None:
    assert identify(text) == Identified(tag, script, 1.0)


@pytest.mark.parametrize(
    "text", ["", "   ", "12345 67", "१२३४", "…!?।", "😀👍🏽", "\u200d\u200c", "\ud800", "\x00\x07", "₹1,234.50"]
)
def test_nothing_to_go_by(text: str) -> None:
    assert identify(text) == Identified(None, "", 0.0)


@pytest.mark.parametrize("text", ["你好，世界", "Привет, мир", "สวัสดีชาวโลก", "გამარჯობა", "שלום", "සිංහල", "བོད་ཡིག"])
def test_unknown_scripts(text: str) -> None:
    assert identify(text).tag is None


@pytest.mark.parametrize("text", ["क", "ok", "अ आ इ", "x y z", "ब"])
def test_too_little_is_not_a_confident_answer(text: str) -> None:
    found = identify(text)
    assert found.tag is None or found.confidence < 0.95


def test_indic_words_lead_over_borrowed_english() -> None:
    found = identify("मेरा account block हो गया है please help")
    assert (found.tag, found.script, found.romanised) == ("hin_Deva", "Deva", False)
    assert {tag for tag, _ in found.mixed} == {"hin_Deva", "eng_Latn"}
    assert sum(share for _, share in found.mixed) == pytest.approx(1.0, abs=0.01)


def test_two_indic_scripts() -> None:
    found = identify("எனக்கு உதவி வேண்டும் మీరు ఎలా ఉన్నారు అండి")
    assert found.tag == "tel_Telu"
    assert [tag for tag, _ in found.mixed] == ["tel_Telu", "tam_Taml"]


def test_an_english_text_that_quotes_an_indic_word_is_english() -> None:
    found = identify("could you please tell me what the word धन्यवाद means in your own language")
    assert found.tag == "eng_Latn"
    assert found.script == "Latn"


def test_code_mixing_inside_latin_letters() -> None:
    found = identify("mera account block ho gaya hai, please check the transaction status and refund kar do")
    assert (found.tag, found.romanised, found.script) == ("hin_Deva", True, "Latn")
    shares = dict(found.mixed)
    assert set(shares) == {"hin_Deva", "eng_Latn"}
    assert 0.25 <= shares["hin_Deva"] <= 0.75


def test_one_language_is_not_mixed() -> None:
    assert identify("where is my order and when will it arrive").mixed == ()
    assert identify("मेरा पार्सल कब तक आएगा").mixed == ()


def test_composed_and_decomposed_letters_are_the_same_text() -> None:
    composed, apart = "ঢাকা থেকে নিয়ে যাওয়া বড় গাড়ি", "ঢাকা থেকে নিয়ে যাওয়া বড় গাড়ি"
    assert identify(composed).tag == identify(apart).tag == "ben_Beng"


def test_case_and_joiners_do_not_matter() -> None:
    assert answer("MERA ORDER KAB TAK AAYEGA BHAI") == "hin_Latn"
    assert identify("क\u200d्या मेरे घर के पास कोई शाखा है").tag == "hin_Deva"


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    long = "यह हिन्दी में लिखा हुआ एक वाक्य है। " * 200
    assert identify(long) == identify(long[:LONGEST])
    began = time.perf_counter()
    identify(long * 100)
    assert time.perf_counter() - began < 0.5


@given(st.text(max_size=200))
def test_any_text_gives_a_sound_answer(text: str) -> None:
    found = identify(text)
    assert found.tag is None or found.tag in TAGS
    assert 0.0 <= found.confidence <= 1.0
    assert len(found.mixed) != 1
    assert sum(share for _, share in found.mixed) <= 1.01
    assert found.romanised == (found.script == "Latn" and found.tag not in (None, "eng_Latn"))


def test_the_model_is_small_and_plain() -> None:
    assert MODEL.stat().st_size < 1_000_000
    with np.load(MODEL, allow_pickle=False) as file:
        assert set(file["scripts"].tolist()) == {"Deva", "Beng", "Arab", "Latn"}
        tags = {tag for script in file["scripts"] for tag in file[f"{script}_labels"].tolist()}
    assert tags - {""} <= set(TAGS)


def test_importing_it_loads_numpy_and_no_framework() -> None:
    code = "import sys, appliance.language_id as l; l.identify('नमस्ते'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"scipy", "torch", "sklearn", "pandas"} & {name.split(".")[0] for name in loaded}
