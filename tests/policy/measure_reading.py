"""What is read of every turn, measured: how long intent and personal data take, and how good both are. A script.

    make measure-policy        writes benchmarks/results/policy-reading-DATE.json

Turns of 200 characters in six languages and romanised, each seen once (as a gateway sees a new turn; one that was read
before is found by its hash). Times are of one core: as they passed, and of the CPU alone where others disturb.

Personal data is scored twice. On ``lookalikes``, which the rules were developed with (other seeds), every number is the
first thing that anybody says; a bare ten-digit number is then the same string in both sets, so that no rule has both
goals. On ``heldout``, written apart and not developed with, nine bare numbers in ten answer a question.
"""

from __future__ import annotations

import datetime
import json
import random
import statistics
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from policy import heldout
from policy import lookalikes as numbers

from appliance.language_id import identify
from appliance.pipeline.reading import Reader
from appliance.policy.examples import check, parse
from appliance.policy.intent_training import cross_validate, train
from appliance.policy.personal import Kind, find

ROOT = Path(__file__).parents[2]
_TURN, _TURNS = 200, 1500
_RECALL, _WAYBILLS = 1000, 100_000
_HELD_OUT = 5000
_SCRIPTS = {"Latn": "LATIN", "Deva": "DEVANAGARI", "Taml": "TAMIL", "Telu": "TELUGU", "Beng": "BENGALI"}


def main() -> None:
    """Write the JSON, whose path is printed."""
    examples = []
    for path in sorted((ROOT / "docs/examples/intents").glob("*.toml")):
        examples += parse(path.read_text(encoding="utf-8"), path.name)
    held = cross_validate(check(examples), 5)
    model = train(examples, held.temperature, held.threshold)
    turns = _turns([one.text for one in examples])

    def both(turn: str) -> None:
        model.recognise(turn)
        find(turn, formats=numbers.FORMATS)

    reader = Reader(identify, lambda tenant, text: (model.recognise(text).intent, 1.0))
    messages = [[{"role": "user", "content": turn}] for turn in turns]
    for one in messages:
        reader.personal(one, numbers.FORMATS, "all")
    result = {
        "suite": "policy-reading",
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "make measure-policy",
        "turns": {"characters": _TURN, "number": _TURNS},
        "microseconds": {
            "intent": _times(model.recognise, turns),
            "personal data": _times(lambda turn: find(turn, formats=numbers.FORMATS), turns),
            "both": _times(both, turns),
            "personal data, read before": _times(lambda m: reader.personal(m, numbers.FORMATS, "all"), messages),
            "language": _times(identify, turns[:300]),
        },
        "microseconds of both, by script": {
            script: _times(both, _turns(texts)) for script, texts in _by_script([one.text for one in examples]).items()
        },
        "intents": {
            "examples": held.examples,
            "folds": held.folds,
            "macro_f1": round(held.macro_f1, 4),
            "abstained": round(held.abstained, 4),
            "right_of_answers": round(held.right, 4),
            "macro_f1_without_abstaining": round(held.macro_f1_without_abstaining, 4),
            "none_kept": held.none_kept,
            "threshold": held.threshold,
        },
        "personal_data": {
            "recall, no formats": _recall(()),
            "recall, own formats declared": _recall(numbers.FORMATS),
            "recall, own formats declared, said with a word for it": _recall(numbers.FORMATS, bare=False),
            "false hits, no formats": _false(()),
            "false hits, own formats declared": _false(numbers.FORMATS),
        },
        "personal_data, held out": {
            "seed": "score",
            "sentences a kind": _HELD_OUT,
            "numbers": _WAYBILLS,
            "bare numbers that answer a question": heldout.ANSWERS,
            "no formats": _held_out(()),
            "broad formats": _held_out(heldout.FORMATS),
        },
    }
    day = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    path = ROOT / f"benchmarks/results/policy-reading-{day}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(path.relative_to(ROOT))
    json.dump(result["microseconds"], sys.stdout, indent=1)


def _turns(texts: Sequence[str]) -> list[str]:
    """Turns as people write them: several sentences, and in every fourth a number."""
    rng = random.Random("turns")
    made = []
    for n in range(_TURNS):
        turn = "" if n % 4 else numbers.personal(rng, rng.choice(list(Kind)))[0] + ". "
        while len(turn) < _TURN:
            turn += rng.choice(texts) + ". "
        made.append(turn[:_TURN])
    return made


def _times(read: Callable[[Any], Any], turns: Sequence[Any]) -> dict[str, float]:
    for turn in turns[:50]:
        read(turn)
    passed, spent = [], []
    for turn in turns:
        began, cpu = time.perf_counter_ns(), time.thread_time_ns()
        read(turn)
        spent.append(time.thread_time_ns() - cpu)
        passed.append(time.perf_counter_ns() - began)
    return {
        "p50": round(statistics.median(passed) / 1000, 1),
        "p99": round(statistics.quantiles(passed, n=100)[98] / 1000, 1),
        "cpu_p50": round(statistics.median(spent) / 1000, 1),
    }


def _recall(formats: Any, bare: bool = True) -> dict[str, float]:
    found = {}
    for kind in Kind:
        rng = random.Random(f"recall {kind}")
        made: Iterable[tuple[str, str]] = (numbers.personal(rng, kind) for _ in range(_RECALL))
        made = [(text, value) for text, value in made if bare or any(c.isalpha() for c in text.replace(value, ""))]
        hits = sum(any(value in text[p.start : p.end] for p in find(text, formats=formats)) for text, value in made)
        found[kind.value] = round(hits / len(made), 4)
    return found


def _false(formats: Any) -> float:
    rng = random.Random("waybills")
    hits = 0
    for n in range(_WAYBILLS):
        number = rng.choice(numbers.SHAPES)(rng)
        hits += bool(find(number if n % 10 == 0 else rng.choice(numbers.ORDERED).format(number), formats=formats))
    return hits / _WAYBILLS


def _by_script(texts: Sequence[str]) -> dict[str, list[str]]:
    """Examples by the script of most of their letters; scripts with fewer than 20 are left out."""
    found: dict[str, list[str]] = {}
    for script, name in _SCRIPTS.items():
        for text in texts:
            marks = [unicodedata.name(c, "").startswith(name) for c in text if c.isalpha()]
            if marks and sum(marks) > len(marks) / 2:
                found.setdefault(script, []).append(text)
    return {script: its for script, its in found.items() if len(its) >= 20}


def _held_out(formats: Any) -> dict[str, Any]:
    """Recall of each kind, and false hits by what was taken for what."""
    recall = {}
    for kind in Kind:
        rng = random.Random(f"score {kind}")
        hits = 0
        for _ in range(_HELD_OUT):
            text, asked, value = heldout.personal(rng, kind)
            hits += any(value in text[p.start : p.end] for p in find(text, asked=asked, formats=formats))
        recall[kind.value] = round(hits / _HELD_OUT, 4)
    rng = random.Random("score numbers")
    false: Counter[str] = Counter()
    wrong = 0
    for _ in range(_WAYBILLS):
        text, asked, family = heldout.number(rng)
        found = {p.kind.value for p in find(text, asked=asked, formats=formats)}
        wrong += bool(found)
        false.update(f"{family} taken for {kind}" for kind in found)
    return {"recall": recall, "false_hits": wrong / _WAYBILLS, "false": dict(false.most_common())}


if __name__ == "__main__":
    main()
