"""Terms found where words begin and end, and put back whatever a translation makes of the rest."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.translation.glossary import Marked, Matcher, Term, placeholders, restore, unmarked
from appliance_models.indictrans2 import processor

EN, HI = "eng_Latn", "hin_Deva"


def marked(text: str, *terms: Term, source: str = EN, target: str = HI) -> str:
    return Matcher(terms, source, target).mark(text).text


def through(text: str, *terms: Term, source: str = EN, target: str = HI) -> str:
    """``text`` through a translation that changes nothing."""
    found = Matcher(terms, source, target).mark(text)
    return restore(found, found.text).text


@pytest.mark.parametrize(
    ("term", "text", "expected"),
    [
        ("Acme", "Acme's site; acme! Acmes, my-Acme", "{{T1}}'s site; {{T2}}! Acmes, my-{{T1}}"),
        ("IT", "IT does it", "{{T1}} does it"),
        ("C++", "C++11 and C++", "{{T1}}11 and {{T1}}"),
        (".NET", "use .NET now", "use {{T1}} now"),
        ("@acme", "write @acme or @acme_help", "write {{T1}} or @acme_help"),
        (
            "Acme",
            "www.acme.in, me@acme.in, https://x.in/Acme, #Acme",
            "www.acme.in, me@acme.in, https://x.in/Acme, #Acme",
        ),
        ("acme.in", "see acme.in or www.acme.in", "see {{T1}} or www.acme.in"),
        ("Acme", "{{Acme}} <b class='Acme'>Acme</b>", "{{Acme}} <b class='Acme'>{{T1}}</b>"),
        ("Acme Bank", "Acme  Bank and Acme\nBank", "{{T1}} and Acme\nBank"),
        ("खाता", "मेरा खाता, खाते और खाताधारक।", "मेरा {{T1}}, खाते और खाताधारक।"),
        ("फ़ोन", "फ\u093cोन फोन", "{{T1}} फोन"),
        ("सिम", "सिमें सिम", "सिमें {{T1}}"),
        ("চুক্তি", "এই চুক্তি।", "এই {{T1}}।"),
        ("સિમ", "સિમ બંધ", "{{T1}} બંધ"),
        ("ਸਿਮ", "ਸਿਮ ਬੰਦ", "{{T1}} ਬੰਦ"),
        ("ସିମ", "ସିମ ବନ୍ଦ", "{{T1}} ବନ୍ଦ"),
        ("சென்னை", "சென்னை, சென்னையில்", "{{T1}}, சென்னையில்"),
        ("సిమ్", "సిమ్ సిమ్‌లు", "{{T1}} సిమ్‌లు"),
        ("ಸಿಮ್", "ಸಿಮ್ ಇಲ್ಲ", "{{T1}} ಇಲ್ಲ"),
        ("സിം", "സിം ഇല്ല", "{{T1}} ഇല്ല"),
        ("کھاتا", "میرا کھاتا۔", "میرا {{T1}}۔"),
        ("ᱥᱤᱢ", "ᱥᱤᱢ᱾", "{{T1}}᱾"),
        ("ꯁꯤꯝ", "ꯁꯤꯝ꯫", "{{T1}}꯫"),
    ],
)
def test_terms_begin_and_end_where_words_do(term: str, text: str, expected: str) -> None:
    assert marked(text, Term(term)) == expected
    assert through(text, Term(term)) == text


def test_the_longest_term_wins_and_the_first_place() -> None:
    terms = [Term("savings"), Term("savings account"), Term("account number"), Term("savings account number plus")]
    assert marked("savings account number", *terms) == "{{T1}} number"
    assert marked("my account number", *terms) == "my {{T1}}"


@pytest.mark.parametrize(
    ("case", "hits"),
    [("exact", ["Apple"]), ("any", ["Apple", "apple", "APPLE"]), ("smart", ["Apple", "apple", "APPLE"])],
)
def test_case(case: str, hits: list[str]) -> None:
    found = Matcher([Term("Apple", case=case)], EN, HI).mark("Apple apple APPLE")  # type: ignore[arg-type]
    assert [place.words for place in found.places] == hits


def test_the_entry_for_these_languages_beats_the_one_for_all() -> None:
    terms = [Term("account", "खाता", target=HI), Term("account"), Term("account", "கணக்கு", target="tam_Taml")]
    assert through("account", *terms) == "खाता"
    assert through("account", *terms, target="tam_Taml") == "கணக்கு"
    assert through("account", *terms, target="tel_Telu") == "account"
    assert marked("खाता", Term("खाता", source="mar_Deva"), source=HI) == "खाता"


def test_a_forced_term_has_a_capital_where_a_sentence_begins() -> None:
    terms = [Term("खाता", "savings account"), Term("फ़ोन", "iPhone")]
    found = Matcher(terms, HI, EN).mark("खाता बंद। खाता फ़ोन")
    assert restore(found, "{{T1}} is closed. {{T1}}, {{T2}}. {{T2}}").text == (
        "Savings account is closed. Savings account, iPhone. iPhone"
    )
    assert restore(found, "The {{T1}} is closed").text == "The savings account is closed"
    # what is not to be translated stays as it was written
    same = Matcher([Term("iPhone")], EN, HI).mark("iphone")
    assert restore(same, same.text).text == "iphone"


def test_what_is_lost_repeated_or_invented_is_told() -> None:
    found = Matcher([Term("Acme"), Term("Bolt")], EN, HI).mark("Acme Bolt Acme")
    assert found.text == "{{T1}} {{T2}} {{T1}}"
    told = restore(found, "{{ T1 }} x {{T1}} {{T1}} {{T9}}{{T2")
    assert (told.text, told.lost, told.repeated) == ("Acme x Acme Acme {{T2", ("Bolt",), ("Acme",))


def test_a_part_of_a_marked_text_can_be_unmarked() -> None:
    found = Matcher([Term("Acme"), Term("Bolt", "बोल्ट")], EN, HI).mark("Acme. Bolt and Acme.")
    assert placeholders(found, "{{T2}} {{ T1 }} {{T2}} {{T9}}") == {1: 1, 2: 2, 9: 1}
    assert unmarked(found, "{{T2}} and {{T1}}.") == "Bolt and Acme."
    assert placeholders(Marked("x"), "{{T1}}") == {} and unmarked(Marked("x"), "{{T1}}") == "{{T1}}"


def test_placeholders_never_meet_the_texts_own_templates() -> None:
    text = "{{T1}} {{ TT1 }} Acme"
    found = Matcher([Term("Acme", "एक्मे")], EN, HI).mark(text)
    assert found.text == "{{T1}} {{ TT1 }} {{TTT1}}"
    assert restore(found, found.text).text == "{{T1}} {{ TT1 }} एक्मे"


def test_nothing_to_do_is_the_same_text() -> None:
    assert not Matcher([Term("x", source="tam_Taml"), Term(" "), Term("")], EN, HI)
    assert Matcher([], EN, HI).mark("Acme") == Marked("Acme")
    assert restore(Marked("a"), "{{T1}} b").text == "{{T1}} b"


@pytest.mark.parametrize("digits", ["ascii", "native", "source"])
def test_placeholders_come_through_the_processor(digits: processor.Digits) -> None:
    terms = [Term("Acme"), Term("order", "ऑर्डर")]
    found = Matcher(terms, EN, HI).mark("Acme's order 12345: (Acme) order, ACME.")
    prepared = processor.prepare(found.text, EN, HI)
    done = processor.finish(prepared, [line.split(" ", 2)[2] for line in prepared.lines], digits)
    told = restore(found, done.text)
    assert done.lost == () and told.lost == () and told.repeated == ()
    assert sorted(re.findall(r"(?i)acme|ऑर्डर", told.text)) == ["ACME", "Acme", "Acme", "ऑर्डर", "ऑर्डर"]


WORDS = st.sampled_from(
    [
        "Acme",
        "खाता",
        "खाते",
        "चेन्नई",
        "{{T1}}",
        "IT",
        "it",
        "a@acme.in",
        ".",
        "।",
        " ",
        "\n",
        "क\u093c",
        "\u0958",
        "சென்னை",
        "-",
    ]
)
TEXTS = st.lists(WORDS | st.text(max_size=3), max_size=20).map("".join)


@settings(max_examples=300, deadline=None)
@given(
    TEXTS, st.lists(st.builds(Term, WORDS, st.none() | WORDS, st.sampled_from(["any", "exact", "smart"])), max_size=6)
)
def test_placeholders_are_never_lost_or_doubled(text: str, terms: list[Term]) -> None:
    found = Matcher(terms, EN, HI).mark(text)
    told = restore(found, found.text)
    assert (told.lost, told.repeated) == ((), ())
    kept = Matcher([Term(t.term, None, t.case) for t in terms], EN, HI).mark(text)
    assert restore(kept, kept.text).text == text
    # every placeholder gone is every time of every place
    bare = re.sub(rf"\{{\{{{found.prefix}\d+\}}\}}", "", found.text) if found.places else ""
    gone = restore(found, bare)
    assert len(gone.lost) == sum(place.times for place in found.places)


def test_ten_thousand_terms_cost_what_one_does() -> None:
    many = Matcher([Term(f"term {i}") for i in range(10_000)], EN, HI)
    text = "This is term 77 of the agreement. " * 300
    began = time.process_time()
    assert many.mark(text).text.count("{{T1}}") == 300
    # 15 ms here; every term tried at every place takes minutes
    assert time.process_time() - began < 5


@pytest.mark.parametrize("unit", ["Acme ", "Acme.", "<a", "{{", "a@", "a-", "acme. ", "\u0915\u094d", "T"])
def test_no_text_is_slow(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    began = time.process_time()
    found = Matcher([Term("Acme", "acme")], EN, HI).mark(text)
    restore(found, found.text)
    # under 0.5 s here; a quadratic rule takes minutes
    assert time.process_time() - began < 10
