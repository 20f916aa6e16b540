from __future__ import annotations

import itertools
import math

import msgspec
import torch

from appliance_models.indictrans2.generate import translate_ids

from .conftest import TINY, random_model

SMALL = msgspec.structs.replace(TINY, encoder_vocab_size=40, decoder_vocab_size=9)


def log_probability(model: torch.nn.Module, source: list[int], ids: tuple[int, ...]) -> float:
    """Of the whole sentence with its end, given that it is not empty and ``<unk>`` is impossible."""
    logits = model(torch.tensor([source]), torch.tensor([[2, *ids]]))[0]
    logits[:, 3] = logits[0, 2] = -math.inf
    steps = logits.log_softmax(-1)
    return float(sum(steps[i, token].detach() for i, token in enumerate([*ids, 2])))


def test_a_beam_as_wide_as_the_space_finds_the_best_sentence() -> None:
    model = random_model(SMALL)
    source = [20, 21, 2]
    (best,) = translate_ids(model, [source], beams=80, max_tokens=4, length_penalty=1.0)
    tokens = [t for t in range(9) if t not in (2, 3)]
    every = [ids for n in (1, 2) for ids in itertools.product(tokens, repeat=n)]
    wanted = max(every, key=lambda ids: log_probability(model, source, ids) / (len(ids) + 1))
    if len(best.ids) <= 2:
        assert best.ids == wanted
    assert best.score >= log_probability(model, source, wanted) / (len(wanted) + 1) - 1e-5


def test_a_score_is_the_mean_log_probability() -> None:
    model = random_model(SMALL)
    for source in ([20, 21, 2], [5, 6, 7, 8, 2]):
        (found,) = translate_ids(model, [source], beams=5, max_tokens=30)
        assert 3 not in found.ids and 2 not in found.ids
        if len(found.ids) < 30:
            mean = log_probability(model, source, found.ids) / (len(found.ids) + 1)
            assert math.isclose(found.score, mean, abs_tol=1e-4)


def test_a_batch_gives_what_each_sentence_gives_alone() -> None:
    model = random_model(SMALL)
    sources = [[20, 21, 2], [5, 6, 7, 8, 30, 2], [9, 2]]
    together = translate_ids(model, sources, beams=5, max_tokens=20)
    alone = [translate_ids(model, [source], beams=5, max_tokens=20)[0] for source in sources]
    assert [h.ids for h in together] == [h.ids for h in alone]


def test_generation_ends_at_the_limit() -> None:
    (found,) = translate_ids(random_model(SMALL), [[20, 2]], beams=2, max_tokens=3)
    assert len(found.ids) <= 3
