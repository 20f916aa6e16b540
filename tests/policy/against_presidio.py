"""The detector beside Presidio's recognisers on the generated corpora of ``lookalikes.py``. A script, not a test.

In a virtual environment of its own (presidio-analyzer brings spaCy, which nothing here needs), from the repository:

    python -m venv V && V/bin/pip install presidio-analyzer msgspec
    PYTHONPATH=.:tests V/bin/python tests/policy/against_presidio.py > benchmarks/results/personal-data-DATE.json

Presidio's pattern recognisers are asked as they come, without its context enhancer (which needs a language model and
raises scores of the same finds, so that only the line at 0.4 could change).
"""

from __future__ import annotations

import datetime
import json
import random
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from policy import lookalikes as numbers

from appliance.policy.personal import Kind, find

Finder = Callable[[str], list[str]]
_RECALL, _WAYBILLS, _SLOW_WAYBILLS = 1000, 100_000, 5000


def main() -> None:
    """Print one JSON object."""
    sides: dict[str, tuple[Finder, int]] = {
        "appliance, tenant's formats declared": (_ours(numbers.FORMATS), _WAYBILLS),
        "appliance, no formats": (_ours(()), _WAYBILLS),
        "presidio, any score": (_presidio(0.0), _SLOW_WAYBILLS),
        "presidio, score 0.4 and up": (_presidio(0.4), _SLOW_WAYBILLS),
    }
    result = {
        "suite": "personal-data",
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "presidio_analyzer": version("presidio-analyzer"),
        "recall_sentences_per_kind": _RECALL,
        "sides": {name: {**_recall(side), **_false_hits(side, size)} for name, (side, size) in sides.items()},
    }
    print(json.dumps(result, indent=1))


def _ours(formats: Any) -> Finder:
    return lambda text: [text[one.start : one.end] for one in find(text, formats=formats)]


def _presidio(least: float) -> Finder:
    from presidio_analyzer import predefined_recognizers as known

    names = ("InAadhaar", "InPan", "InPassport", "InVoter", "InGstin", "Email", "CreditCard")
    recognizers = [getattr(known, f"{name}Recognizer")() for name in names]
    recognizers.append(known.PhoneRecognizer(supported_regions=("IN",)))

    def search(text: str) -> list[str]:
        hits = (hit for r in recognizers for hit in r.analyze(text, r.supported_entities, None) or ())
        return [text[hit.start : hit.end] for hit in hits if hit.score >= least]

    return search


def _recall(side: Finder) -> dict[str, Any]:
    recall = {}
    for kind in Kind:
        rng = random.Random(f"recall {kind}")
        made = [numbers.personal(rng, kind) for _ in range(_RECALL)]
        recall[kind.value] = sum(any(value in shown for shown in side(text)) for text, value in made) / _RECALL
    return {"recall": recall}


def _false_hits(side: Finder, size: int) -> dict[str, Any]:
    rng = random.Random("waybills")
    texts = []
    for n in range(size):
        number = rng.choice(numbers.SHAPES)(rng)
        texts.append(number if n % 10 == 0 else rng.choice(numbers.ORDERED).format(number))
    began = time.perf_counter()
    hits = sum(bool(side(text)) for text in texts)
    spent_s = time.perf_counter() - began
    return {"waybills": size, "false_hits": hits, "false_hit_share": hits / size, "mean_us": spent_s / size * 1e6}


if __name__ == "__main__":
    main()
