"""chrF of a direction, by tag, on pairs that training never saw.

What it is: prepare, translate, finish, compare, exactly as at run time; plus the macro mean over tags with at least
200 pairs. What it refuses to be: a leader board. A quick figure on a few development pairs is printed while training.
What it costs: about a minute of one core for the 11k pairs of the test set on the converted model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgspec
import sacrebleu

from appliance_models.indictrans2.processor import finish, prepare
from appliance_models.indictrans2.tags import ENGLISH
from appliance_models.indictrans2.training.corpus import Pair
from appliance_models.indictrans2.training.dataset import Direction

SCORED_FROM = 200
# Prepared lines in, one output line each.
Translate = Callable[[Sequence[str]], list[str]]


class Score(msgspec.Struct, frozen=True):
    """chrF of one tag and the number of pairs."""

    chrf: float
    pairs: int


class Scores(msgspec.Struct, frozen=True):
    """All tags, and the macro mean over those with enough pairs."""

    macro: float
    tags: dict[str, Score]


def translate_texts(texts: Sequence[str], source: str, target: str, translate: Translate) -> list[str]:
    """Whole texts through processor and model."""
    prepared = [prepare(text, source, target) for text in texts]
    outputs = iter(translate([line for p in prepared for line in p.lines]))
    return [finish(p, [next(outputs) for _ in p.lines]).text for p in prepared]


def score(pairs: Sequence[Pair], direction: Direction, translate: Translate) -> Scores:
    """chrF (sacrebleu's default: character 6-grams, beta 2) of every tag."""
    tags: dict[str, Score] = {}
    for tag in sorted({pair.tag for pair in pairs}):
        some = [pair for pair in pairs if pair.tag == tag]
        english, indic = [p.english for p in some], [p.indic for p in some]
        if direction == "en-indic":
            got, wanted = translate_texts(english, ENGLISH, tag, translate), indic
        else:
            got, wanted = translate_texts(indic, tag, ENGLISH, translate), english
        tags[tag] = Score(round(sacrebleu.corpus_chrf(got, [wanted]).score, 2), len(some))
    counted = [s.chrf for s in tags.values() if s.pairs >= SCORED_FROM]
    return Scores(round(sum(counted) / len(counted), 2) if counted else 0.0, tags)


def sample(pairs: Sequence[Pair], count: int, seed: int) -> list[Pair]:
    """A seeded sample, the same at every call."""
    return random.Random(seed).sample(list(pairs), min(count, len(pairs)))
