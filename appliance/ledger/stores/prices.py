"""What hosted models charge, what the server costs, and how long units of work take: rows with a date from which on.

What it is: append and list. A price that changes is a new row; what was computed with the old one stays as it was.
What it refuses to be: a guess. Defaults are only what was looked up, and say where.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Engine, Integer, cast, insert, select

from appliance.ledger.core import reading
from appliance.ledger.money import parse_amount
from appliance.ledger.schema import coefficients, prices, server_costs
from appliance.ledger.stores import values
from appliance.ledger.stores.changes import Actor, change
from appliance.ledger.stores.pages import Page, paged
from appliance.ledger.tariff import UNITS

_DEFAULTS = Path(__file__).with_name("default_prices.json")
_MOST_MONTHS = 1200
_MOST_W = 1_000_000
_MOST_NS = 1e15
_LONGEST_SOURCE = 500


class PriceInfo(Struct, frozen=True):
    """USD a million units, in force from ``effective_ms`` on."""

    provider: str
    model: str
    unit: str
    batch: bool
    effective_ms: int
    usd_per_million: str
    source: str


class NewPrice(Struct, frozen=True, forbid_unknown_fields=True):
    """A price to be set; from now on where ``effective_ms`` is None."""

    provider: str
    model: str
    unit: str
    usd_per_million: str
    batch: bool = False
    effective_ms: int | None = None
    source: str = ""


class ServerCost(Struct, frozen=True):
    """What the server costs from ``effective_ms`` on; money as decimal text."""

    effective_ms: int
    purchase_usd: str
    lifetime_months: int
    upkeep_usd_per_month: str
    busy_w: int
    idle_w: int
    tariff_inr_per_kwh: str
    inr_per_usd: str


class CoefficientInfo(Struct, frozen=True):
    """Nanoseconds of the server a unit takes; model ``*`` is any other."""

    model: str
    effective_ms: int
    prompt_token_ns: float
    completion_token_ns: float
    audio_s_ns: float
    character_ns: float
    source: str


def _listed(engine: Engine, table: Any, kind: Any, *order: str) -> list[Any]:
    columns = [table.c[field] for field in kind.__struct_fields__]
    query = select(*columns).order_by(*(table.c[name] for name in order))
    with reading(engine) as connection:
        return [kind(**row._mapping) for row in connection.execute(query)]


def listed(engine: Engine) -> list[PriceInfo]:
    """All prices, by provider, model and unit, oldest first."""
    return _listed(engine, prices, PriceInfo, "provider", "model", "unit", "batch", "effective_ms")


def servers(engine: Engine) -> list[ServerCost]:
    """What the server costs, oldest first."""
    return _listed(engine, server_costs, ServerCost, "effective_ms")


def measured(engine: Engine) -> list[CoefficientInfo]:
    """All coefficients, by model, oldest first."""
    return _listed(engine, coefficients, CoefficientInfo, "model", "effective_ms")


def prices_page(engine: Engine, *, at: str | None = None, limit: int = 50) -> Page[PriceInfo]:
    """All prices in parts. Raises ValueError for a bad cursor or limit."""
    c = prices.c
    return _page(
        engine, PriceInfo, prices, (c.provider, c.model, c.unit, cast(c.batch, Integer), c.effective_ms), at, limit
    )


def servers_page(engine: Engine, *, at: str | None = None, limit: int = 50) -> Page[ServerCost]:
    """All server costs in parts. Raises ValueError for a bad cursor or limit."""
    return _page(engine, ServerCost, server_costs, (server_costs.c.effective_ms,), at, limit)


def measured_page(engine: Engine, *, at: str | None = None, limit: int = 50) -> Page[CoefficientInfo]:
    """All coefficients in parts. Raises ValueError for a bad cursor or limit."""
    c = coefficients.c
    return _page(engine, CoefficientInfo, coefficients, (c.model, c.effective_ms), at, limit)


def _page(engine: Engine, kind: Any, table: Any, order: tuple[Any, ...], at: str | None, limit: int) -> Page[Any]:
    fields = kind.__struct_fields__
    query = select(*(table.c[field] for field in fields))
    return paged(engine, query, order, lambda row: kind(**{f: row[f] for f in fields}), at=at, limit=limit)


def inr_per_usd(engine: Engine) -> Decimal | None:
    """The newest rate; None while no server cost is set."""
    found = servers(engine)
    return Decimal(found[-1].inr_per_usd) if found else None


def set_price(
    engine: Engine,
    actor: Actor,
    provider: str,
    model: str,
    unit: str,
    usd_per_million: str,
    *,
    effective_ms: int | None = None,
    batch: bool = False,
    source: str = "",
) -> PriceInfo:
    """A price from now on, or from a date. Raises ValueError (also for a second one from the same moment)."""
    new = NewPrice(provider, model, unit, usd_per_million, batch, effective_ms, source)
    return set_prices(engine, actor, [new])[0]


def set_prices(engine: Engine, actor: Actor, new: Sequence[NewPrice]) -> list[PriceInfo]:
    """All of ``new`` or, where one of them is wrong, none. Raises ValueError."""
    checked = [_checked(price) for price in new]
    made = []
    with change(engine, actor) as changing:
        for price in checked:
            one = PriceInfo(
                price.provider,
                price.model,
                price.unit,
                price.batch,
                _from(changing.now_ms, price.effective_ms),
                price.usd_per_million,
                price.source,
            )
            _append(changing.connection, prices, one, ("provider", "model", "unit", "batch", "effective_ms"))
            changing.record("price.set", f"{one.provider}/{one.model}/{one.unit}", after=_row(one))
            made.append(one)
    return made


def _checked(new: NewPrice) -> NewPrice:
    provider = values.identifier(new.provider, "the provider")
    if provider == "local":
        raise ValueError("local models have no price; `appliance coefficients set` says how long their work takes")
    return NewPrice(
        provider,
        values.name(new.model, "the model"),
        values.one_of(new.unit, UNITS, "the unit"),
        str(parse_amount(new.usd_per_million, "the price")),
        new.batch,
        new.effective_ms,
        values.free(new.source, "the source", _LONGEST_SOURCE),
    )


def set_server(engine: Engine, actor: Actor, *, effective_ms: int | None = None, **fields: Any) -> ServerCost:
    """What the server costs from now on, or from a date. Raises ValueError."""
    checked = {name: str(parse_amount(str(fields[name]), name.replace("_", " "))) for name in _SERVER_MONEY}
    months, busy_w, idle_w = (int(fields[name]) for name in ("lifetime_months", "busy_w", "idle_w"))
    if not 1 <= months <= _MOST_MONTHS:
        raise ValueError(f"the lifetime is {months} months; give a number from 1 to {_MOST_MONTHS}")
    if not 0 <= idle_w <= busy_w <= _MOST_W:
        raise ValueError(f"idle {idle_w} W and busy {busy_w} W do not fit; give 0 ≤ idle ≤ busy ≤ {_MOST_W}")
    if Decimal(checked["inr_per_usd"]) <= 0:
        raise ValueError("inr per usd is 0; give the rate, such as 84.5")
    with change(engine, actor) as changing:
        from_ms = _from(changing.now_ms, effective_ms)
        made = ServerCost(
            from_ms,
            checked["purchase_usd"],
            months,
            checked["upkeep_usd_per_month"],
            busy_w,
            idle_w,
            checked["tariff_inr_per_kwh"],
            checked["inr_per_usd"],
        )
        _append(changing.connection, server_costs, made, ("effective_ms",))
        changing.record("server_cost.set", "server", after=_row(made))
    return made


def set_coefficients(
    engine: Engine, actor: Actor, model: str, *, effective_ms: int | None = None, source: str = "", **ns: float
) -> CoefficientInfo:
    """How long units of a model's work take, from now on or from a date. Raises ValueError."""
    model = "*" if model == "*" else values.name(model, "the model")
    source = values.free(source, "the source", _LONGEST_SOURCE)
    for name, value in ns.items():
        if name not in _NS:
            raise ValueError(f"{name!r} is no coefficient; choose among {', '.join(_NS)}")
        if not 0 <= value <= _MOST_NS:
            raise ValueError(f"{name} is {value}; give nanoseconds from 0 to {_MOST_NS:g}")
    with change(engine, actor) as changing:
        from_ms = _from(changing.now_ms, effective_ms)
        made = CoefficientInfo(model, from_ms, **{name: float(ns.get(name, 0.0)) for name in _NS}, source=source)
        _append(changing.connection, coefficients, made, ("model", "effective_ms"))
        changing.record("coefficients.set", model, after=_row(made))
    return made


