"""In which order the candidates of one request stand, before affinity and wishes have their say.

What it is: ``ranked``. Routes by language (the best measured one first: a model that speaks it, pivot, hosted) and,
inside a route, those predicted within the SLO before the others, the least busy first.
What it refuses to be: the gate. Everything it is given may be tried.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.languages import ENGLISH
from appliance.policy.values import Candidate, LanguageRoutes, Policy, Route, Seen

_UNKNOWN = LanguageRoutes("")
_HERE: tuple[Route, ...] = ("local", "pivot")


def speaks(candidate: Candidate, language: str | None) -> bool:
    """Whether it answers in ``language``; what nobody knows is not held against it."""
    return language is None or language == ENGLISH or candidate.languages is None or language in candidate.languages


def ranked(
    policy: Policy, seen: Seen, routes: Sequence[Route], ttft_ms: float | None, able: Sequence[Candidate]
) -> list[Candidate]:
    """``able`` in order. ``routes``: the operator's order, empty where the language decides; ``ttft_ms``: the SLO."""
    if len(able) == 1:
        return list(able)
    language = seen.language
    known = policy.languages.get(language, _UNKNOWN) if language is not None else _UNKNOWN
    order = {route: place for place, route in enumerate(routes or _by_language(known, able, language))}

    def key(c: Candidate) -> tuple[int, bool, bool, int, str]:
        # a model that does not speak the language is better than no answer, and than nothing else
        mute = not routes and c.route == "local" and not speaks(c, language)
        late = ttft_ms is not None and c.ttft_ms is not None and c.ttft_ms > ttft_ms
        return (len(order) if mute else order[c.route], mute, late, c.in_flight, c.engine)

    return sorted(able, key=key)


def _by_language(known: LanguageRoutes, able: Sequence[Candidate], language: str | None) -> list[Route]:
    """All three routes: on the box by their scores, hosted before those that are not good enough."""
    spoken = any(c.route == "local" and speaks(c, language) for c in able)
    here = sorted(_HERE, key=lambda route: (-known.scores.get(route, 0.0), (route == "pivot") == spoken))
    good = [route for route in here if known.scores.get(route, known.least) >= known.least]
    return [*good, "hosted", *(route for route in here if route not in good)]
