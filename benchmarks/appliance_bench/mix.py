"""A mix of conversations as data: what they are made of, when they come, what each turn may take.

What it is: a TOML file (``mixes/*.toml`` come along) of kinds of conversation with their shares, and what draws turns
of it at random: numbers of turns geometric, sizes lognormal around their means, time to read and type exponential.
What it refuses to be: texts. A kind is counts of tokens, characters and seconds, which the ledger has of real traffic.
"""

from __future__ import annotations

import difflib
import math
import random
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from appliance_bench.box import Call, Slo, Turn
from appliance_bench.records import RecordError
from appliance_bench.stations import Positive

MIXES = Path(__file__).with_name("mixes")
Share = Annotated[float, Meta(ge=0, le=1)]
Amount = Annotated[float, Meta(ge=0)]
Step = Literal["transcribe", "translate", "chat", "translate_back"]
T = TypeVar("T")


class Kind(Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of conversation.

    ``share`` is of conversations, ``hosted`` of its turns that a hosted model answers after all; they do their local
    work first, and are judged by it: how long the provider takes is no matter of boxes.
    ``steps``: the engines a turn passes through; ``translate`` has ``question_chars`` to do, ``translate_back``
    ``answer_chars``, ``transcribe`` ``audio_s``, ``chat`` reads ``prompt_tokens`` less ``cached_share`` of them and
    writes ``answer_tokens``. ``may_leave``: residency lets it overflow to the hosted model.
    """

    name: Annotated[str, Meta(min_length=1)]
    share: Amount
    turns: Annotated[float, Meta(ge=1)]
    steps: Annotated[tuple[Step, ...], Meta(min_length=1)]
    slo: dict[Literal["ttft_ms", "tpot_ms", "e2e_ms"], Positive]
    prompt_tokens: Amount = 0.0
    cached_share: Share = 0.0
    answer_tokens: Amount = 0.0
    question_chars: Amount = 0.0
    answer_chars: Amount = 0.0
    audio_s: Amount = 0.0
    spread: Amount = 0.5
    think_s: Amount = 20.0
    hosted: Share = 0.0
    may_leave: bool = False

    @property
    def bounds(self) -> Slo:
        """Its SLO for a simulation."""
        return Slo(**self.slo)


class Mix(Struct, frozen=True, forbid_unknown_fields=True):
    """``hours``: how the day's conversations fall on its 24 hours. ``busiest_day``: that one over the mean of them."""

    about: str
    kinds: Annotated[tuple[Kind, ...], Meta(min_length=1)]
    hours: Annotated[tuple[Amount, ...], Meta(min_length=24, max_length=24)] = (1.0,) * 24
    busiest_day: Annotated[float, Meta(ge=1)] = 1.0

    @property
    def turns(self) -> float:
        """Turns of a conversation, on average."""
        return sum(kind.share * kind.turns for kind in self.kinds) / sum(kind.share for kind in self.kinds)

    @property
    def hosted_share(self) -> float:
        """Of turns, what a hosted model answers because of what they are."""
        total = sum(kind.share * kind.turns for kind in self.kinds)
        return sum(kind.share * kind.turns * kind.hosted for kind in self.kinds) / total

    @property
    def leaving_share(self) -> float:
        """Of conversations, those that may overflow."""
        return sum(kind.share for kind in self.kinds if kind.may_leave) / sum(kind.share for kind in self.kinds)

    def per_hour(self, a_day: float) -> list[float]:
        """Conversations a second in each hour of a mean day."""
        return [a_day * weight / sum(self.hours) / 3600 for weight in self.hours]

    def draw(self, rng: random.Random) -> tuple[Kind, list[Turn], list[float]]:
        """A conversation: its kind, its turns, and the pauses between them in seconds."""
        kind = rng.choices(self.kinds, [one.share for one in self.kinds])[0]
        count = 1
        while rng.random() < 1 - 1 / kind.turns:
            count += 1
        turns = [self._turn(kind, rng) for _ in range(count)]
        return kind, turns, [rng.expovariate(1 / kind.think_s) if kind.think_s else 0.0 for _ in turns[1:]]

    def _turn(self, kind: Kind, rng: random.Random) -> Turn:
        def size(mean: float) -> float:
            if mean <= 0 or kind.spread <= 0:
                return mean
            sigma = math.sqrt(math.log1p(kind.spread**2))
            return mean * math.exp(rng.gauss(-sigma * sigma / 2, sigma))

        question, answer = size(1.0), size(1.0)
        calls = []
        for step in kind.steps:
            if step == "transcribe":
                calls.append(Call("transcribe", kind.audio_s * question))
            elif step == "translate":
                calls.append(Call("translate", kind.question_chars * question))
            elif step == "translate_back":
                calls.append(Call("translate", kind.answer_chars * answer))
            else:
                prompt = kind.prompt_tokens * (1 - kind.cached_share) * size(1.0)
                calls.append(Call("chat", max(1.0, round(kind.answer_tokens * answer)), prompt))
        return Turn(kind.name, tuple(calls))


def load_mix(name: str) -> Mix:
    """A mix that comes along, or of a file. Raises RecordError."""
    there = sorted(path.stem for path in MIXES.glob("*.toml"))
    path = MIXES / f"{name}.toml" if name in there else Path(name)
    if name not in there and not path.is_file():
        near = difflib.get_close_matches(name, there, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise RecordError(f"there is no mix and no file {name!r}{hint} (mixes: {', '.join(there)})")
    mix = load_toml(path, Mix)
    if sum(kind.share for kind in mix.kinds) <= 0 or sum(mix.hours) <= 0:
        raise RecordError(f"{path}: the shares of all kinds, or all hours, are 0; give one of them weight")
    names = [kind.name for kind in mix.kinds]
    if len(set(names)) != len(names):
        raise RecordError(f"{path}: two kinds have one name; what is counted by kind could not be told apart")
    for kind in mix.kinds:
        _check_kind(path, kind)
    return mix


def load_toml(path: Path, kind: type[T]) -> T:
    """``path`` as ``kind``. Raises RecordError that names the field."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=kind)
    except OSError as e:
        raise RecordError(f"{path} cannot be read ({e.strerror})") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise RecordError(f"{path} is not understood: {e}") from None


def _check_kind(path: Path, kind: Kind) -> None:
    needs = {"transcribe": "audio_s", "translate": "question_chars", "translate_back": "answer_chars",
             "chat": "answer_tokens"}  # fmt: skip
    for step in kind.steps:
        if not getattr(kind, needs[step]):
            raise RecordError(f"{path}: the kind {kind.name!r} passes through {step} and says no {needs[step]}")
