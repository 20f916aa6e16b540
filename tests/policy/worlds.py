"""Simulated logs whose truth is known: what estimators and fits are held against."""

from __future__ import annotations

import numpy as np

from appliance.policy.learning import Judged
from appliance.policy.parameters import sigmoid
from appliance.types import Decision

LANGUAGES = ("hin_Deva", "tam_Taml", "sat_Olck")
# a language's answers fail more often than its doubt shows
SHIFT = {"hin_Deva": -1.5, "tam_Taml": -0.5, "sat_Olck": 1.0}
HOSTED_FAILS = 0.1
HOSTED_NUSD = 1_000_000


def p_local(doubt: float, language: str) -> float:
    """The truth."""
    return sigmoid(1.2 * doubt - 2.0 + SHIFT[language])


def log(conversations: int, seed: int, explore: float, threshold: float = 0.5, unknown: float = 0.0) -> list[Judged]:
    """Conversations of one or two requests, judged by a rule on the truth, with decisions turned round at times."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(conversations):
        language = LANGUAGES[int(rng.integers(3))]
        for turn in range(int(rng.integers(1, 3))):
            doubt = float(rng.gamma(2.0, 1.0))
            p = p_local(doubt, language)
            escalates = p > threshold
            turned = bool(rng.random() < explore)
            escalates ^= turned
            resolved = bool(rng.random() >= (HOSTED_FAILS if escalates else p))
            decision = Decision(
                policy="old",
                route="local",
                verdict="escalate" if escalates else "commit",
                p_fail=p,
                alternative="hosted",
                p_fail_alternative=HOSTED_FAILS,
                propensity=explore if turned else 1.0 - explore,
                cost_nusd=HOSTED_NUSD,
                intent="refund",
                language=language,
                signals={"doubt_p10": doubt},
            )
            rows.append(
                Judged(
                    f"req_{number}_{turn}",
                    f"conv_{number}" if turn == 0 else f"conv_{number}b",
                    number * 1000,
                    None if rng.random() < unknown else resolved,
                    HOSTED_NUSD if escalates else 0,
                    "hosted" if escalates else "local",
                    decision,
                )
            )
    return rows
