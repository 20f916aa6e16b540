"""The values of a memory plan: what an engine wants, what it is granted, what was left out, and the profiles.

What it is: frozen structs and their arithmetic. All sizes are bytes of the whole engine, however many GPUs share it.
What it refuses to be: a guess in disguise. What nobody measured stands in ``Want.assumed`` as a sentence and is
printed with the plan.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from appliance.supervisor.hardware import Hardware

Profile = Literal["normal", "careful", "minimal"]
# from the one that is tried first to the last resort
PROFILES: tuple[Profile, ...] = ("normal", "careful", "minimal")


class Rules(Struct, frozen=True):
    """What a profile changes. Shares are of what ``normal`` would give.

    ``batch_tokens`` bounds the activations of one step, 0 leaves it to vLLM; ``eager`` goes without CUDA graphs.
    """

    headroom: float
    kv: float
    requests: float
    batch_tokens: int
    eager: bool


# Three steps, each well apart from the one before: stepping down is for engines that ran out of memory, and one that
# does so twice has lost minutes of service each time.
RULES: dict[Profile, Rules] = {
    "normal": Rules(headroom=0.05, kv=1.0, requests=1.0, batch_tokens=0, eager=False),
    "careful": Rules(headroom=0.10, kv=0.75, requests=0.5, batch_tokens=2048, eager=False),
    "minimal": Rules(headroom=0.15, kv=0.4, requests=0.125, batch_tokens=512, eager=True),
}


def step_down(profile: Profile) -> Profile | None:
    """The profile after ``profile`` for an engine that ran out of memory; None after the last."""
    following = PROFILES.index(profile) + 1
    return PROFILES[following] if following < len(PROFILES) else None


class Kv(Struct, frozen=True):
    """What a token costs in the cache. Layers with a window keep at most ``window_tokens`` of a request."""

    bytes_per_token: int
    windowed_bytes_per_token: int = 0
    window_tokens: int = 0

    def request_bytes(self, tokens: int) -> int:
        """The cache of one request of ``tokens``."""
        full = self.bytes_per_token - self.windowed_bytes_per_token
        return full * tokens + self.windowed_bytes_per_token * min(tokens, self.window_tokens)

    def longest(self, budget: int, most: int, step: int) -> int:
        """The longest request that fits in ``budget``, a multiple of ``step`` unless it is ``most`` itself."""
        if self.request_bytes(most) <= budget:
            return most
        low, high = 0, most // step
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.request_bytes(middle * step) <= budget else (low, middle - 1)
        return low * step


class Want(Struct, frozen=True):
    """One engine that is wanted.

    ``kv`` is None for engines without a cache. ``workspace_bytes`` is activations and graphs beside the weights,
    ``host_bytes`` the RAM of its processes, on a machine without a GPU beside all that.
    ``context_tokens`` is what the model can, or what the operator set (``context_set``); 0 where it has no meaning.
    ``kv_at_most`` is what remains of a ``kv_cache_bytes`` with which the engine ran out of memory.
    ``kv_cache_bytes``, ``max_concurrent`` and ``gpus`` (none: in RAM) are the operator's, and win. ``divides``: may be
    spread over several GPUs; ``falls_back``: may run in RAM where no GPU has room. ``unknown`` says why it cannot be
    planned.
    """

    engine: str
    model: str
    task: str
    weights_bytes: int = 0
    workspace_bytes: int = 0
    host_bytes: int = 0
    kv: Kv | None = None
    context_tokens: int = 0
    context_set: bool = False
    kv_cache_bytes: int | None = None
    kv_at_most: int | None = None
    max_concurrent: int = 0
    gpus: tuple[int, ...] | None = None
    divides: bool = False
    falls_back: bool = False
    assumed: tuple[str, ...] = ()
    unknown: str = ""


class Grant(Struct, frozen=True):
    """What one engine gets. ``gpus`` is empty in RAM; ``why`` are sentences for people.

    ``max_requests`` is what the engine is told to run at once, ``concurrent`` how many requests of
    ``request_tokens`` its cache holds; both 0 for engines without a cache. ``gpu_share`` is of each GPU's total.
    """

    engine: str
    model: str
    profile: Profile
    gpus: tuple[int, ...]
    weights_bytes: int
    workspace_bytes: int
    host_bytes: int
    kv_bytes: int = 0
    kv_tokens: int = 0
    context_tokens: int = 0
    request_tokens: int = 0
    concurrent: int = 0
    max_requests: int = 0
    gpu_share: float = 0.0
    why: tuple[str, ...] = ()

    @property
    def budget_bytes(self) -> int:
        """Everything it takes where its weights are."""
        device = self.weights_bytes + self.workspace_bytes + self.kv_bytes
        return device if self.gpus else device + self.host_bytes

    @property
    def rules(self) -> Rules:
        """What its profile says."""
        return RULES[self.profile]


class LeftOut(Struct, frozen=True):
    """An engine that gets nothing, and why. ``instead`` are models of its task that would fit, best first."""

    engine: str
    model: str
    why: str
    instead: tuple[str, ...] = ()


class Pool(Struct, frozen=True):
    """One place memory comes from: a GPU, or RAM (``gpu`` None).

    ``others_bytes`` is what processes hold that are not the appliance's engines; ``others`` names those known.
    ``total`` = others + headroom + granted + spare, where "others" is also what driver and kernel keep for themselves;
    ``free_bytes`` is as measured, engines that run counted as used.
    """

    gpu: int | None
    name: str
    total_bytes: int
    free_bytes: int
    others_bytes: int
    headroom_bytes: int
    granted_bytes: int
    spare_bytes: int
    others: tuple[str, ...] = ()


class Plan(Struct, frozen=True):
    """The whole machine: ``grants`` in the order the engines are started in, one after another."""

    hardware: Hardware
    request_tokens: int
    grants: tuple[Grant, ...]
    left_out: tuple[LeftOut, ...]
    pools: tuple[Pool, ...]
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether every engine that is wanted gets what it needs."""
        return not self.left_out

    def grant(self, engine: str) -> Grant | None:
        """What ``engine`` gets, None when it was left out."""
        return next((grant for grant in self.grants if grant.engine == engine), None)