def set_defaults(engine: Engine, actor: Actor) -> list[PriceInfo]:
    """The prices that come with this version, where there is none for the same thing and date yet."""
    there = {(p.provider, p.model, p.unit, p.batch, p.effective_ms) for p in listed(engine)}
    known = msgspec.json.decode(_DEFAULTS.read_bytes(), type=list[NewPrice])
    new = [p for p in known if (p.provider, p.model, p.unit, p.batch, p.effective_ms) not in there]
    return set_prices(engine, actor, new) if new else []


_SERVER_MONEY = ("purchase_usd", "upkeep_usd_per_month", "tariff_inr_per_kwh", "inr_per_usd")
_NS = ("prompt_token_ns", "completion_token_ns", "audio_s_ns", "character_ns")


def _from(now_ms: int, effective_ms: int | None) -> int:
    return now_ms if effective_ms is None else values.unix_ms(effective_ms, "the date it is in force from")


def _append(connection: Any, table: Any, made: Struct, key: tuple[str, ...]) -> None:
    row = _row(made)
    same = select(table.c[key[0]]).where(*(table.c[name] == row[name] for name in key))
    if connection.execute(same).first() is not None:
        raise values.Taken("there is one from that moment already, and what was charged with it stays; date it later")
    connection.execute(insert(table).values(**row))


def _row(made: Struct) -> dict[str, Any]:
    return {field: getattr(made, field) for field in made.__struct_fields__}
