"""What work costs: nanoseconds of the server for local calls, dated prices for hosted ones. Pure values.

What it is: ``Tariff`` rates one call. Local work is tokens computed: uncached prompt × a + completion × b, seconds of
audio, characters, each with a coefficient from a measured profile; its marginal cost is the energy of that time. A
hosted call is what its provider charges: uncached, cached, completion (thinking included), audio.
What it refuses to be: generous. A hosted model without a price is an error, not free; a local one without coefficients
costs no energy, and reports name it.
What it costs: 1 to 2 µs a call.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Generic, TypeVar

from msgspec import Struct

from appliance.ledger.money import to_nusd
from appliance.types import Usage

T = TypeVar("T")

LOCAL = "local"
ANY_MODEL = "*"
UNITS = ("prompt_token", "cached_token", "completion_token", "thinking_token", "audio_token", "audio_s", "character")

_PRICES = "SELECT provider, model, unit, batch, effective_ms, usd_per_million FROM prices ORDER BY effective_ms"
_COEFFICIENTS = (
    "SELECT model, effective_ms, prompt_token_ns, completion_token_ns, audio_s_ns, character_ns FROM coefficients"
    " ORDER BY effective_ms"
)
_SERVER = "SELECT effective_ms, busy_w, tariff_inr_per_kwh, inr_per_usd FROM server_costs ORDER BY effective_ms"
# 1 W for 1 ns is 10⁻⁹ J, and a kWh 3.6 × 10⁶ J
_KWH_PER_W_NS = Decimal(1) / Decimal(3_600_000_000_000_000)


class Rated(Struct, frozen=True):
    """What one call took of the server, and what its provider charges."""

    work_ns: int
    hosted_nusd: int


class Coefficients(Struct, frozen=True):
    """Nanoseconds of the server a unit of a model's work takes."""

    prompt_token_ns: float
    completion_token_ns: float
    audio_s_ns: float
    character_ns: float


class _Dated(Generic[T]):
    """Values with the moment each comes into force."""

    def __init__(self) -> None:
        self.from_ms: list[int] = []
        self.values: list[T] = []

    def add(self, from_ms: int, value: T) -> None:
        self.from_ms.append(from_ms)
        self.values.append(value)

    def at(self, at_ms: int) -> T | None:
        """What is in force; before the first, nothing."""
        index = bisect_right(self.from_ms, at_ms)
        return self.values[index - 1] if index else None


class Tariff:
    """Prices, coefficients and energy with their dates. Made by ``load_tariff``, never changed."""

    def __init__(self) -> None:
        self._prices: dict[tuple[str, str, str, bool], _Dated[int]] = {}
        self._coefficients: dict[str, _Dated[Coefficients]] = {}
        self._energy: _Dated[Decimal] = _Dated()  # USD a nanosecond of work

    def rate(self, provider: str, model: str, usage: Usage, at_ms: int, batch: bool = False) -> Rated:
        """What a call of ``usage`` costs. Raises LookupError for a hosted model without a price."""
        if provider == LOCAL:
            return Rated(self._work_ns(model, usage, at_ms), 0)
        return Rated(0, self._hosted_nusd(provider, model, usage, at_ms, batch))

    def energy_nusd(self, work_ns: int, at_ms: int) -> int:
        """The electricity of ``work_ns`` of a busy server; 0 while no server cost is set."""
        rate = self._energy.at(at_ms)
        return 0 if rate is None else to_nusd(rate * work_ns)

    def ceiling(
        self, provider: str, model: str, prompt_tokens: int, completion_tokens: int, audio_s: float, at_ms: int
    ) -> int:
        """Nano-USD to hold back for a call that is expected to compute at most this. Raises LookupError."""
        usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, audio_s=audio_s)
        rated = self.rate(provider, model, usage, at_ms)
        return rated.hosted_nusd + self.energy_nusd(rated.work_ns, at_ms)

    def token_prices(self, provider: str, model: str, at_ms: int) -> tuple[int, int] | None:
        """Nano-USD for a million tokens in and out; None where one of the two has no price."""
        try:
            prompt = self._price(provider, model, "prompt_token", at_ms, False)
            return prompt, self._price(provider, model, "completion_token", at_ms, False)
        except LookupError:
            return None

    def coefficients(self, model: str, at_ms: int) -> Coefficients | None:
        """Of ``model``, or of any model; None where nothing is known."""
        for name in (model, ANY_MODEL):
            dated = self._coefficients.get(name)
            if dated is not None and (found := dated.at(at_ms)) is not None:
                return found
        return None

    def _work_ns(self, model: str, usage: Usage, at_ms: int) -> int:
        c = self.coefficients(model, at_ms)
        if c is None:
            return 0
        uncached = max(0, usage.prompt_tokens - usage.cached_tokens)
        return round(
            uncached * c.prompt_token_ns
            + usage.completion_tokens * c.completion_token_ns
            + usage.audio_s * c.audio_s_ns
            + usage.characters * c.character_ns
        )

    def _hosted_nusd(self, provider: str, model: str, usage: Usage, at_ms: int, batch: bool) -> int:
        """Prices are whole nano-dollars a million units, so the sum is exact and rounded once."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        audio = min(usage.audio_tokens, usage.prompt_tokens - cached)
        total = (usage.prompt_tokens - cached - audio) * self._price(provider, model, "prompt_token", at_ms, batch)
        if audio:
            total += audio * self._price(provider, model, "audio_token", at_ms, batch, "prompt_token")
        if cached:
            total += cached * self._price(provider, model, "cached_token", at_ms, batch, "prompt_token")
        thinking = min(usage.thinking_tokens, usage.completion_tokens)
        total += (usage.completion_tokens - thinking) * self._price(provider, model, "completion_token", at_ms, batch)
        if thinking:
            total += thinking * self._price(provider, model, "thinking_token", at_ms, batch, "completion_token")
        nusd = Decimal(total)
        if usage.audio_s:
            nusd += Decimal(repr(usage.audio_s)) * self._price(provider, model, "audio_s", at_ms, batch)
        if usage.characters:
            nusd += usage.characters * self._price(provider, model, "character", at_ms, batch)
        return to_nusd(nusd / 1_000_000 / 1_000_000_000)

    def _price(
        self, provider: str, model: str, unit: str, at_ms: int, batch: bool, otherwise: str | None = None
    ) -> int:
        for name in (unit, otherwise):
            for in_batch in (True, False) if batch else (False,):
                dated = self._prices.get((provider, model, name or "", in_batch))
                if dated is not None and (price := dated.at(at_ms)) is not None:
                    return price
        raise LookupError(f"{provider}'s {model!r} has no price for a {unit} yet; set one with `appliance prices set`")


def load_tariff(query: Callable[[str], list[tuple[Any, ...]]]) -> Tariff:
    """Read every price, coefficient and server cost through ``query``."""
    tariff = Tariff()
    for provider, model, unit, batch, effective_ms, text in query(_PRICES):
        # nano-USD a million units: a whole number for any price of up to nine decimals
        nusd = to_nusd(Decimal(text))
        tariff._prices.setdefault((provider, model, unit, bool(batch)), _Dated()).add(effective_ms, nusd)
    for model, effective_ms, *values in query(_COEFFICIENTS):
        tariff._coefficients.setdefault(model, _Dated()).add(effective_ms, Coefficients(*values))
    for effective_ms, busy_w, tariff_inr, inr_per_usd in query(_SERVER):
        usd_per_kwh = Decimal(tariff_inr) / Decimal(inr_per_usd)
        tariff._energy.add(effective_ms, busy_w * usd_per_kwh * _KWH_PER_W_NS)
    return tariff
