"""``appliance prices list | set | import | defaults``, ``server-cost set | show``, ``coefficients list | set``."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import click
import msgspec

from appliance.cli.ledger import as_json, date, opened, paged, print_fields, print_json, print_page

_UNITS = "prompt_token, cached_token, completion_token, thinking_token, audio_token, audio_s or character"
_MOST_BYTES = 4 * 1024 * 1024
_from = click.option("--from", "since", metavar="DATE", help="In force from this date on (default: now).")


@click.group()
def prices() -> None:
    """What hosted models charge, dated. A price that changes is a new row."""


@prices.command("list")
@paged
def list_prices(limit: int, at: str | None, as_json: bool) -> None:
    """By provider, model and unit, oldest first."""
    from appliance.ledger.stores import prices as store

    with opened() as ledger:
        found = store.prices_page(ledger.engine, limit=limit, at=at)
    _print_prices(found, as_json)


@prices.command("set")
@click.argument("provider")
@click.argument("model")
@click.argument("unit")
@click.argument("usd_per_million")
@click.option("--batch", is_flag=True, help="The price of batches.")
@click.option("--source", default="", help="Where it was looked up.")
@_from
@as_json
def set_price(
    provider: str,
    model: str,
    unit: str,
    usd_per_million: str,
    batch: bool,
    source: str,
    since: str | None,
    as_json: bool,
) -> None:
    """Set the price of a million of UNIT, such as `google gemini-3.8-flash prompt_token 0.75`."""
    from appliance.ledger.stores import prices as store

    with opened() as ledger:
        made = store.set_price(
            ledger.engine,
            ledger.actor,
            provider,
            model,
            unit,
            usd_per_million,
            effective_ms=ledger.moment(since),
            batch=batch,
            source=source,
        )
        ledger.heard()
    (print_json if as_json else print_fields)(made)


@prices.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@as_json
def import_prices(file: Path, as_json: bool) -> None:
    """Set every price of FILE (.json: a list of objects; else CSV with a head), or none if one is wrong.

    Columns: provider, model, unit, usd_per_million, and if wanted batch, effective_ms, source.
    """
    from appliance.ledger.stores import prices as store
    from appliance.ledger.stores.pages import Page

    with opened() as ledger:
        made = store.set_prices(ledger.engine, ledger.actor, _read(file, store.NewPrice))
        ledger.heard()
    _print_prices(Page(made, None), as_json)


@prices.command()
@as_json
def defaults(as_json: bool) -> None:
    """Set the prices that come with this version, where there are none yet."""
    from appliance.ledger.stores import prices as store
    from appliance.ledger.stores.pages import Page

    with opened() as ledger:
        made = store.set_defaults(ledger.engine, ledger.actor)
        ledger.heard()
    _print_prices(Page(made, None), as_json)


@click.group("server-cost")
def server_cost() -> None:
    """What the server costs, dated: purchase, lifetime, upkeep, power, tariff, and what a dollar is in rupees."""


@server_cost.command("set")
@click.option("--purchase-usd", required=True, help="Such as 250000.")
@click.option("--lifetime-months", type=int, default=60, show_default=True)
@click.option("--upkeep-usd-per-month", default="0", show_default=True, help="Rack, network, people.")
@click.option("--busy-w", type=int, required=True, help="Watts while it works.")
@click.option("--idle-w", type=int, required=True, help="Watts while it waits.")
@click.option("--tariff-inr-per-kwh", required=True, help="Such as 9.5.")
@click.option("--inr-per-usd", required=True, help="Such as 84.5.")
@_from
@as_json
def set_server(since: str | None, as_json: bool, **fields: Any) -> None:
    """Say what it costs from now on, or from a date."""
    from appliance.ledger.stores import prices as store

    with opened() as ledger:
        made = store.set_server(ledger.engine, ledger.actor, effective_ms=ledger.moment(since), **fields)
        ledger.heard()
    (print_json if as_json else print_fields)(made)


@server_cost.command("show")
@paged
def show_server(limit: int, at: str | None, as_json: bool) -> None:
    """Every row, oldest first."""
    from appliance.ledger.stores import prices as store

    with opened() as ledger:
        found = store.servers_page(ledger.engine, limit=limit, at=at)
    print_page(
        found,
        ["FROM", "PURCHASE USD", "MONTHS", "UPKEEP USD", "BUSY W", "IDLE W", "INR/KWH", "INR/USD"],
        lambda s: (
            date(s.effective_ms),
            s.purchase_usd,
            s.lifetime_months,
            s.upkeep_usd_per_month,
            s.busy_w,
            s.idle_w,
            s.tariff_inr_per_kwh,
            s.inr_per_usd,
        ),
        as_json,
    )


@click.group()
def coefficients() -> None:
    """How long units of a local model's work take, from a measured profile."""


