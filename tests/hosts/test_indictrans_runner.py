"""The runner against the PyTorch module's own beam search: the embedded model, real sentences, any order of arrival.

``make test-slow`` sets RUNNER_SENTENCES=300 and takes minutes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from appliance.hosts.indictrans_pool import Pool, Room, size
from appliance.hosts.indictrans_runner import Runner, Sentence
from appliance_models.indictrans2 import dequantize
from appliance_models.indictrans2.generate import Hypothesis, translate_ids
from appliance_models.indictrans2.model import IndicTrans
from appliance_models.indictrans2.processor import prepare
from appliance_models.indictrans2.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models/appliance_models/embedded/indictrans2-embedded/en-indic"
SENTENCES = int(os.environ.get("RUNNER_SENTENCES", "24"))
SCHEDULES = 10
ROOM = Room(slots=8, beams=5, longest=128, source=161)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # so small a model is slower on more


@pytest.fixture(scope="module")
def model() -> IndicTrans:
    return dequantize.load(MODEL)


@pytest.fixture(scope="module")
def sources() -> list[list[int]]:
    """Held-out sentences of all lengths and languages."""
    tokenizer = Tokenizer(MODEL)
    rows = (ROOT / "tests/data/indictrans2/held-out.tsv").read_text(encoding="utf-8").splitlines()[1:]
    random.Random(3).shuffle(rows)
    tagged = [row.split("\t")[:2] for row in rows[:SENTENCES]]
    found = [tokenizer.source_ids(prepare(english, "eng_Latn", tag).lines[0]) for tag, english in tagged]
    assert len(found) == SENTENCES
    return found


def most(ids: Sequence[int]) -> int:
    return min(ROOM.longest, 2 * len(ids) + 8)


@pytest.fixture(scope="module")
def wanted(model: IndicTrans, sources: list[list[int]]) -> list[Hypothesis]:
    """What the module's own search finds, each sentence alone."""
    return [translate_ids(model, [ids], 5, most(ids))[0] for ids in sources]


def test_the_module_s_hypotheses_at_any_order_of_arrival(
    model: IndicTrans, sources: list[list[int]], wanted: list[Hypothesis]
) -> None:
    same = together = 0
    for seed in range(SCHEDULES):
        rng = random.Random(seed)
        runner = Runner(model, ROOM, most_tokens=rng.choice((64, 512, 4096)), ahead=seed % 2 == 1)
        todo = list(range(len(sources)))
        rng.shuffle(todo)
        number: dict[Sentence, int] = {}
        found: dict[int, tuple[tuple[int, ...], float]] = {}
        while todo or runner.busy:
            for _ in range(min(len(todo), rng.choice((0, 0, 1, 2, 7)))):
                sentence = Sentence(sources[todo[-1]], most(sources[todo[-1]]))
                number[sentence] = todo.pop()
                runner.add(sentence, rng.random())
            together = max(together, ROOM.slots - runner.free)
            for done in runner.turn():
                assert number[done.sentence] not in found, "a sentence came twice"
                (found[number[done.sentence]],) = done.hypotheses
        assert sorted(found) == list(range(len(sources))), "a sentence was lost"
        assert runner.free == ROOM.slots
        for n, (ids, score) in found.items():
            same += ids == wanted[n].ids
            assert abs(score - wanted[n].score) < 1e-4
    assert same >= 0.99 * SCHEDULES * len(sources)
    assert together == ROOM.slots, "no schedule had the slots full"


@pytest.mark.parametrize("ahead", [False, True])
def test_whoever_is_dropped_frees_a_slot_and_changes_nobody(
    model: IndicTrans, sources: list[list[int]], wanted: list[Hypothesis], ahead: bool
) -> None:
    runner = Runner(model, Room(3, 5, 128, 161), ahead=ahead)
    sentences = [Sentence(ids, most(ids)) for ids in sources[:10]]
    for sentence in sentences[:7]:
        runner.add(sentence, 0.0)
    found = runner.turn()
    assert runner.free == 0 and runner.waiting == 4
    under_way = [s for s in sentences if s.slot >= 0 and s not in {each.sentence for each in found}]
    queued = [s for s in sentences[:7] if s.slot < 0]
    runner.drop(under_way[0])
    runner.drop(queued[0])
    runner.drop(under_way[0])  # twice is once
    assert runner.free == 1 and runner.waiting == 3
    for sentence in sentences[7:]:  # one of them takes the slot while the old round is still on its way
        runner.add(sentence, -1.0)
    while runner.busy:
        found += runner.turn()
    gone = {under_way[0], queued[0]}
    assert {each.sentence for each in found} == set(sentences) - gone
    assert len(found) == len(sentences) - len(gone) and runner.free == 3
    for each in found:
        assert each.hypotheses[0][0] == wanted[sentences.index(each.sentence)].ids


@pytest.mark.parametrize("beams", [1, 2])
def test_other_numbers_of_beams_and_the_limit(model: IndicTrans, sources: list[list[int]], beams: int) -> None:
    """Also ends by the limit, where every beam is a hypothesis, and limits of one token."""
    runner = Runner(model, Room(4, beams, 16, 161))
    sentences = [Sentence(ids, limit) for ids in sources[:4] for limit in (1, 3, 16)]
    for sentence in sentences:
        runner.add(sentence, 0.0)
    found: dict[Sentence, list[tuple[tuple[int, ...], float]]] = {}
    while runner.busy:
        found |= {each.sentence: each.hypotheses for each in runner.turn()}
    for sentence in sentences:
        (best,) = translate_ids(model, [sentence.ids], beams, sentence.most)
        assert found[sentence][0][0] == best.ids
        assert found[sentence][0][1] == pytest.approx(best.score, abs=1e-4)
        assert len(best.ids) <= sentence.most


def test_alternatives_are_the_best_in_order_and_all_different(model: IndicTrans, sources: list[list[int]]) -> None:
    runner = Runner(model, ROOM)
    runner.add(Sentence(sources[0], 64, wanted=4), 0.0)
    runner.add(Sentence(sources[1], 64, wanted=9), 0.0)  # more than beams: as many as there are
    found = []
    while runner.busy:
        found += runner.turn()
    for each in found:
        assert len(each.hypotheses) == min(each.sentence.wanted, 5)
        scores = [score for _, score in each.hypotheses]
        assert scores == sorted(scores, reverse=True)
        assert len({ids for ids, _ in each.hypotheses}) == len(each.hypotheses)


def test_what_no_slot_has_room_for_is_refused(model: IndicTrans) -> None:
    runner = Runner(model, Room(1, 2, 16, 20))
    for ids, limit in (([5] * 21, 4), ([], 4), ([5], 17), ([5], 0)):
        with pytest.raises(ValueError, match="a slot holds 20 tokens and writes 16"):
            runner.add(Sentence(ids, limit), 0.0)
    assert not runner.busy
    with pytest.raises(ValueError, match="256 positions"):
        Runner(model, Room(1, 2, 257, 20))


def test_the_size_of_a_pool_is_what_it_takes(model: IndicTrans) -> None:
    room = Room(3, 2, 10, 20)
    pool = Pool(model.config, room, "cpu", torch.float32)
    taken = sum(t.nbytes for t in (pool.keys, pool.values, pool.source_keys, pool.source_values))
    assert size(model.config, room, 4) == taken
