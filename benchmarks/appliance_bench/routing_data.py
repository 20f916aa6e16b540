"""What a routing benchmark reads: prompts answered by a weak and a strong model, and which of the answers were right.

What it is: ``read`` of any JSON lines with ``prompt``, ``weak_answer``, ``strong_answer`` and ``correct`` (weak,
strong), or ``weak_correct`` and ``strong_correct``; intent, language, conversation, log-probabilities, costs where they
are known. ``simulate`` writes such a file with invented lines, each of which says so.
What it refuses to be: a judge of answers. Who is right, the file says.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct


class Case(Struct, frozen=True):
    """One line. Costs are in USD, or in units of the strong answer's cost where the file has none.

    ``simulated``: invented; ``group``: what is resampled together.
    """

    prompt: str
    weak: bool
    strong: bool
    intent: str
    language: str
    group: str
    weak_cost: float
    strong_cost: float
    simulated: bool


class _Line(Struct):
    prompt: str
    weak_answer: str
    strong_answer: str = ""
    correct: tuple[bool, bool] | None = None
    weak_correct: bool | None = None
    strong_correct: bool | None = None
    intent: str | None = None
    language: str | None = None
    conversation: str | None = None
    weak_cost_usd: float = 0.0
    strong_cost_usd: float | None = None
    simulated: bool = False


def read(file: Path) -> list[Case]:
    """The lines of ``file``. Raises ValueError with one sentence."""
    cases = []
    with file.open("rb") as opened:
        for number, text in enumerate(opened, 1):
            if text.strip():
                try:
                    cases.append(_case(msgspec.json.decode(text, type=_Line), number))
                except (msgspec.DecodeError, msgspec.ValidationError, ValueError) as e:
                    raise ValueError(f"{file}, line {number}: {e}") from None
    if len(cases) < 20:
        raise ValueError(f"{file} holds {len(cases)} lines; 20 are the least that says anything")
    return cases


def _case(line: _Line, number: int) -> Case:
    weak, strong = line.correct or (line.weak_correct, line.strong_correct)
    if weak is None or strong is None:
        raise ValueError("it needs correct = [weak, strong], or weak_correct and strong_correct")
    return Case(
        line.prompt,
        weak,
        strong,
        line.intent or "none",
        line.language or "unknown",
        line.conversation or f"line {number}",
        line.weak_cost_usd,
        1.0 if line.strong_cost_usd is None else line.strong_cost_usd,
        line.simulated,
    )


# how hard an intent is for the weak model, and how much harder a language makes it
_INTENTS = {"order_status": -2.2, "refund": -0.8, "loan_terms": 0.6, "complaint": -0.2}
_LANGUAGES = {
    "eng_Latn": (-0.4, "Question {} about {}", "Your {} is being looked after, number {}."),
    "hin_Deva": (0.0, "{} के बारे में सवाल {}", "आपके {} का काम हो रहा है, संख्या {} है।"),
    "tam_Taml": (0.5, "{} பற்றிய கேள்வி {}", "உங்கள் {} கவனிக்கப்படுகிறது, எண் {} ஆகும்."),
    "ory_Orya": (1.2, "{} ବିଷୟରେ ପ୍ରଶ୍ନ {}", "ଆପଣଙ୍କ {} ଦେଖାଯାଉଛି, ସଂଖ୍ୟା {} ଅଟେ।"),
}


def simulate(file: Path, lines: int, seed: int) -> None:
    """Write invented lines, a few of them with visible defects; the rest differ in what their log-probabilities say."""
    rng = random.Random(seed)
    with file.open("w", encoding="utf-8") as out:
        for number in range(lines):
            out.write(json.dumps(_invented(rng, number), ensure_ascii=False) + "\n")


def _invented(rng: random.Random, number: int) -> dict[str, Any]:
    intent, language = rng.choice(list(_INTENTS)), rng.choice(list(_LANGUAGES))
    harder, question, answer = _LANGUAGES[language]
    doubt = rng.gauss(0.0, 1.0)
    fails = rng.random() < 1 / (1 + math.exp(-(_INTENTS[intent] + harder + 1.3 * doubt)))
    text, finish = answer.format(intent, number), "stop"
    if fails and rng.random() < 0.15:
        text, finish = rng.choice(
            (("", "stop"), (text[: len(text) // 2], "length"), (_LANGUAGES["tam_Taml"][2], "stop"))
        )
    words = max(len(text.split()), 1)
    content = []
    for _ in range(words):
        p = 1 / (1 + math.exp(-(2.5 - doubt + rng.gauss(0.0, 1.2))))
        rival = (1 - p) * rng.uniform(0.3, 0.9)
        top = [{"token": "a", "logprob": math.log(p)}, {"token": "b", "logprob": math.log(max(rival, 1e-9))}]
        content.append({"token": "a", "logprob": round(math.log(p), 4), "top_logprobs": top})
    return {
        "simulated": True,
        "prompt": question.format(intent if language == "eng_Latn" else number, intent),
        "weak_answer": text,
        "finish_reason": finish,
        "weak_logprobs": {"content": content},
        "strong_answer": answer.format(intent, number),
        "correct": [not fails, rng.random() < 0.93],
        "intent": intent,
        "language": language,
        "weak_cost_usd": 0.00001,
        "strong_cost_usd": 0.0004,
    }
