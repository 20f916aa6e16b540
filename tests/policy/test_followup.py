"""What a turn says about the answer before it, in as many languages as can be said honestly."""

from __future__ import annotations

import pytest

from appliance.policy.followup import TurnSaid, follow_up, tool_loop
from appliance.policy.phrases import corrects, wants_a_person
from appliance.types import ToolUse

PERSON = {
    "asm": "মই এজন মানুহৰ সৈতে কথা পাতিব বিচাৰো",
    "ben": "আমি একজন মানুষের সাথে কথা বলতে চাই",
    "brx": "आंनो एजेन्टजों रायज्लायनांगौ",
    "doi": "मैनूं एजेंट कन्ने गल करनी ऐ",
    "eng": "Can I speak with someone please",
    "gom": "म्हाका मनशाकडेन उलोवपाक जाय",
    "guj": "મારે માણસ સાથે વાત કરવી છે",
    "hin": "मुझे किसी इंसान से बात करनी है",
    "kan": "ನಾನು ಒಬ್ಬ ವ್ಯಕ್ತಿಯೊಂದಿಗೆ ಮಾತನಾಡಬೇಕು",
    "kas": "مےٚ چھُ ایجنٹس سٟتؠ کَتھ کَرٕنؠ",
    "mai": "हमरा कोनो मनुक्ख सँ गप्प करबाक अछि",
    "mal": "ഏജന്റുമായി സംസാരിക്കണം",
    "mar": "मला माणसाशी बोलायचे आहे",
    "mni": "ꯑꯩ ꯑꯦꯖꯦꯟꯇ ꯑꯃꯒꯥ ꯋꯥꯔꯤ ꯁꯥꯕ ꯄꯥꯝꯃꯤ",
    "npi": "म एजेन्टसँग कुरा गर्न चाहन्छु",
    "ory": "ମୁଁ ଜଣେ ଏଜେଣ୍ଟଙ୍କ ସହ କଥା ହେବାକୁ ଚାହେଁ",
    "pan": "ਮੈਨੂੰ ਕਿਸੇ ਬੰਦੇ ਨਾਲ ਗੱਲ ਕਰਨੀ ਹੈ",
    "san": "अहं प्रतिनिधिना सह वार्तालापं कर्तुम् इच्छामि",
    "sat": "ᱤᱧ ᱢᱤᱫ ᱮᱡᱮᱱᱴ ᱥᱟᱶ ᱨᱚᱲ ᱥᱟᱱᱟᱧ ᱠᱟᱱᱟ",
    "snd": "مون کي ايجنٽ سان ڳالهائڻو آهي",
    "tam": "ஏஜென்டுடன் இணைக்கவும்",
    "tel": "నేను ఒక వ్యక్తితో మాట్లాడాలి",
    "urd": "کسٹمر کیئر سے رابطہ کرائیں",
    "hin_Latn": "mujhe customer care se baat karao",
    "hin_Latn_2": "mujhe agent chahiye",
}


@pytest.mark.parametrize("text", list(PERSON.values()), ids=list(PERSON))
def test_a_person_is_asked_for(text: str) -> None:
    assert wants_a_person(text)


@pytest.mark.parametrize(
    "text",
    [
        "How do I become an insurance agent?",
        "the delivery person did not call me",
        "I need a manager account for my shop",
        "mera order kab aayega bhai",
        "डिलीवरी वाला आदमी नहीं आया",
        "வாடிக்கையாளர் எண் என்ன",
        "मजकूर रोमन आकड्यांचे प्रतिनिधित्व करतो",
        "delivery boy phone hi nahi uthata",
        "one person can carry how many bags",
        "",
    ],
)
def test_a_person_is_only_mentioned(text: str) -> None:
    assert not wants_a_person(text)


@pytest.mark.parametrize(
    "text",
    ["No, that's wrong", "that is not what I asked", "I already told you", "ye galat hai", "नहीं, यह गलत है", "हे चुकीचे आहे",
     "এটা ভুল", "ખોટું છે", "ਇਹ ਗਲਤ ਹੈ", "ଏହା ଭୁଲ", "இது தவறு", "ఇది తప్పు", "ಇದು ತಪ್ಪು", "ഇത് തെറ്റാണ്", "یہ غلط ہے", "এইটো ভুল"],
)  # fmt: skip
def test_corrections(text: str) -> None:
    assert corrects(text)


@pytest.mark.parametrize(
    "text",
    ["mera parcel galat address pe chala gaya", "parcel tappu address ki vellipoyindi ninna", "what is right for me?",
     "URL ਗਲਤ ਹੈ ਇਸ ਲਈ ਕੁਨੈਕਸ਼ਨ ਬਣਾਇਆ ਨਹੀਂ ਜਾ ਸਕਿਆ", "I got the wrong size, please exchange it"],
)  # fmt: skip
def test_a_wrong_parcel_corrects_nobody(text: str) -> None:
    assert not corrects(text)


def said(*turns: str) -> list[TurnSaid]:
    """User and assistant in turn."""
    return [TurnSaid("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(turns)]


def test_the_same_question_again() -> None:
    first = "मेरा ऑर्डर कब आएगा?"
    assert follow_up(said(first, "जल्दी।", "मेरा ऑर्डर कब तक आएगा")).re_asked
    assert not follow_up(said(first, "जल्दी।", "और रिफंड कितने दिन में मिलता है?")).re_asked
    assert not follow_up(said("haan ji", "ok", "haan ji")).re_asked
    assert not follow_up(said(first)).re_asked


def test_only_an_answer_can_be_corrected() -> None:
    assert follow_up(said("Where is it?", "In Pune.", "No, that's wrong")).corrected
    assert not follow_up(said("No, that's wrong")).corrected
    assert follow_up(said("I want to talk to a human")).wants_person
    assert follow_up([], reopened=True).reopened


def test_tools_that_go_round() -> None:
    call = TurnSaid("assistant", tools=(ToolUse("1", "track", '{"awb": "1"}'),))
    result = TurnSaid("tool", "not found")
    asked = TurnSaid("user", "where is it")
    assert not tool_loop([asked, *[call, result] * 2])
    assert tool_loop([asked, *[call, result] * 3])
    assert not tool_loop([*[call, result] * 3, asked])  # somebody spoke since
    others = [
        turn for i in range(8) for turn in (TurnSaid("assistant", tools=(ToolUse("1", "t", f'{{"n": {i}}}'),)), result)
    ]
    assert tool_loop([asked, *others]) and not tool_loop([asked, *others[:10]])
