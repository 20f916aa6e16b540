"""From an ask to its result: the way through models, pieces of a text, what is kept and what is named."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from appliance.errors import DeadlineExceeded
from appliance.hosts.batcher import Batcher, Limits
from appliance.hosts.translate_job import Job, NotInstalled, Step, steps
from appliance.hosts.translate_model import LONGEST_PIECES, Line, Way, Written
from appliance.hosts.translate_wire import Ask, Delta, Item, Result

HIN, TAM, ENG = "hin_Deva", "tam_Taml", "eng_Latn"


class Echo:
    """Writes the words it reads, in capitals; drops placeholders where it is told to."""

    def __init__(self, way: Way, forgetful: bool = False, slow_s: float = 0.0) -> None:
        self.way: Way = way
        self.model = f"echo-{way}"
        self.batches: list[int] = []
        self._forgetful, self._slow_s = forgetful, slow_s

    def pieces(self, line: str) -> tuple[str, ...]:
        return tuple(line.split(" "))

    def run(self, lines: Sequence[Line]) -> list[Written]:
        time.sleep(self._slow_s)
        self.batches.append(len(lines))
        return [self._written(line) for line in lines]

    def _written(self, line: Line) -> Written:
        words = [w for w in line.pieces[2:] if not (self._forgetful and w.startswith("<ID"))]
        text = " ".join(w if w.startswith("<ID") else w.upper() for w in words)
        texts = tuple(text + "!" * n for n in range(1 + line.alternatives))
        return Written(texts, 0.5, len(line.pieces), len(words), len(words) > 100)


class Running:
    def __init__(self, *models: Echo, max_batch: int = 8) -> None:
        self.have: dict[Way, Any] = {model.way: model for model in models}
        limits = Limits(max_batch=max_batch, max_wait_s=0.005, max_cost=1000)
        self.queues: dict[Way, Batcher[Line, Written]] = {model.way: Batcher(model.run, limits) for model in models}
        self.job = Job(self.have, self.queues, time.monotonic)

    async def __aenter__(self) -> Job:
        for queue in self.queues.values():
            queue.start()
        return self.job

    async def __aexit__(self, *_: object) -> None:
        for queue in self.queues.values():
            await queue.close()


def translate(ask: Ask, *models: Echo) -> tuple[Result, list[Delta]]:
    async def go() -> tuple[Result, list[Delta]]:
        heard: list[Delta] = []
        async with Running(*models) as job:
            return await job.run(ask, heard.append), heard

    return asyncio.run(go())


def one(text: str, source: str | None = "hin_Deva", target: str = ENG, **more: Any) -> Any:
    models = more.pop("models", (Echo("indic-en"), Echo("en-indic"), Echo("latn-indic")))
    result, _ = translate(Ask(items=[Item(text, source)], target=target, **more), *models)
    return result.translations[0]


def test_the_way_from_language_to_language() -> None:
    both: Any = {"en-indic": 1, "indic-en": 1, "latn-indic": 1}
    assert steps(HIN, HIN, both) == []
    assert steps(ENG, HIN, both) == [Step("en-indic", ENG, HIN)]
    assert steps(HIN, ENG, both) == [Step("indic-en", HIN, ENG)]
    assert steps(HIN, TAM, both) == [Step("indic-en", HIN, ENG), Step("en-indic", ENG, TAM)]
    assert steps(HIN, TAM, {**both, "indic-indic": 1}) == [Step("indic-indic", HIN, TAM)]
    assert steps("kas_Arab", "kas_Deva", both) == [Step(None, "kas_Arab", "kas_Deva")]
    assert steps("hin_Latn", HIN, both) == [Step("latn-indic", "hin_Latn", HIN)]
    assert steps("hin_Latn", ENG, both) == [Step("latn-indic", "hin_Latn", HIN), Step("indic-en", HIN, ENG)]


def test_what_no_model_can_do_names_the_one_to_install() -> None:
    have: Any = {"en-indic": 1}
    for source, target, name in (
        (HIN, ENG, "indictrans2-indic-en-dist-200m"),
        (HIN, TAM, "indictrans2-indic-en-dist-200m"),
        ("hin_Latn", HIN, "indictrans2-embedded"),
    ):
        with pytest.raises(NotInstalled, match=f"appliance models pull {name}") as caught:
            steps(source, target, have)
        assert (caught.value.status, caught.value.code) == (501, "not_installed")


def test_a_text_goes_through_and_says_how() -> None:
    done = one("घर")
    assert (done.text, done.source, done.via, done.confidence) == ("घर", HIN, ["echo-indic-en"], 0.5)
    done = one("घर", target=TAM)
    assert done.via == ["echo-indic-en", "echo-en-indic"]
    assert done.confidence == 0.25  # both have to be right


def test_same_language_passes_and_its_other_script_needs_no_model() -> None:
    done = one("as it is", ENG, ENG)
    assert (done.text, done.via, done.confidence) == ("as it is", [], None)
    done = one("سنڌ", "snd_Arab", "snd_Deva")
    assert done.via == ["transliteration-rules"] and done.text.strip() and not done.text.isascii()


def test_everything_between_sentences_stays_byte_for_byte() -> None:
    text = "  open it.\r\n\r\n\tclose it!  \n----------------\n\n"
    assert one(text, ENG, HIN, models=(Echo("en-indic"),)).text.upper() == text.upper()


@pytest.mark.parametrize("text", ["", "   \n", "12.5 %", "-" * 10_000, "🙂🙂", "\u202e\u2066", "."])
def test_what_holds_no_words_passes(text: str) -> None:
    model = Echo("en-indic")
    done = one(text, ENG, HIN, models=(model,))
    assert done.text.strip("\u202e\u2066") == text.strip("\u202e\u2066") and model.batches == []


def test_hostile_texts_end_and_nothing_is_lost() -> None:
    long = "क" * 33_000  # 100 kB without a space
    done = one(long, HIN, ENG)
    assert done.text.replace(" ", "") == long
    spaced = one("शब्द " * 2_000)
    assert spaced.text.split() == ["शब्द"] * 2_000
    assert one("घर \ud800 बड़ा").text == "घर बड़ा"  # a lone surrogate cannot be encoded: it is left out


def test_a_sentence_over_the_models_length_is_cut_and_whole() -> None:
    model = Echo("en-indic")
    words = [f"word{n}x" for n in range(3 * LONGEST_PIECES)]
    done = one(" ".join(words), ENG, HIN, models=(model,))
    assert done.text.lower().split() == words
    assert sum(model.batches) >= 3


def test_entities_survive_a_model_that_drops_them() -> None:
    text = "Pay ₹1,234.50 at https://x.in/a?b=1 or call +91 98765 43210 now."
    done = one(text, ENG, HIN, models=(Echo("en-indic", forgetful=True),))
    for entity in ("₹1,234.50", "https://x.in/a?b=1", "+91 98765 43210"):
        assert entity in done.text
    assert done.lost == [] and "entities_lost" not in done.issues


def test_html_and_markdown_keep_what_is_for_programs() -> None:
    html = '<p class="a">Open <b>it</b> now.</p><script>var open = 1;</script><pre>open()</pre>'
    done = one(html, ENG, HIN, models=(Echo("en-indic"),), mode="html")
    assert "<script>var open = 1;</script><pre>open()</pre>" in done.text
    assert done.text.startswith('<p class="a">') and "<b>" in done.text and "</b>" in done.text
    markdown = "# Open\n\n- close `x = 1` it\n\n```\nopen()\n```\n"
    done = one(markdown, ENG, HIN, models=(Echo("en-indic"),), mode="markdown")
    assert done.text.startswith("# ") and "`x = 1`" in done.text and done.text.endswith("```\nopen()\n```\n")


def test_alternatives_are_other_hypotheses_of_a_single_sentence() -> None:
    done = one("open", ENG, HIN, alternatives=2, models=(Echo("en-indic"),))
    assert len(done.alternatives) == 2 and done.text not in done.alternatives
    assert one("Open it. Close it.", ENG, HIN, alternatives=2, models=(Echo("en-indic"),)).alternatives == []


def test_a_stream_is_the_text_in_order_and_knows_how_far_it_is() -> None:
    text = "One is here. Two is there.\nThree."
    ask = Ask(items=[Item(text, ENG), Item("12", None)], target=HIN, stream=True)
    result, heard = translate(ask, Echo("en-indic"))
    assert "".join(d.text for d in heard if d.index == 0).upper() == text.upper()
    assert [d.text for d in heard if d.index == 1] == ["12"]
    assert [d.progress for d in heard] == sorted(d.progress for d in heard) and heard[-1].progress == 1.0
    assert [t.text for t in result.translations] == ["", ""]
    assert result.usage.characters == len(text) + 2 and result.usage.sentences == 3


def test_sentences_of_many_asks_share_batches_and_each_gets_its_own() -> None:
    model = Echo("en-indic", slow_s=0.01)

    async def go() -> list[str]:
        async with Running(model, max_batch=16) as job:
            asks = [Ask(items=[Item(f"number word{n}x here", ENG)], target=HIN) for n in range(64)]
            done = await asyncio.gather(*(job.run(ask, lambda d: None) for ask in asks))
            return [result.translations[0].text.lower() for result in done]

    assert asyncio.run(go()) == [f"number word{n}x here" for n in range(64)]
    assert len(model.batches) < 32


def test_people_go_before_bulk() -> None:
    model = Echo("en-indic", slow_s=0.02)
    order: list[str] = []

    async def go() -> None:
        async with Running(model, max_batch=2) as job:

            async def ask(text: str, bulk: bool) -> None:
                await job.run(Ask(items=[Item(text, ENG)], target=HIN, bulk=bulk), lambda d: None)
                order.append(text)

            bulk = [asyncio.ensure_future(ask(f"bulk number{n}x", True)) for n in range(20)]
            await asyncio.sleep(0.01)
            await ask("somebody waits", False)
            await asyncio.gather(*bulk)

    asyncio.run(go())
    assert order.index("somebody waits") <= 6


def test_a_deadline_in_the_queue_is_the_callers_error() -> None:
    async def go() -> None:
        async with Running(Echo("en-indic", slow_s=0.2), max_batch=1) as job:
            first = asyncio.ensure_future(job.run(Ask(items=[Item("one", ENG)], target=HIN), lambda d: None))
            await asyncio.sleep(0.05)
            with pytest.raises(DeadlineExceeded):
                await job.run(Ask(items=[Item("two", ENG)], target=HIN, deadline_s=0.05), lambda d: None)
            await first

    asyncio.run(go())


def test_a_sentence_that_was_cut_short_is_named() -> None:
    words = " ".join(f"w{n}x" for n in range(120))
    assert "truncated" in one(words, ENG, HIN, models=(Echo("en-indic"),)).issues