@coefficients.command("list")
@paged
def list_coefficients(limit: int, at: str | None, as_json: bool) -> None:
    """By model, oldest first; model * is any other."""
    from appliance.ledger.stores import prices as store

    with opened() as ledger:
        found = store.measured_page(ledger.engine, limit=limit, at=at)
    print_page(
        found,
        ["MODEL", "FROM", "PROMPT NS", "ANSWER NS", "AUDIO S NS", "CHARACTER NS", "SOURCE"],
        lambda c: (
            c.model,
            date(c.effective_ms),
            f"{c.prompt_token_ns:g}",
            f"{c.completion_token_ns:g}",
            f"{c.audio_s_ns:g}",
            f"{c.character_ns:g}",
            c.source,
        ),
        as_json,
    )


@coefficients.command("set")
@click.argument("model")
@click.option("--prompt-token-ns", type=float, default=0.0)
@click.option("--completion-token-ns", type=float, default=0.0)
@click.option("--audio-s-ns", type=float, default=0.0)
@click.option("--character-ns", type=float, default=0.0)
@click.option("--source", default="", help="The profile they were measured with.")
@_from
@as_json
def set_coefficients(model: str, source: str, since: str | None, as_json: bool, **ns: float) -> None:
    """Set them for MODEL (* for any other) from now on, or from a date."""
    from appliance.ledger.stores import prices as store

    with opened() as ledger:
        made = store.set_coefficients(
            ledger.engine, ledger.actor, model, effective_ms=ledger.moment(since), source=source, **ns
        )
        ledger.heard()
    (print_json if as_json else print_fields)(made)


def _print_prices(page: Any, as_json: bool) -> None:
    print_page(
        page,
        ["PROVIDER", "MODEL", "UNIT", "BATCH", "FROM", "USD/MILLION", "SOURCE"],
        lambda p: (p.provider, p.model, p.unit, p.batch, date(p.effective_ms), p.usd_per_million, p.source),
        as_json,
    )


def _read(file: Path, kind: Any) -> list[Any]:
    """Prices of a file. Raises ValueError."""
    try:
        with file.open("rb") as opened_file:
            raw = opened_file.read(_MOST_BYTES + 1)
    except OSError as e:
        raise ValueError(f"{file} cannot be read ({e.strerror})") from None
    if len(raw) > _MOST_BYTES:
        raise ValueError(f"{file} is larger than {_MOST_BYTES} bytes; split it")
    try:
        if file.suffix == ".json":
            return list(msgspec.json.decode(raw, type=list[kind]))
        rows = list(csv.DictReader(io.StringIO(raw.decode("utf-8-sig"))))
        filled = [{name: text for name, text in row.items() if text not in ("", None)} for row in rows]
        return list(msgspec.convert(filled, list[kind], strict=False))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, csv.Error, TypeError, AttributeError) as e:
        columns = ", ".join(kind.__struct_fields__)
        raise ValueError(f"{file} is not understood ({e}); write a list with {columns}") from None
