"""Conversations to a model's language and answers back, on a translation that can be seen and undone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from translation.fakes import Fake

from appliance.languages import INDIC_TAGS
from appliance.translation.glossary import Matcher, Term
from appliance.translation.pivot import Pivot, Voice, heard
from appliance.translation.recent import Recent

EN, HI = "eng_Latn", "hin_Deva"
HINDI = Voice(HI)
SYSTEM = {"role": "system", "content": "You are the support desk of Acme. Answer briefly and politely."}
QUESTION = {"role": "user", "content": "मेरा ऑर्डर ORD-1234 कब आएगा? मैंने ₹1,234.50 दिए हैं।"}


def pivot(fake: Fake, voice: Voice = HINDI, recent: Recent | None = None, **how: Any) -> Pivot:
    return Pivot(fake, voice, (recent or Recent()).of("acme"), **how)


async def answered(made: Pivot, *deltas: str) -> tuple[list[str], Any]:
    answer = made.answer()
    shown = [await answer.push(delta) for delta in deltas]
    return [*shown, await answer.end()], await answer.whole()


async def test_a_question_goes_in_and_its_answer_comes_out() -> None:
    fake = Fake()
    made = pivot(fake)
    inward = await made.inward([SYSTEM, QUESTION])
    assert inward.messages[0] == SYSTEM  # in the model's language already
    text = inward.messages[1]["content"]
    assert "ORD-1234" in text and "₹1,234.50" in text and text.isascii() is False  # ₹ is all that is left
    assert text.replace("₹", "").isascii()
    assert fake.calls == [(["मेरा ऑर्डर ORD-1234 कब आएगा?", "मैंने ₹1,234.50 दिए हैं।"], HI, EN)]
    assert (inward.translated, inward.remembered, inward.characters) == (1, 0, len(QUESTION["content"]))
    assert inward.signals is not None and inward.signals.kept == 1.0 and inward.signals.script_share == 1.0
    shown, whole = await answered(made, "It comes on 5 May", ". Ask ", "for ORD-1234 then.")
    assert shown[0] == "" and shown[1].endswith("5 मअय. ") and shown[2] == "" and "ORD-1234" in shown[3]
    assert whole.original == "It comes on 5 May. Ask for ORD-1234 then." and whole.text == "".join(shown)
    assert (whole.signals.kept, whole.signals.script_share, whole.own_script) == (1.0, 1.0, False)


async def test_each_turn_is_translated_once_and_an_answer_goes_back_to_what_the_model_wrote() -> None:
    recent = Recent()
    first = Fake()
    made = pivot(first, recent=recent)
    await made.inward([SYSTEM, QUESTION])
    _, whole = await answered(made, "It comes tomorrow. Wait for it.")
    second = Fake()
    history = [
        SYSTEM,
        QUESTION,
        {"role": "assistant", "content": whole.text},
        {"role": "user", "content": "ठीक है, धन्यवाद"},
    ]
    inward = await pivot(second, recent=recent).inward(history)
    assert inward.messages[2]["content"] == "It comes tomorrow. Wait for it."
    assert second.sentences == ["ठीक है, धन्यवाद"]
    assert (inward.translated, inward.remembered) == (1, 2)
    # another tenant remembers nothing of it
    third = Fake()
    await Pivot(third, HINDI, recent.of("bodega")).inward(history)
    assert len(third.sentences) == 5


async def test_what_is_no_prose_stays_byte_for_byte() -> None:
    arguments = '{"order_id": "ORD-1", "amount": 1.10, "note":"जल्दी  भेजें", "name": "आशा", "flags":[true,null,1e5]}'
    result = '[{"status": "in_transit", "sku": "एसकेयू", "message": "पार्सल रास्ते में है।"}]'
    messages: list[dict[str, Any]] = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "यह क्या है?"}, {"type": "image_url", "image_url": {"url": "x"}}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "find", "arguments": arguments}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": result},
        {"role": "user", "content": "```\nprint('नमस्ते दुनिया कैसे')\n```\nयह कोड क्या करता है?\n\n- पहला काम\n- 42\n"},
    ]
    before = json.dumps(messages, ensure_ascii=False)
    fake = Fake()
    made = (await pivot(fake).inward(messages)).messages
    assert json.dumps(messages, ensure_ascii=False) == before
    assert made[0]["content"][1] == messages[0]["content"][1] and made[0]["content"][0]["text"].isascii()
    call = made[1]["tool_calls"][0]
    assert (call["id"], call["function"]["name"], made[1]["content"]) == ("c1", "find", None)
    note = json.loads(call["function"]["arguments"])["note"]
    assert note.isascii() and call["function"]["arguments"] == arguments.replace("जल्दी  भेजें", note)
    said = json.loads(made[2]["content"])[0]["message"]
    assert said.rstrip("।").isascii() and made[2]["content"] == result.replace("पार्सल रास्ते में है।", said)
    code = made[3]["content"]
    assert code.startswith("```\nprint('नमस्ते दुनिया कैसे')\n```\n") and code.endswith("\n- 42\n") and "\n\n- " in code
    assert "पहला काम" in fake.sentences and "कोड" not in code


async def test_the_answers_marks_and_code_stay() -> None:
    fake = Fake()
    text = "## Steps\n1. Open the app.\n2. Tap pay.\n\n```sh\npay --now. Then go.\n```\n> Done!\n"
    _, whole = await answered(pivot(fake), *text)
    assert whole.text.startswith("## ") and "```sh\npay --now. Then go.\n```\n> " in whole.text
    assert [line[:3] for line in whole.text.split("\n")[1:3]] == ["1. ", "2. "]
    assert fake.sentences == ["Steps", "Open the app.", "Tap pay.", "Done!"]


async def test_an_answer_in_the_customers_language_passes() -> None:
    fake = Fake()
    _, whole = await answered(pivot(fake), "आपका ऑर्डर कल आएगा। धन्यवाद!")
    assert whole.text == whole.original and fake.calls == []


@pytest.mark.parametrize("tag", INDIC_TAGS)
async def test_every_language_gets_its_script(tag: str) -> None:
    fake = Fake()
    made = pivot(fake, Voice(tag))
    _, whole = await answered(made, "The parcel comes today. Please wait.")
    assert whole.signals.script_share == 1.0
    back = await made.inward([{"role": "assistant", "content": whole.text}])
    assert back.messages[0]["content"] == "The parcel comes today. Please wait."


async def test_romanised_customers_get_romanised_answers() -> None:
    async def to_native(texts: Any, tag: str) -> list[str]:
        assert tag == HI
        return ["मेरा ऑर्डर कब आएगा" if "order" in text else text for text in texts]

    question = {"role": "user", "content": "mera order kab aayega bhai, bahut din ho gaye"}
    voice = heard([SYSTEM, question])
    assert voice == Voice(HI, romanised=True)
    fake = Fake()
    recent = Recent()
    made = pivot(fake, voice, recent, to_native=to_native)
    inward = await made.inward([SYSTEM, question])
    assert fake.sentences == ["मेरा ऑर्डर कब आएगा"] and inward.untranslated == ()
    _, whole = await answered(made, "It comes on 5 May.")
    assert whole.text.isascii() and "5" in whole.text and whole.signals.script_share == 1.0
    again = await pivot(Fake(), voice, recent, to_native=to_native).inward(
        [{"role": "assistant", "content": whole.text}]
    )
    assert again.messages[0]["content"] == "It comes on 5 May."
    # without a transliterator the question stays and is named
    bare = await pivot(Fake(), voice).inward([SYSTEM, question])
    assert bare.untranslated == (question["content"],) and bare.messages[1] == question


async def test_where_no_rule_leads_to_latin_letters_the_answer_keeps_its_script() -> None:
    class Urdu(Fake):
        def _one(self, sentence: str, source: str, target: str) -> str:
            return "کل آئے گا۔"

    _, whole = await answered(pivot(Urdu(), Voice("urd_Arab", romanised=True)), "It comes tomorrow.")
    assert (whole.text, whole.own_script, whole.signals.script_share) == ("کل آئے گا۔", True, 0.0)


async def test_glossary_terms_hold_both_ways_and_losses_are_told() -> None:
    terms = [Term("Acme"), Term("order", "ऑर्डर", source=EN, target=HI)]
    how = {"terms_in": Matcher(terms, HI, EN), "terms_out": Matcher(terms, EN, HI)}
    made = pivot(Fake(), **how)
    inward = await made.inward([{"role": "user", "content": "क्या Acme खुला है?"}])
    assert "Acme" in inward.messages[0]["content"]
    _, whole = await answered(made, "Your order of Acme is here.")
    assert "ऑर्डर" in whole.text and "Acme" in whole.text and whole.lost == ()
    # what the model drops is translated with the words it stands for, and told
    fake = Fake(drop="{{")
    _, lossy = await answered(pivot(fake, **how), "Your order is here. Thank you Acme, your order. Bye.")
    assert sorted(lossy.lost) == ["Acme", "order", "order"]
    assert fake.sentences.count("Thank you Acme, your order.") == 1
    _, plain = await answered(pivot(Fake()), "Your order is here. Thank you Acme, your order. Bye.")
    assert lossy.text == plain.text


async def test_a_loss_is_told_again_when_the_turn_comes_again() -> None:
    recent, terms = Recent(), [Term("खाता", "account", source=HI, target=EN)]
    for _ in range(2):
        fake = Fake(drop="{{")
        made = pivot(fake, recent=recent, terms_in=Matcher(terms, HI, EN))
        inward = await made.inward([{"role": "user", "content": "मेरा खाता कब खुलेगा?"}])
        assert inward.lost == ("खाता",) and made.crossing.lost == ["खाता"] and fake.calls


async def test_a_memory_of_sentences_is_asked_with_the_customers_words_and_keeps_what_came_through_whole() -> None:
    memory = Recent().of("acme", "its memory")
    await memory.put([("Your order is here.", "वह आ गया।")], EN, HI)
    terms = Matcher([Term("order", "ऑर्डर", source=EN, target=HI)], EN, HI)
    fake = Fake(drop="1234")
    _, whole = await answered(
        pivot(fake, terms_out=terms, memory=memory), "Your order is here. See the order. It is ORD-1234. Bye."
    )
    assert whole.text.startswith("वह आ गया। ") and fake.sentences == ["See the {{T1}}.", "It is ORD-1234.", "Bye."]
    known = await memory.get(["See the order.", "It is ORD-1234.", "Bye."], EN, HI)
    assert "ऑर्डर" in str(known[0]) and known[1] is None and known[2] is not None


async def test_signals_tell_what_a_translation_lost() -> None:
    _, whole = await answered(pivot(Fake(drop="1234")), "Order ORD-1234 costs 500 rupees, see https://x.in/a.")
    assert whole.signals.lost == ("ORD-1234",) and whole.signals.kept == pytest.approx(2 / 3)


async def test_the_way_back_is_a_signal_that_is_paid_for() -> None:
    fake = Fake()
    answer = pivot(fake).answer()
    await answer.push("It comes tomorrow. Wait.")
    await answer.end()
    before = len(fake.calls)
    assert (await answer.whole()).signals.round_trip is None and len(fake.calls) == before
    assert (await answer.whole(round_trip=True)).signals.round_trip == 0.0 and len(fake.calls) == before + 1


async def test_structured_answers_and_tool_calls() -> None:
    text = (
        '{"status": "in_transit", "eta_days": 2.0, "message": "It comes soon", "steps": ["Wait for the parcel", "ok"]}'
    )
    fake = Fake()
    made = pivot(fake)
    whole = await made.structured(text)
    assert fake.sentences == ["It comes soon", "Wait for the parcel"]
    kept = json.loads(whole.text)
    assert (kept["status"], kept["steps"][1]) == ("in_transit", "ok") and '"eta_days": 2.0' in whole.text
    assert (await made.inward([{"role": "assistant", "content": whole.text}])).messages[0]["content"] == text
    called = await made.called('{"query": "refund of a late order", "text": "We are sorry", "to": "a@x.in"}')
    assert json.loads(called)["query"] == "refund of a late order" and not json.loads(called)["text"].isascii()
    assert await made.called("no json") == "no json"
    prose = await made.structured("Plain words.")
    assert prose.signals.script_share == 1.0


@pytest.mark.parametrize(
    ("messages", "voice"),
    [
        ([QUESTION], HINDI),
        (
            [
                QUESTION,
                {"role": "assistant", "content": "Hello there, how are you today?"},
                {"role": "user", "content": "??"},
            ],
            HINDI,
        ),
        ([{"role": "user", "content": "என் ஆர்டர் எங்கே இருக்கிறது?"}], Voice("tam_Taml")),
        ([{"role": "user", "content": "Where is my order please?"}], Voice(EN)),
        ([{"role": "assistant", "content": "नमस्ते"}, {"role": "user", "content": [{"type": "image_url"}]}], None),
        ([], None),
    ],
)
def test_the_newest_message_that_tells_is_heard(messages: list[dict[str, Any]], voice: Voice | None) -> None:
    assert heard(messages) == voice


@pytest.mark.parametrize("content", [None, "", " \n", "…", "😀", "123", [], [{"type": "text"}], {"odd": 1}, "a\ud800b"])
async def test_odd_contents_pass(content: Any) -> None:
    message = {"role": "user", "content": content}
    made = await pivot(Fake()).inward([message])
    assert made.messages == [message]


KEYS = st.sampled_from(["id", "message", "note", "order_id", "x", "संदेश", ""]) | st.text(max_size=5)
STRINGS = st.sampled_from(["कल आएगा", "It comes very soon", "ORD-1", "a@x.in"]) | st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | STRINGS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def shape(value: Any) -> Any:
    """Everything but what strings say."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return str if isinstance(value, str) else repr(value)


@settings(max_examples=150, deadline=None)
@given(JSON, st.sampled_from([None, 1]), st.booleans())
async def test_json_keeps_its_shape(value: Any, indent: int | None, escaped: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped, indent=indent)
    made = pivot(Fake())
    for after in (
        (await made.structured(text)).text if isinstance(value, dict | list) else text,
        await made.called(text),
        (await made.inward([{"role": "tool", "content": text}])).messages[0]["content"]
        if isinstance(value, dict | list)
        else text,
    ):
        assert shape(json.loads(after)) == shape(value)


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("ab Z.\n#->|1`₹अ।?"), max_size=60), st.lists(st.integers(1, 9), max_size=20))
async def test_a_stream_says_what_the_whole_does(text: str, sizes: list[int]) -> None:
    cuts, at = [], 0
    for size in sizes:
        cuts.append(text[at : at + size])
        at += size
    shown, whole = await answered(pivot(Fake()), *cuts, text[at:])
    assert "".join(shown) == whole.text == (await answered(pivot(Fake()), text))[1].text and whole.original == text
