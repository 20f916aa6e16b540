"""Which version of the policy decides a conversation, and when a new one is stopped by what it does.

What it is: ``Loaded`` (the version in force and the one on trial), ``chosen`` by a hash of the conversation, so that
every gateway says the same and a conversation never changes sides, and ``verdict`` on the counts of both.
What it refuses to be: a counter. The counts come from the ledger, where every conversation is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from statistics import NormalDist

from msgspec import Struct
from msgspec.structs import replace

from appliance.policy.values import BUILT_IN, Policy, Rollout

_WHOLE = 1 << 64
_NANO = 1e9


class Loaded(Struct, frozen=True):
    """``stable`` decides for everybody but the share of ``trial``, which began at ``since_ms``.

    ``stopped``: why the trial was ended; it decides for nobody any more, and stays here so that it is not begun again.
    """

    stable: Policy = BUILT_IN
    trial: Policy | None = None
    since_ms: int = 0
    stopped: str = ""


class Counts(Struct, frozen=True):
    """Conversations that have ended under one version: how many, how many unresolved, what they cost."""

    ended: int = 0
    unresolved: int = 0
    cost_nusd: int = 0
    cost_squares: float = 0.0

    def plus(self, unresolved: bool, cost_nusd: int) -> Counts:
        """With one more."""
        squares = self.cost_squares + float(cost_nusd) ** 2
        return Counts(self.ended + 1, self.unresolved + unresolved, self.cost_nusd + cost_nusd, squares)


class Ended(Struct, frozen=True):
    """One conversation that has ended."""

    tenant_id: str
    id: str
    unresolved: bool
    cost_nusd: int


def chosen(loaded: Loaded, tenant_id: str, conversation_id: str) -> Policy:
    """The version that decides this conversation; the stable one for what belongs to none."""
    trial = loaded.trial
    if trial is None or loaded.stopped or not conversation_id:
        return loaded.stable
    return trial if in_share(trial.rollout.share, tenant_id, conversation_id) else loaded.stable


def in_share(share: float, tenant_id: str, conversation_id: str) -> bool:
    """Whether a conversation is among the first ``share`` of all. A larger share holds every smaller one."""
    name = f"{tenant_id}/{conversation_id}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(name, digest_size=8, person=b"policy-rollout").digest()
    return int.from_bytes(digest, "big") < share * _WHOLE


def accepted(loaded: Loaded, new: Policy, now_ms: int) -> Loaded:
    """With ``new``, which has been checked: in force at once, or on trial beside what is in force."""
    if new.version == loaded.stable.version:
        return Loaded(loaded.stable)
    if loaded.trial is not None and loaded.trial.version == new.version:
        return loaded
    if new.rollout.share >= 1.0:
        return Loaded(new)
    return Loaded(loaded.stable, new, now_ms)


def stopped(loaded: Loaded, why: str) -> Loaded:
    """With its trial ended."""
    return replace(loaded, stopped=why)


def counted(trial: Policy, ended: Iterable[Ended]) -> tuple[Counts, Counts]:
    """The conversations of the trial and those beside it."""
    under, beside = Counts(), Counts()
    for one in ended:
        if in_share(trial.rollout.share, one.tenant_id, one.id):
            under = under.plus(one.unresolved, one.cost_nusd)
        else:
            beside = beside.plus(one.unresolved, one.cost_nusd)
    return under, beside


def verdict(trial: Counts, stable: Counts, rule: Rollout) -> str | None:
    """Why the trial has to be stopped; None while nothing speaks against it.

    More are unresolved, or a conversation costs more, than chance explains: the interval of the difference lies above
    zero. Somebody looks every few minutes, so the k-th doubling of ``rule.least`` is held against the k-th part of the
    permitted error, 1/(k(k+1)); all looks together then stop a version that is no worse about as often as
    ``1 - rule.confidence`` says.
    """
    if min(trial.ended, stable.ended) < rule.least:
        return None
    k = int(math.log2(trial.ended / rule.least)) + 1
    error = (1.0 - rule.confidence) / (k * (k + 1))
    z = NormalDist().inv_cdf(1.0 - error / 2.0)
    low, high = _difference(trial, stable, z)
    if low > 0.0:
        mine, others = _percent(trial.unresolved / trial.ended), _percent(stable.unresolved / stable.ended)
        return (
            f"{mine} of its {trial.ended} conversations are unresolved, against {others} of {stable.ended}"
            f" ({_percent(low)} to {_percent(high)} more)"
        )
    dearer, low = _dearer(trial, stable, z)
    if low > 0.0:
        return (
            f"a conversation costs {dearer / _NANO:.6f} USD more ({low / _NANO:.6f} at least) over its"
            f" {trial.ended} conversations"
        )
    return None


def _difference(one: Counts, other: Counts, z: float) -> tuple[float, float]:
    """Newcombe's interval of the difference of two shares (1998, method 10), from Wilson's of each."""
    p, q = one.unresolved / one.ended, other.unresolved / other.ended
    p_low, p_high = _wilson(one.unresolved, one.ended, z)
    q_low, q_high = _wilson(other.unresolved, other.ended, z)
    return p - q - math.hypot(p - p_low, q_high - q), p - q + math.hypot(p_high - p, q - q_low)


def _wilson(hits: int, n: int, z: float) -> tuple[float, float]:
    p, zz = hits / n, z * z
    middle = (p + zz / (2 * n)) / (1 + zz / n)
    half = z / (1 + zz / n) * math.sqrt(p * (1 - p) / n + zz / (4 * n * n))
    return middle - half, middle + half


def _dearer(one: Counts, other: Counts, z: float) -> tuple[float, float]:
    """How much more one conversation costs, and the lower end of that (Welch)."""
    means = [counts.cost_nusd / counts.ended for counts in (one, other)]
    spread = sum(
        max(0.0, counts.cost_squares / counts.ended - mean * mean) / counts.ended
        for counts, mean in zip((one, other), means, strict=True)
    )
    dearer = means[0] - means[1]
    return dearer, dearer - z * math.sqrt(spread)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
