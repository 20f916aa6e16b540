"""Pivot whole, with the embedded translation models: a Hindi question in, a Hindi answer out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import appliance_models
from appliance.languages import ENGLISH
from appliance.translation.glossary import Matcher, Term
from appliance.translation.pivot import Pivot, Voice, heard
from appliance.translation.recent import Recent
from appliance_models.indictrans2 import processor

_EMBEDDED = Path(appliance_models.__file__).parent / "embedded" / "indictrans2-embedded"
_DIRECTIONS = ("en-indic", "indic-en")
pytestmark = pytest.mark.skipif(
    not all((_EMBEDDED / d / "model.bin").exists() for d in _DIRECTIONS),
    reason="the embedded translation models are not in this checkout",
)


class Embedded:
    """Both directions in this process. Hosts batch and time out; here one call is one batch."""

    def __init__(self) -> None:
        from appliance_models.indictrans2.training.export import ctranslate

        self._run: dict[str, Callable[[Sequence[str]], list[str]]] = {
            direction: ctranslate(_EMBEDDED / direction, threads=1) for direction in _DIRECTIONS
        }

    async def __call__(self, sentences: Sequence[str], source: str, target: str) -> list[str]:
        run = self._run["en-indic" if source == ENGLISH else "indic-en"]
        prepared = [processor.prepare(sentence, source, target) for sentence in sentences]
        outputs = iter(run([line for one in prepared for line in one.lines]))
        return [processor.finish(one, [next(outputs) for _ in one.lines]).text for one in prepared]


@pytest.fixture(scope="module")
def embedded() -> Embedded:
    return Embedded()


async def test_a_hindi_question_in_a_hindi_answer_out(embedded: Embedded) -> None:
    question = {"role": "user", "content": "फ़ाइल ORD-1234 कैसे खोलें? कृपया सहायता करें।"}
    voice = heard([question])
    assert voice == Voice("hin_Deva")
    recent = Recent()
    pivot = Pivot(embedded, voice, recent.of("acme"))
    inward = await pivot.inward([question])
    asked = inward.messages[0]["content"]
    assert "ORD-1234" in asked and re.search(r"(?i)\bfile\b", asked) and re.search(r"(?i)open", asked)
    assert inward.signals is not None and (inward.signals.kept, inward.signals.script_share) == (1.0, 1.0)

    answer = pivot.answer()
    first = await answer.push("Open the file menu. Select")
    assert "फ़ाइल" in first and first.endswith(" ")  # before the second sentence has ended
    shown = first + await answer.push(" the document ORD-1234.") + await answer.end()
    whole = await answer.whole(round_trip=True)
    assert shown == whole.text and "ORD-1234" in shown and "दस्तावेज़" in shown
    assert (whole.signals.kept, whole.own_script) == (1.0, False)
    assert whole.signals.script_share == 1.0
    assert whole.signals.round_trip is not None and whole.signals.round_trip < 0.5

    again = await Pivot(embedded, voice, recent.of("acme")).inward(
        [question, {"role": "assistant", "content": shown}, {"role": "user", "content": "और कोई मदद?"}]
    )
    assert again.messages[1]["content"] == whole.original and (again.remembered, again.translated) == (2, 1)


async def test_the_glossary_holds_through_the_model(embedded: Embedded) -> None:
    terms = Matcher([Term("Acme"), Term("document", "काग़ज़")], ENGLISH, "hin_Deva")
    pivot = Pivot(embedded, Voice("hin_Deva"), Recent().of("acme"), terms_out=terms)
    answer = pivot.answer()
    await answer.push("Open the document in Acme.")
    await answer.end()
    whole = await answer.whole()
    for term, becomes in (("document", "काग़ज़"), ("Acme", "Acme")):  # in place, or named as lost
        assert becomes in whole.text or term in whole.lost
    assert len(whole.lost) < 2 and whole.signals.script_share > 0.5


@pytest.mark.parametrize(
    ("tag", "word"), [("tam_Taml", "கோப்பு"), ("ben_Beng", "ফাইল"), ("urd_Arab", "فائل"), ("mar_Deva", "फाइल")]
)
async def test_other_languages_get_their_script(embedded: Embedded, tag: str, word: str) -> None:
    pivot = Pivot(embedded, Voice(tag), Recent().of("acme"))
    answer = pivot.answer()
    await answer.push("Open the file.")
    await answer.end()
    whole = await answer.whole()
    assert whole.signals.script_share == 1.0
    assert word[:3] in whole.text
