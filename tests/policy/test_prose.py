"""The language an answer came in, and what must not be taken for another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.languages import ENGLISH
from appliance.policy.prose import LONGEST, prose, wrong_language

HERE = Path(__file__).parents[1] / "data" / "language_id"
HINDI = "आपका पार्सल कल शाम तक पहुँच जाएगा, कृपया घर पर रहें।"
ENGLISH_ANSWER = "Your parcel will arrive by tomorrow evening, please stay at home."
ROMANISED = "aapka parcel kal shaam tak pahunch jayega, kripya ghar par rahiye"
TAMIL = "உங்கள் பார்சல் நாளை மாலைக்குள் வந்து சேரும்."
TYPED = {"hin": "hin_Deva", "tam": "tam_Taml", "tel": "tel_Telu", "ben": "ben_Beng", "mar": "mar_Deva"}


def sentences(name: str) -> list[tuple[str, str]]:
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("\t", 1)) for line in lines if line and line[0] != "#"]  # type: ignore[misc]


def test_no_sentence_is_wrong_in_its_own_language() -> None:
    native = sentences("native.tsv")
    assert len({tag for tag, _ in native}) >= 22
    assert [(tag, text) for tag, text in native if wrong_language(text, tag)] == []
    typed = [(TYPED.get(tag[:3], tag), text) for tag, text in sentences("romanised.tsv") if tag != "none"]
    assert [(tag, text) for tag, text in typed if wrong_language(text, tag, tag != ENGLISH)] == []


def test_an_english_answer_to_any_language_is_seen() -> None:
    tags = {tag for tag, _ in sentences("native.tsv")} - {ENGLISH, "none"}
    assert {tag: wrong_language(ENGLISH_ANSWER, tag) for tag in tags} == dict.fromkeys(tags, ENGLISH)


def test_another_script_and_another_language_of_the_same_script_are_seen() -> None:
    assert wrong_language(TAMIL, "hin_Deva") == "tam_Taml"
    assert wrong_language(HINDI, "ory_Orya") == "hin_Deva"
    assert wrong_language(HINDI, ENGLISH) == "hin_Deva"
    marathi = "तुमचे पार्सल उद्या संध्याकाळपर्यंत पोहोचेल, कृपया घरी थांबा. काही अडचण आल्यास आम्हाला कळवा."
    assert wrong_language(marathi, "hin_Deva") == "mar_Deva"
    assert wrong_language("Ваша посылка прибудет завтра вечером", "hin_Deva") == "und_Zzzz"


def test_latin_letters_are_right_only_for_those_who_type_them() -> None:
    assert wrong_language(ROMANISED, "hin_Deva", romanised=True) is None
    assert wrong_language(HINDI, "hin_Deva", romanised=True) is None
    assert wrong_language(ROMANISED, "hin_Deva") == "hin_Latn"
    assert wrong_language(ENGLISH_ANSWER, "hin_Deva", romanised=True) == ENGLISH


@pytest.mark.parametrize(
    "text",
    [
        "iPhone 15 Pro Max, Samsung Galaxy S24",
        "```python\ndef total(values):\n    return sum(values)\n```",
        '{"status": "shipped", "carrier": "Delhivery surface"}',
        "https://example.in/track/of/my/order",
        "OK",
        "12345 / 67890",
        "",
        "🙂🙂🙂",
        "Order AWB-1234 Bluedart Express: डिलीवर हो गया",
        "`pip install appliance` चलाइए",
    ],
)
def test_names_code_and_links_have_no_language(text: str) -> None:
    assert wrong_language(text, "hin_Deva") is None


def test_words_of_the_question_and_languages_named_in_it_may_come_back() -> None:
    assert wrong_language("refund policy cancellation charges", "hin_Deva") is not None
    asked = "refund policy aur cancellation charges क्या हैं?"
    assert wrong_language("refund policy cancellation charges", "hin_Deva", asked=asked) is None
    assert wrong_language(TAMIL, ENGLISH, asked="How do I say it in Tamil?") is None
    assert wrong_language(TAMIL, ENGLISH, asked="Say it in Telugu") == "tam_Taml"
    assert wrong_language(ENGLISH_ANSWER, "hin_Deva", asked="इसे अंग्रेज़ी में, in English please") is None


def test_an_unknown_language_is_never_wrong() -> None:
    assert wrong_language(HINDI, None) is None
    assert wrong_language(HINDI, "fra_Latn") is None


def test_code_is_cut_out_also_where_its_fence_is_open() -> None:
    assert prose("a ```x\ny``` b").split() == ["a", "b"]
    assert prose("a ```x\ny").split() == ["a"]
    assert len(prose("क" * 10 * LONGEST)) == LONGEST
