"""``appliance policy score``: what the judge thinks of answers in a file, for benchmarks and other programs.

What it is: JSON lines in, JSON lines out, in the same order. ``make bench-routing`` runs it, because benchmarks import
nothing of the appliance.
What it refuses to be: a way into the ledger. It reads one file and prints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from msgspec import Struct

from appliance.cli.common import Failure

if TYPE_CHECKING:
    from appliance.policy.logprobs import Token
    from appliance.policy.parameters import Parameters


class _Line(Struct):
    """What is read of a line; other keys do not matter. ``correct``: of the weak answer and of the strong one."""

    prompt: str
    weak_answer: str
    weak_logprobs: Any = None
    finish_reason: str | None = "stop"
    correct: tuple[bool, bool] | None = None
    weak_correct: bool | None = None
    intent: str | None = None
    language: str | None = None
    romanised: bool = False
    schema: Any = None
    conversation: str | None = None

    @property
    def failed(self) -> bool | None:
        """Whether the weak answer is wrong; None where the line does not say."""
        known = self.weak_correct if self.correct is None else self.correct[0]
        return None if known is None else not known


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--fitted", type=click.Path(path_type=Path), help="Score with parameters that `appliance policy fit` wrote."
)
@click.option("--folds", type=click.IntRange(2, 20), help="Learn from the file itself: each part scored by the others.")
def score(file: Path, fitted: Path | None, folds: int | None) -> None:
    """P(the weak answer is not good enough) for each line of FILE, with the signals it rests on.

    A line holds prompt, weak_answer, and where known weak_logprobs, finish_reason, intent, language, schema,
    conversation. With --folds it needs correct (or weak_correct) as well; lines of one conversation stay together.
    """
    from appliance.policy.combine import defects
    from appliance.policy.parameters import BY_HAND, p_fail

    if fitted is not None and folds is not None:
        raise Failure("give --fitted or --folds, not both")
    lines = _read(file)
    seen = [_features(line) for line in lines]
    if folds is not None:
        parameters = _learned(lines, seen, folds)
    else:
        parameters = [BY_HAND if fitted is None else _parameters(fitted)] * len(lines)
    for line, found, fit in zip(lines, seen, parameters, strict=True):
        wrong = defects(found)
        p = p_fail(fit, found, wrong, line.intent, line.language)
        click.echo(msgspec.json.encode({"p_fail": round(p, 6), "defects": wrong, "signals": found}))


def _read(file: Path) -> list[_Line]:
    lines = []
    try:
        with file.open("rb") as opened:
            for number, text in enumerate(opened, 1):
                if text.strip():
                    lines.append(_line(text, number, file))
    except OSError as e:
        raise Failure(f"{file} cannot be read ({e.strerror})") from None
    if not lines:
        raise Failure(f"{file} holds no lines; write one JSON object a line")
    return lines


def _line(text: bytes, number: int, file: Path) -> _Line:
    try:
        line = msgspec.json.decode(text, type=_Line)
    except (msgspec.DecodeError, msgspec.ValidationError) as e:
        raise Failure(f"{file}, line {number}: {e}") from None
    if line.language is not None:
        from appliance.languages import UnknownLanguage, parse

        try:
            line.language = parse(line.language)
        except UnknownLanguage as e:
            raise Failure(f"{file}, line {number}: {e.message}") from None
    return line


def _features(line: _Line) -> dict[str, float]:
    from appliance.policy.answers import Answered, Wanted, measure
    from appliance.policy.combine import features

    answered = Answered(line.weak_answer, line.finish_reason, tokens=tuple(_tokens(line.weak_logprobs)))
    wanted = Wanted(line.language, line.romanised, line.prompt, schema=line.schema)
    return features(measure(answered, wanted).signals)


def _tokens(logprobs: Any) -> list[Token]:
    """As OpenAI writes them, its bare ``content``, or numbers alone."""
    from appliance.policy.logprobs import Token, tokens_of

    if isinstance(logprobs, list):
        if all(isinstance(one, Mapping) for one in logprobs):
            return tokens_of({"content": logprobs})
        return [Token(min(float(one), 0.0)) for one in logprobs if isinstance(one, int | float)]
    return tokens_of(logprobs)


def _learned(lines: list[_Line], seen: list[dict[str, float]], folds: int) -> list[Parameters]:
    """For each line, parameters that were fitted to the other parts."""
    from appliance.policy.fitting import NotEnough, fit
    from appliance.policy.learning import Example

    examples = []
    for number, (line, found) in enumerate(zip(lines, seen, strict=True)):
        if line.failed is None:
            raise Failure(f"line {number + 1} does not say whether its answer is correct; --folds learns from that")
        name = line.conversation or f"{number}"
        examples.append(Example(name, number, found, line.intent, line.language, float(line.failed), 1.0))
    part = [int(hashlib.sha256(one.conversation.encode()).hexdigest()[:8], 16) % folds for one in examples]
    try:
        fits = [fit([e for e, p in zip(examples, part, strict=True) if p != k], (), 0).parameters for k in range(folds)]
    except NotEnough as e:
        raise Failure(str(e)) from None
    return [fits[k] for k in part]


def _parameters(path: Path) -> Parameters:
    from appliance.policy.parameters import decode

    try:
        return decode(path.read_bytes())
    except OSError as e:
        raise Failure(f"{path} cannot be read ({e.strerror})") from None
    except ValueError as e:
        raise Failure(str(e)) from None
