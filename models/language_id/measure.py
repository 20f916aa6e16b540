"""How good and how fast the language identifier is: ``make measure-language-id DATA=…/en-indic.tsv.xz``.

What it is: accuracy by tag on the held-out part (sentences of five words and more, an abstention counts as wrong),
confusion, calibration, the hand-written sets of ``tests/data/language_id``, and milliseconds for 200 characters.
What it refuses to be: a comparison. ``compare.py`` runs other packages on the same texts, from a venv of their own.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from corpus import UNKNOWN, Sample, read

from appliance.language_id import Identified, Identifier
from appliance.language_id.model import MODEL, load

HAND_WRITTEN = Path(__file__).resolve().parents[2] / "tests" / "data" / "language_id"
WORDS, ENOUGH = 5, 200
_MILLISECONDS = 1000.0


def name_of(label: str, script: str) -> str:
    """``hin_Latn`` for Hindi in Latin letters, ``none`` for what should be abstained from."""
    return "none" if label == UNKNOWN else label if label[4:] == script else f"{label[:3]}_{script}"


def answered(found: Identified) -> str:
    """An answer under the same names."""
    return "none" if found.tag is None else name_of(found.tag, "Latn" if found.romanised else found.tag[4:])


def sentences(samples: Iterable[Sample]) -> list[tuple[str, str]]:
    """Name and text of each that has five words."""
    return [(name_of(s.label, s.script), s.text) for s in samples if len(s.text.split()) >= WORDS]


def hand_written(name: str) -> list[tuple[str, str]]:
    """Name and text of each line of a hand-written file."""
    lines = (HAND_WRITTEN / name).read_text("utf-8").splitlines()
    pairs = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return [(label, text) for label, text in pairs]


def accuracy(pairs: list[tuple[str, str]], answer: Callable[[str], str], enough: int) -> dict[str, Any]:
    """Right answers by name, the mean over names with ``enough`` texts, and what was taken for what."""
    total: Counter[str] = Counter()
    right: Counter[str] = Counter()
    taken: Counter[tuple[str, str]] = Counter()
    for truth, text in pairs:
        found = answer(text)
        total[truth] += 1
        right[truth] += found == truth
        if found != truth:
            taken[truth, found] += 1
    by_name = {name: round(right[name] / n, 4) for name, n in sorted(total.items())}
    scored = [share for name, share in by_name.items() if total[name] >= enough and name != "none"]
    return {
        "macro": round(sum(scored) / max(1, len(scored)), 4),
        "scored": len(scored),
        "by_name": {name: [share, total[name]] for name, share in by_name.items()},
        "confusions": [[a, b, n, round(n / total[a], 4)] for (a, b), n in taken.most_common(20)],
    }


def calibration(pairs: list[tuple[str, str]], identifier: Identifier) -> list[list[float]]:
    """Mean confidence, share right and how many, by tenths of confidence; what a script settles is left out."""
    boxes: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for truth, text in pairs:
        found = identifier.identify(text)
        if found.tag is not None and found.confidence < 1.0:
            boxes[int(found.confidence * 10)].append((found.confidence, answered(found) == truth))
    return [
        [round(sum(c for c, _ in box) / len(box), 3), round(sum(ok for _, ok in box) / len(box), 3), len(box)]
        for _, box in sorted(boxes.items())
    ]


def speed(pairs: list[tuple[str, str]], identifier: Identifier) -> dict[str, dict[str, float]]:
    """p50 and p95 in milliseconds by script, over many different texts of 200 characters, each seen once."""
    by_script: dict[str, list[str]] = defaultdict(list)
    for name, text in pairs:
        by_script[name[4:]].append(text)
    found = {}
    for script, texts in sorted(by_script.items()):
        rng = random.Random(script)
        joined = [" ".join(rng.choice(texts) for _ in range(20))[:200] for _ in range(2000)]
        taken = []
        for text in joined:
            began = time.perf_counter()
            identifier.identify(text)
            taken.append((time.perf_counter() - began) * _MILLISECONDS)
        taken.sort()
        found[script] = {"p50_ms": round(taken[1000], 4), "p95_ms": round(taken[1900], 4)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--texts", type=Path, help="write the tested texts here, for compare.py")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    identifier = Identifier(load(options.model))
    corpus = read(options.data, options.seed)
    held_out = sentences(corpus.test)
    short = [(name_of(s.label, s.script), s.text) for s in corpus.test if len(s.text.split()) < WORDS]
    native, latin = hand_written("native.tsv"), hand_written("romanised.tsv")

    def answer(text: str) -> str:
        return answered(identifier.identify(text))

    report = {
        "held_out": accuracy(held_out, answer, ENOUGH),
        "held_out_short": accuracy(short, answer, ENOUGH),
        "hand_written_native": accuracy(native, answer, 1),
        "hand_written_romanised": accuracy(latin, answer, 1),
        "calibration": calibration(held_out + short, identifier),
        "speed_200_characters": speed(held_out, identifier),
    }
    print(json.dumps(report, ensure_ascii=False, indent=1))
    if options.results:
        options.results.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", "utf-8")
    if options.texts:
        sets = {"held_out": held_out, "native": native, "romanised": latin}
        lines = [f"{where}\t{name}\t{text}\n" for where, pairs in sets.items() for name, text in pairs]
        options.texts.write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main()
