"""What turns signals into P(unresolved): set by hand until there is data, fitted to the ledger's outcomes after that.

What it is: ``Parameters`` (weights of a logistic model, isotonic curves by intent and language, how often each other
route fails), ``p_fail`` and ``p_fail_alternative`` on them, and their file beside policy.toml.
What it refuses to be: trained here (``fitting``), or silent about a broken file.
What it costs: a few µs an answer; the file is read once, and when it changes.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping

import msgspec
from msgspec import Struct

FILE = "policy.fitted.json"
"""Its name beside policy.toml."""
FORMAT = 1
ANY = "*"


class Curve(Struct, frozen=True, forbid_unknown_fields=True):
    """A rising curve through points: ``xs`` are scores of the logistic model in order, ``ys`` probabilities."""

    xs: tuple[float, ...]
    ys: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.xs or len(self.xs) != len(self.ys):
            raise ValueError("a curve needs as many xs as ys, and at least one")
        if sorted(self.xs) != list(self.xs) or sorted(self.ys) != list(self.ys):
            raise ValueError("a curve must rise")

    def at(self, x: float) -> float:
        """Between the two points around ``x``; flat beyond the ends."""
        place = bisect.bisect_right(self.xs, x)
        if place == 0:
            return self.ys[0]
        if place == len(self.xs):
            return self.ys[-1]
        left, right = self.xs[place - 1], self.xs[place]
        return self.ys[place - 1] + (self.ys[place] - self.ys[place - 1]) * (x - left) / (right - left)


class Parameters(Struct, frozen=True, forbid_unknown_fields=True):
    """One version. ``version`` empty: set by hand.

    ``weights`` by the names of ``combine.features``; ``curves`` by ``intent|language``, ``*|language`` and ``*|*``;
    ``alternatives`` by ``route|intent|language``, with ``*`` likewise. ``rows``: how many answers it was fitted to.
    """

    intercept: float
    weights: Mapping[str, float]
    curves: Mapping[str, Curve] = {}
    alternatives: Mapping[str, float] = {}
    version: str = ""
    made_ms: int = 0
    rows: int = 0
    format: int = FORMAT

    @property
    def fitted(self) -> bool:
        """Whether data stands behind it."""
        return bool(self.version)


BY_HAND = Parameters(
    # without any signal one answer in twenty is not good enough
    intercept=-2.9,
    weights={
        "empty": 7.0,
        "schema_failed": 5.5,
        "repetition": 8.0,
        "wrong_language": 5.5,
        "truncated": 4.0,
        "entities_lost": 6.0,
        "unfounded": 4.0,
        "repaired": 0.3,
        "refused": 1.5,
        "doubt_p10": 0.35,
        "doubt_least": 0.02,
        "unsure_p10": 0.8,
        "no_logprobs": 0.5,
        "re_asked": 1.0,
        "corrected": 1.2,
        "wants_person": 1.0,
        "tool_loop": 3.0,
        "reopened": 0.8,
    },
    alternatives={"hosted|*|*": 0.05, "pivot|*|*": 0.15},
)
"""Until there is data. Guesses, and named so; the threshold of policy.toml stands beside them."""
# what such an answer is worth does not depend on how often the data had one
_FLOORS = {
    "empty": 0.99,
    "schema_failed": 0.95,
    "repetition": 0.95,
    "wrong_language": 0.9,
    "truncated": 0.8,
    "entities_lost": 0.6,
    "unfounded": 0.6,
}


def score(parameters: Parameters, features: Mapping[str, float]) -> float:
    """The logistic model's score, before calibration; features it has no weight for do not count."""
    weights = parameters.weights
    return parameters.intercept + sum(weights.get(name, 0.0) * value for name, value in features.items())


def p_fail(
    parameters: Parameters,
    features: Mapping[str, float],
    defects: tuple[str, ...],
    intent: str | None,
    language: str | None,
) -> float:
    """P(unresolved) of an answer with ``features``; ``defects`` are the ones beyond doubt among them."""
    x = score(parameters, features)
    curve = next((parameters.curves[key] for key in keys(intent, language) if key in parameters.curves), None)
    probability = sigmoid(x) if curve is None else curve.at(x)
    return max((probability, *(_FLOORS.get(name, 0.0) for name in defects)))


def p_fail_alternative(parameters: Parameters, route: str, intent: str | None, language: str | None) -> float:
    """How often ``route`` leaves a conversation of this kind unresolved."""
    found = (parameters.alternatives.get(f"{route}|{key}") for key in keys(intent, language))
    return next((p for p in found if p is not None), BY_HAND.alternatives.get(f"{route}|*|*", 0.1))


def keys(intent: str | None, language: str | None) -> tuple[str, str, str]:
    """The names of a cell, of its language and of everything, the narrowest first."""
    spoken = language or ANY
    return f"{intent or ANY}|{spoken}", f"{ANY}|{spoken}", f"{ANY}|{ANY}"


def sigmoid(x: float) -> float:
    """1 / (1 + e⁻ˣ), without overflow."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    power = math.exp(x)
    return power / (1.0 + power)


def encode(parameters: Parameters) -> bytes:
    """As the file holds it."""
    return msgspec.json.format(msgspec.json.encode(parameters), indent=1) + b"\n"


def decode(data: bytes) -> Parameters:
    """Of the file. Raises ValueError with one sentence."""
    try:
        found = msgspec.json.decode(data, type=Parameters)
    except (msgspec.DecodeError, msgspec.ValidationError) as e:
        raise ValueError(f"{FILE} cannot be read ({e}); run `appliance policy fit` again, or delete it") from None
    if found.format != FORMAT:
        raise ValueError(
            f"{FILE} has format {found.format}, this version reads {FORMAT}; run `appliance policy fit` again"
        )
    return found
