"""What people may type for a tenant, a key, a price: checked, with a sentence that says what would do.

What it refuses to be: SQL. Every value that passes here is bound as a parameter all the same.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import get_args
from zoneinfo import ZoneInfo

import msgspec

from appliance.ledger.money import parse_amount, to_nusd
from appliance.types import Endpoint, Residency

_LONGEST_NAME = 64
_MOST_NAMES = 200
_MOST_LIMIT = 1_000_000_000
_MOST_NUSD = 10**18  # a billion dollars, as ``parse_amount`` has it
_MOST_MS = 253_402_300_799_999  # the last moment of the year 9999


class Taken(ValueError):
    """What was to be made is there already; the text says what to choose instead."""


def name(text: str, what: str) -> str:
    """1 to 64 printable characters, without spaces around it."""
    stripped = unicodedata.normalize("NFC", text).strip()
    if not stripped or len(stripped) > _LONGEST_NAME or not stripped.isprintable():
        raise ValueError(f"{what} is 1 to {_LONGEST_NAME} printable characters; got {text[:80]!r}")
    return stripped


def free(text: str, what: str, most: int) -> str:
    """Any text of at most ``most`` characters that every database can hold."""
    if len(text) > most or "\0" in text or (not text.isascii() and _has_surrogates(text)):
        raise ValueError(
            f"{what} is at most {most} characters, without NUL and half surrogates; mend it or leave it out"
        )
    return text


def identifier(text: str, what: str) -> str:
    """1 to 64 of a–z, 0–9, ``-`` and ``_``, starting with a letter or digit."""
    plain = text.strip()
    good = plain.isascii() and plain.replace("-", "").replace("_", "").isalnum() and plain == plain.lower()
    if not good or len(plain) > _LONGEST_NAME or not plain[:1].isalnum():
        raise ValueError(f"{what} is 1 to {_LONGEST_NAME} lower-case letters, digits, - and _; got {text[:80]!r}")
    return plain


def one_of(text: str, allowed: Iterable[str], what: str) -> str:
    """One of a closed set."""
    known = tuple(allowed)
    if text not in known:
        raise ValueError(f"{what} is {text[:40]!r}; choose one of {', '.join(known)}")
    return text


def residency(text: str) -> str:
    """Where a tenant's traffic may go."""
    return one_of(text, get_args(Residency), "the residency")


def nusd(value: int | None, what: str) -> int | None:
    """An amount of nano-dollars from 0 to a billion dollars; None for none."""
    if value is not None and not 0 <= value <= _MOST_NUSD:
        raise ValueError(f"{what} is out of range; give nano-dollars from 0 to {_MOST_NUSD}, or none")
    return value


def unix_ms(value: int, what: str) -> int:
    """A moment from 1970 to 9999."""
    if not 0 <= value <= _MOST_MS:
        raise ValueError(f"{what} is {value}; give Unix milliseconds from 0 to {_MOST_MS}")
    return value


def names(values: Iterable[str], what: str) -> str:
    """A list as the ledger keeps it: a JSON array, sorted, without repeats."""
    checked = sorted({name(value, what) for value in values})
    if len(checked) > _MOST_NAMES:
        raise ValueError(f"{what}: at most {_MOST_NAMES} can be listed; leave the list empty to allow all")
    return msgspec.json.encode(checked).decode()


def endpoints(values: Iterable[str]) -> str:
    """A list of endpoints, as OpenAI calls them without ``/v1/``."""
    known = get_args(Endpoint)
    return names(
        (one_of(value.removeprefix("/v1/").replace("/", "."), known, "an endpoint") for value in values), "an endpoint"
    )


def cap(text: str | None, inr_per_usd: Decimal | None = None) -> int | None:
    """A monthly cap in nano-dollars; ``none`` or nothing for no cap. ``₹`` needs the rate."""
    if text is None or text.strip().lower() in ("", "none"):
        return None
    plain = text.strip()
    if plain.startswith("₹"):
        if not inr_per_usd:
            raise ValueError(
                "a cap in ₹ needs a rate; set one with `appliance server-cost set`, or give the cap in USD"
            )
        return to_nusd(parse_amount(plain[1:], "the cap") / inr_per_usd)
    return to_nusd(parse_amount(plain.removeprefix("$"), "the cap"))


def limit(value: int | None, what: str) -> int | None:
    """A limit of at least 1; None for none."""
    if value is not None and not 1 <= value <= _MOST_LIMIT:
        raise ValueError(f"{what} is {value}; give a number from 1 to {_MOST_LIMIT}, or none for no limit")
    return value


def moment(text: str, zone: ZoneInfo) -> int:
    """``2026-11-30`` or ``2026-11-30T18:00`` (the site's time unless it names a zone) as Unix milliseconds."""
    try:
        parsed = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a date; write 2026-11-30 or 2026-11-30T18:00") from None
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=zone)
    at_ms = round(aware.timestamp() * 1000)
    if not 0 <= at_ms <= _MOST_MS:
        raise ValueError(f"{text[:40]!r} is out of range; give a date from 1970 to 9999")
    return at_ms


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)
