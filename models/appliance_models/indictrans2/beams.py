"""What more beams win and what they cost: ``python -m appliance_models.indictrans2.beams MODEL PAIRS [OUT]``.

What it is: held-out pairs (tag, English, Indic a line) through the converted directories ``MODEL/en-indic`` and
``MODEL/indic-en`` with 1, 2 and 5 beams on one CPU thread: chrF, seconds, and the interval of the difference in chrF
between 5 beams and 1 from 200 draws of the pairs.
What it refuses to be: a statement about other models than the one it is given.
What it costs: half a minute for the embedded model and 500 pairs.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appliance_models.indictrans2 import convert, processor
from appliance_models.indictrans2.tokenizer import Tokenizer

BEAMS = (1, 2, 5)
BATCH, DRAWS, ROUNDS = 32, 200, 3
Ask = tuple[processor.Prepared, str]


def asks(pairs: Path, way: str) -> list[Ask]:
    """Sentences that stay one line, and their references."""
    found = []
    for line in pairs.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        tag, english, indic = line.split("\t")
        text, source, target = (english, "eng_Latn", tag) if way == "en-indic" else (indic, tag, "eng_Latn")
        prepared = processor.prepare(text, source, target)
        if len(prepared.lines) == 1:
            found.append((prepared, indic if way == "en-indic" else english))
    return found


def translate(directory: Path, asked: Sequence[Ask], beams: int) -> tuple[list[str], float]:
    """Texts, and the median of ``ROUNDS`` times in seconds; batches of one length, as the host makes them."""
    tokenizer, translator = Tokenizer(directory), convert.translator(directory, compute_type="int8")
    pieces = [tokenizer.source_pieces(prepared.lines[0]) for prepared, _ in asked]
    order = sorted(range(len(pieces)), key=lambda n: len(pieces[n]))
    out: dict[int, list[str]] = {}
    seconds = []
    for _ in range(1 + ROUNDS):
        began = time.perf_counter()
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            results: list[Any] = translator.translate_batch(
                [pieces[n] for n in batch], beam_size=beams, max_decoding_length=256, disable_unk=True
            )
            out |= {n: result.hypotheses[0] for n, result in zip(batch, results, strict=True)}
        seconds.append(time.perf_counter() - began)
    lines = [tokenizer.target.join(out[n]) for n in range(len(pieces))]
    texts = [processor.finish(prepared, [line]).text for (prepared, _), line in zip(asked, lines, strict=True)]
    return texts, statistics.median(seconds[1:])


def chrf(texts: Sequence[str], references: Sequence[str]) -> float:
    """Of the whole corpus."""
    import sacrebleu

    return float(sacrebleu.corpus_chrf(texts, [references]).score)


def compare(model: Path, pairs: Path, way: str) -> dict[str, Any]:
    """One direction."""
    asked = asks(pairs, way)
    references = [reference for _, reference in asked]
    found = {beams: translate(model / way, asked, beams) for beams in BEAMS}
    rng, differences = random.Random(1), []
    for _ in range(DRAWS):
        drawn = rng.choices(range(len(asked)), k=len(asked))
        most, one = (chrf([found[b][0][n] for n in drawn], [references[n] for n in drawn]) for b in (BEAMS[-1], 1))
        differences.append(most - one)
    differences.sort()
    return {
        "sentences": len(asked),
        **{
            f"beam_{beams}": {"chrf": round(chrf(texts, references), 2), "seconds": round(seconds, 2)}
            for beams, (texts, seconds) in found.items()
        },
        "beam_5_minus_1": [round(differences[int(DRAWS * share)], 2) for share in (0.025, 0.975)],
    }


def main(arguments: list[str]) -> None:
    """Measure, print, and write where a directory for results is given."""
    model, pairs = Path(arguments[0]), Path(arguments[1])
    results: dict[str, Any] = {"bench": "beams", "model": model.name, "threads": 1, "compute_type": "int8"}
    results |= {way: compare(model, pairs, way) for way in ("en-indic", "indic-en")}
    print(json.dumps(results, indent=1))
    if len(arguments) > 2:
        path = Path(arguments[2]) / f"beams-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
        path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
