"""The detector beside Presidio's recognisers on two generated corpora, ``lookalikes`` and ``heldout``. A script.

In a virtual environment of its own (presidio-analyzer brings spaCy, which nothing here needs), from the repository:

    python -m venv V && V/bin/pip install presidio-analyzer msgspec
    PYTHONPATH=.:tests V/bin/python tests/policy/against_presidio.py > benchmarks/results/personal-data-DATE.json

Presidio's pattern recognisers are asked as they come, without its context enhancer (which needs a language model and
raises scores of the same finds, so that only the line at 0.4 could change), and without the turn before, for which it
has no place. The rules of the detector were developed with ``lookalikes``, not with ``heldout``.
"""

from __future__ import annotations

import datetime
import json
import random
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

from policy import heldout
from policy import lookalikes as numbers

from appliance.policy.personal import Kind, find

# a turn and the turn before it -> what was found in it
Finder = Callable[[str, str], list[str]]
_RECALL, _WAYBILLS = 1000, 100_000


def main() -> None:
    """Print one JSON object."""
    result = {
        "suite": "personal-data",
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "presidio_analyzer": version("presidio-analyzer"),
        "recall_sentences_per_kind": _RECALL,
        "numbers": _WAYBILLS,
        "developed with (lookalikes)": {
            name: {**_recall(side, _lookalike), **_false_hits(side, _lookalike_number)}
            for name, side in _sides(numbers.FORMATS).items()
        },
        "held out (heldout)": {
            name: {**_recall(side, heldout.personal), **_false_hits(side, _heldout_number)}
            for name, side in _sides(heldout.FORMATS).items()
        },
    }
    print(json.dumps(result, indent=1))


def _sides(formats: Any) -> dict[str, Finder]:
    return {
        "appliance, tenant's formats declared": _ours(formats),
        "appliance, no formats": _ours(()),
        "presidio, any score": _presidio(0.0),
        "presidio, score 0.4 and up": _presidio(0.4),
    }


def _ours(formats: Any) -> Finder:
    return lambda text, asked: [text[one.start : one.end] for one in find(text, asked=asked, formats=formats)]


def _presidio(least: float) -> Finder:
    from presidio_analyzer import predefined_recognizers as known

    # InVehicleRegistration is left out: no kind here is a number plate, so that it could only add false hits
    names = ("InAadhaar", "InPan", "InPassport", "InVoter", "InGstin", "Email", "CreditCard")
    recognizers = [getattr(known, f"{name}Recognizer")() for name in names]
    recognizers.append(known.PhoneRecognizer(supported_regions=("IN",)))

    def search(text: str, asked: str) -> list[str]:
        hits = (hit for r in recognizers for hit in r.analyze(text, r.supported_entities, None) or ())
        return [text[hit.start : hit.end] for hit in hits if hit.score >= least]

    return search


def _lookalike(rng: random.Random, kind: Kind) -> tuple[str, str, str]:
    text, value = numbers.personal(rng, kind)
    return text, "", value


def _lookalike_number() -> Iterator[tuple[str, str]]:
    rng = random.Random("waybills")
    for n in range(_WAYBILLS):
        number = rng.choice(numbers.SHAPES)(rng)
        yield number if n % 10 == 0 else rng.choice(numbers.ORDERED).format(number), ""


def _heldout_number() -> Iterator[tuple[str, str]]:
    rng = random.Random("score numbers")
    for _ in range(_WAYBILLS):
        text, asked, _ = heldout.number(rng)
        yield text, asked


def _recall(side: Finder, make: Callable[[random.Random, Kind], tuple[str, str, str]]) -> dict[str, Any]:
    recall = {}
    for kind in Kind:
        rng = random.Random(f"recall {kind}")
        made = [make(rng, kind) for _ in range(_RECALL)]
        hits = sum(any(value in shown for shown in side(text, asked)) for text, asked, value in made)
        recall[kind.value] = hits / _RECALL
    return {"recall": recall}


def _false_hits(side: Finder, make: Callable[[], Iterator[tuple[str, str]]]) -> dict[str, Any]:
    texts = list(make())
    began = time.perf_counter()
    hits = sum(bool(side(text, asked)) for text, asked in texts)
    spent_s = time.perf_counter() - began
    return {"false_hits": hits, "false_hit_share": hits / len(texts), "mean_us": round(spent_s / len(texts) * 1e6, 1)}


if __name__ == "__main__":
    main()
