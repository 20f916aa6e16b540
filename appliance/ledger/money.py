"""Money: whole nano-dollars in the ledger, Decimal for people, one rounding point between them.

What it is: ``to_nusd`` (the only place where money is rounded), ``usd`` and ``inr`` back, and what people type.
What it refuses to be: floating point. 10⁻⁹ USD holds a single cached token of the cheapest hosted model 25 times over,
and a 64-bit sum of it nine billion dollars.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

NANO = Decimal(1_000_000_000)
_LARGEST_USD = Decimal(1_000_000_000)
_LONGEST = 40
_MOST_DECIMALS = 9


def to_nusd(amount_usd: Decimal) -> int:
    """Nano-dollars, rounded half to even."""
    return int((amount_usd * NANO).to_integral_value(rounding=ROUND_HALF_EVEN))


def usd(nusd: int) -> Decimal:
    """Dollars, exact."""
    return Decimal(nusd) / NANO


def inr(nusd: int, inr_per_usd: Decimal) -> Decimal:
    """Rupees at a rate, exact."""
    return usd(nusd) * inr_per_usd


def parse_amount(text: str, what: str) -> Decimal:
    """A non-negative decimal amount as people type it (``1,250.50``). Raises ValueError with a sentence."""
    if len(text) > _LONGEST:
        raise ValueError(f"{what} is {len(text)} characters long; give a number such as 49.50")
    try:
        amount = Decimal(text.replace(",", "").replace("_", "").strip())
    except InvalidOperation:
        raise ValueError(f"{what} is {text[:40]!r}; give a number such as 49.50") from None
    if not amount.is_finite() or amount < 0 or amount > _LARGEST_USD:
        raise ValueError(f"{what} is {text[:40]!r}; give a number from 0 to {_LARGEST_USD:,}")
    if amount != amount.quantize(Decimal(1).scaleb(-_MOST_DECIMALS)):
        # what is charged is computed in nano-dollars; a price that cannot be held exactly would be another price
        raise ValueError(f"{what} is {text[:40]!r}; give at most {_MOST_DECIMALS} decimals")
    return amount
