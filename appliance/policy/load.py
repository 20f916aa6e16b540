"""The text of policy.toml as a ``Policy``, or everything that is wrong with it, line by line.

What it is: ``load(text)``, a pure function: TOML, keys, types, references between sections, and last the file's own
``[[test]]`` cases, which must pass.
What it refuses to be: partial. One problem, and the version that was in force stays in force.
What it costs: 3 ms for a file of a hundred lines and twenty cases.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
import typing
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from msgspec import Struct
from pydantic import BaseModel, ValidationError

from appliance.languages import UnknownLanguage, parse
from appliance.policy import cases, file
from appliance.policy.lines import line_of, lines_of
from appliance.policy.values import (
    ChainLimits,
    HostedModel,
    Intent,
    Judging,
    LanguageRoutes,
    PersonalRule,
    Policy,
    Rollout,
    Route,
    Shadowing,
    ValueClass,
)

_VERSION_DIGITS = 12
_PLACE = re.compile(r" \(at line (\d+), column \d+\)$")


class Problem(Struct, frozen=True):
    """One mistake: what it is about, and the line of the file, where it is known."""

    text: str
    line: int | None = None

    def __str__(self) -> str:
        return self.text if self.line is None else f"line {self.line}: {self.text}"


class PolicyError(Exception):
    """The file cannot be used. ``problems`` has all that is wrong; the text is the first and how many more."""

    def __init__(self, problems: Sequence[Problem], where: str = "policy.toml") -> None:
        more = len(problems) - 1
        rest = f" ({more} more; `appliance policy check` lists them)" if more else ""
        super().__init__(f"{where}, {problems[0]}{rest}")
        self.problems = tuple(problems)


def load(text: str, where: str = "policy.toml") -> Policy:
    """The policy that ``text`` describes, its tests passed. Raises PolicyError."""
    try:
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as e:
        place = _PLACE.search(str(e))
        what = f"this is not TOML: {_PLACE.sub('', str(e))}"
        raise PolicyError([Problem(what, int(place[1]) if place else None)], where) from None
    lines = lines_of(text)
    try:
        checked = file.PolicyFile(**data)
    except ValidationError as e:
        raise PolicyError(_in_order(_problems(e, lines)), where) from None
    problems: list[Problem] = []
    languages = _languages(checked, lines, problems)
    problems += _references(checked, lines)
    if problems:
        raise PolicyError(_in_order(problems), where)
    version = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_VERSION_DIGITS]
    policy = _policy(checked, version, languages)
    failed = [
        Problem(why, line_of(lines, ("test", number)))
        for number, case in enumerate(checked.test)
        if (why := cases.failure(policy, case)) is not None
    ]
    if failed:
        raise PolicyError(failed, where)
    return policy


def count_tests(text: str) -> int:
    """How many ``[[test]]`` cases a text holds that ``load`` has taken."""
    return len(tomllib.loads(text).get("test", ()))


# what is wrong


def _in_order(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: problem.line or 0)


def _problems(e: ValidationError, lines: Mapping[tuple[str | int, ...], int]) -> list[Problem]:
    return [
        Problem(_sentence(error), line_of(dict(lines), [part for part in error["loc"] if part != "[key]"]))
        for error in e.errors()
    ]


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"] if part != "[key]")
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg'].removeprefix('Value error, ')}"
    known = sorted(_model_at(error["loc"][:-1]).model_fields)
    return f"{where} is not known; {_nearest(str(error['loc'][-1]), known)}"


def _nearest(unknown: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(unknown, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"


def _model_at(path: Sequence[Any]) -> type[BaseModel]:
    """The section that a path of keys leads to."""
    model: type[BaseModel] = file.PolicyFile
    for part in path:
        field = model.model_fields.get(str(part))
        if field is None:  # the name of an intent, the number of a test
            continue
        inner = field.annotation
        while not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            inner = next(one for one in reversed(typing.get_args(inner)) if one is not Ellipsis)
        model = inner
    return model


def _references(checked: file.PolicyFile, lines: dict[tuple[str | int, ...], int]) -> list[Problem]:
    """Names that one section gives and another has to know."""
    named: list[tuple[tuple[str | int, ...], str | None]] = [(("value_class",), checked.value_class)]
    named += [(("intents", name, "value_class"), intent.value_class) for name, intent in checked.intents.items()]
    named += [(("test", number, "value_class"), case.value_class) for number, case in enumerate(checked.test)]
    known = sorted(checked.value_classes)
    problems = [
        Problem(f"{'.'.join(map(str, path))}: no value class {name!r}; {_nearest(name, known)}", line_of(lines, path))
        for path, name in named
        if name is not None and name not in checked.value_classes
    ]
    if checked.shadow.share and not checked.hosted.enabled:
        why = "shadow.share needs hosted.enabled = true: there is nothing to compare with"
        problems.append(Problem(why, line_of(lines, ("shadow", "share"))))
    for number, case in enumerate(checked.test):
        for tag in filter(None, (case.language, *(case.speaks or ()))):
            try:
                parse(tag)
            except UnknownLanguage as e:
                problems.append(Problem(f"test.{number}: {e.message}", line_of(lines, ("test", number))))
    return problems


def _languages(
    checked: file.PolicyFile, lines: dict[tuple[str | int, ...], int], problems: list[Problem]
) -> dict[str, LanguageRoutes]:
    """By tag; what is no language, or one named twice, goes to ``problems``."""
    found: dict[str, LanguageRoutes] = {}
    for code, section in checked.languages.items():
        line = line_of(lines, ("languages", code))
        try:
            tag = parse(code)
        except UnknownLanguage as e:
            problems.append(Problem(f"languages.{e.message}", line))
            continue
        if tag in found:
            problems.append(Problem(f"languages.{code} is {tag}, which another section names already", line))
        scores: dict[Route, float] = {}
        if section.scores.local is not None:
            scores["local"] = section.scores.local
        if section.scores.pivot is not None:
            scores["pivot"] = section.scores.pivot
        found[tag] = LanguageRoutes(tag, section.routes, scores, section.least)
    return found


# the values


def _policy(checked: file.PolicyFile, version: str, languages: dict[str, LanguageRoutes]) -> Policy:
    chain, judge, personal = checked.chain, checked.judge, checked.personal
    judging = Judging(judge.threshold, judge.hold_back, judge.whole, file.nusd(judge.latency_usd_per_s), judge.explore)
    return Policy(
        version=version,
        hosted=HostedModel(checked.hosted.enabled, checked.hosted.model),
        when_refused=checked.when_refused,
        chain=ChainLimits(chain.deadline_s, chain.retries, _maybe_nusd(chain.cost_cap_usd)),
        judging=judging,
        guards=checked.guards,
        ttft_ms=checked.ttft_ms,
        total_ms=checked.total_ms,
        idle_minutes=checked.affinity.idle_minutes,
        pivot=checked.pivot,
        shadow=Shadowing(checked.shadow.share, checked.shadow.tenants, file.nusd(checked.shadow.month_usd)),
        rollout=Rollout(checked.rollout.share, checked.rollout.least, checked.rollout.confidence),
        intents={name: _intent(name, section, judging) for name, section in checked.intents.items()},
        value_classes={
            name: ValueClass(name, file.nusd(section.unresolved_usd), section.hosted_first)
            for name, section in checked.value_classes.items()
        },
        value_class=checked.value_class or "",
        languages=languages,
        personal=PersonalRule(personal.mode, personal.formats),
        personal_by_tenant={
            name: PersonalRule(section.mode or personal.mode, (*personal.formats, *section.formats))
            for name, section in personal.tenants.items()
        },
    )


def _intent(name: str, section: file.IntentSection, judging: Judging) -> Intent:
    own = (section.threshold, section.hold_back, section.whole, section.latency_usd_per_s)
    judged = None
    if any(value is not None for value in own):
        judged = Judging(
            judging.threshold if section.threshold is None else section.threshold,
            judging.hold_back if section.hold_back is None else section.hold_back,
            judging.whole if section.whole is None else section.whole,
            judging.latency_nusd_per_s if section.latency_usd_per_s is None else file.nusd(section.latency_usd_per_s),
            judging.explore,
        )
    return Intent(
        name,
        section.value_class,
        section.residency,
        section.ttft_ms,
        section.total_ms,
        section.routes,
        section.guards,
        judged,
        section.when_refused,
        section.deadline_s,
        _maybe_nusd(section.cost_cap_usd),
    )


def _maybe_nusd(value: Decimal | None) -> int | None:
    return None if value is None else file.nusd(value)
