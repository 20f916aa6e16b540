"""What answers are worth beside how fast they came: chrF, word error rate, and whether an answer holds what it should.

What it is: the corpus figures of a run's texts against their references. ``chrf`` is sacrebleu's default (character
n-grams up to 6, beta 2, effective order), in plain Python: a server that tunes itself has no development packages.
What it refuses to be: a judge. Figures are compared between configurations on the same requests, by a gate in
``search``.
What it costs: 0.2 ms a sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from appliance_bench import wer

_ORDER, _BETA = 6, 2.0


def chrf(texts: Sequence[str], references: Sequence[str]) -> float:
    """Corpus chrF of 0 to 100."""
    totals = [[0, 0, 0] for _ in range(_ORDER)]
    for text, reference in zip(texts, references, strict=True):
        for order, total in enumerate(totals, 1):
            ours, theirs = _grams(text, order), _grams(reference, order)
            total[0] += sum(ours.values()) if theirs else 0
            total[1] += sum(theirs.values())
            total[2] += sum((ours & theirs).values())
    score, effective = 0.0, 0
    for ours_n, theirs_n, both in totals:
        if ours_n and theirs_n:
            precision, recall = both / ours_n, both / theirs_n
            below = _BETA**2 * precision + recall
            score += (1 + _BETA**2) * precision * recall / below if below else 0.0
            effective += 1
    return 100 * score / effective if effective else 0.0


def _grams(text: str, order: int) -> Counter[str]:
    joined = "".join(text.split())
    return Counter(joined[at : at + order] for at in range(len(joined) - order + 1))


def word_errors(texts: Sequence[str], references: Sequence[str]) -> float:
    """WER in percent."""
    return wer.rate([wer.errors(reference, text) for text, reference in zip(texts, references, strict=True)])


def holds(texts: Sequence[str], references: Sequence[str]) -> float:
    """Percent of texts that hold what is expected, whatever the case; those with no expectation are left out."""
    wanted = [(text, reference) for text, reference in zip(texts, references, strict=True) if reference]
    if not wanted:
        return 100.0
    return 100.0 * sum(reference.lower() in text.lower() for text, reference in wanted) / len(wanted)


MEASURES = {"chrf": chrf, "wer": word_errors, "holds": holds}
