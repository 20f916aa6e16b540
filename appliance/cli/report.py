"""``appliance report``: what a month cost a resolved conversation; ``appliance demo``: a simulated month of it."""

from __future__ import annotations

import gc
import importlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.cli.common import Failure
from appliance.cli.ledger import as_json, print_json, sentences
from appliance.settings import Settings, SettingsError, load_settings
from appliance.supervisor.exits import Exit

if TYPE_CHECKING:
    from appliance.ledger.report import Report

_MOST_CONVERSATIONS = 2_000_000
_PARALLEL_FROM_BYTES = 64 * 1024 * 1024


@click.command()
@click.option("--month", help="Such as 2026-11 (default: the last whole month).")
@click.option("--tenant", help="Only this tenant's conversations.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Where to write (default: HOME/reports).")
@click.option("--hosted-model", help="PROVIDER/MODEL to compare with (default: the hosted model in use).")
@click.option("--demo", is_flag=True, help="On the simulated month that `appliance demo` made.")
@click.option(
    "--home", type=click.Path(file_okay=False, path_type=Path), help="On this home instead of APPLIANCE_HOME."
)
@as_json
def report(
    month: str | None,
    tenant: str | None,
    out: Path | None,
    hosted_model: str | None,
    demo: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Cost per resolved conversation: one HTML page, with its figures as CSV and JSON beside it.

    With --json, the JSON goes to standard output, and files are written only where --out names a place.
    """
    if demo and home is not None:
        raise Failure("give --demo or --home, not both", Exit.BAD_ARGUMENTS)
    settings = _settings(_demo_home() if demo else home)
    found = _built(settings, month, tenant, hosted_model)
    if as_json:
        from appliance.ledger.report.tables import to_json

        click.echo(to_json(found))
        if out is None:
            return
    files = _write(found, out or settings.home / "reports")
    if not as_json:
        _summary(found)
    for path in files:
        click.echo(path, err=as_json)


@click.command()
@click.option("--month", help="Such as 2026-11 (default: the last whole month).")
@click.option(
    "--conversations",
    type=click.IntRange(1, _MOST_CONVERSATIONS),
    default=60_000,
    show_default=True,
    help="Opened in that month.",
)
@click.option("--months", type=click.IntRange(1, 12), default=2, show_default=True, help="How many, ending with it.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The same seed, the same month.")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where (default: APPLIANCE_HOME with -demo after it).",
)
@as_json
def demo(month: str | None, conversations: int, months: int, seed: int, home: Path | None, as_json: bool) -> None:
    """Fill a home of its own with simulated conversations, to see a report before there is one.

    A home that holds a real ledger is refused; one that holds an earlier demo is filled anew.
    """
    from appliance.ledger.demo import fill

    where = home or _demo_home()
    settings = _settings(where)
    with sentences():
        wanted = _month(month, settings.site.timezone)
        where.mkdir(parents=True, exist_ok=True, mode=0o700)
        filled = fill(
            settings.ledger_where, wanted, conversations, months=months, seed=seed, timezone=settings.site.timezone
        )
    if as_json:
        print_json({"home": str(where), "simulated": True, "months": filled.months, "rows": filled.rows})
        return
    rows = ", ".join(f"{number:,} {name}" for name, number in filled.rows.items())
    click.echo(f"simulated {' and '.join(filled.months)} in {where}: {rows}")
    which = "--demo" if home is None else f"--home {where}"
    click.echo(f"see it with: appliance report {which} --month {filled.months[-1]}")


def _demo_home() -> Path:
    """Beside the real home, never in it."""
    real = load_settings_or_fail(os.environ.get("APPLIANCE_HOME")).home
    return real.with_name(f"{real.name}-demo")


def load_settings_or_fail(home: str | None) -> Settings:
    """Settings of ``home`` alone; a mistake in them ends the command."""
    try:
        return load_settings({"APPLIANCE_HOME": home or "", "APPLIANCE_RUN": os.environ.get("APPLIANCE_RUN", "")})
    except SettingsError as e:
        raise Failure(str(e), Exit.BAD_ARGUMENTS) from None


def _settings(home: Path | None) -> Settings:
    """Of ``home``, where one is named: then APPLIANCE_LEDGER_URL, which is the real ledger's, does not count."""
    if home is not None:
        return load_settings_or_fail(str(home))
    from appliance.cli.common import settings_or_exit

    return settings_or_exit()


def _month(text: str | None, timezone: str) -> int:
    from appliance.ledger.months import Calendar, before, parse_month

    return parse_month(text) if text else before(Calendar(timezone).month_of(int(time.time() * 1000)))


def _built(settings: Settings, month: str | None, tenant: str | None, hosted_model: str | None) -> Report:
    from appliance.ledger.report import build, slos_of
    from appliance.ledger.upgrade import prepare, revision_of

    where = settings.ledger_where
    with sentences():
        wanted = _month(month, settings.site.timezone)
        if revision_of(where) is None:
            raise ValueError(f"there is no ledger in {settings.home}; `appliance serve` or `appliance demo` makes one")
        prepare(where)
        # millions of rows without a cycle among them: walking them took a tenth of the time, and this process ends soon
        gc.disable()
        large = not isinstance(where, Path) or where.stat().st_size >= _PARALLEL_FROM_BYTES
        return build(
            where,
            wanted,
            int(time.time() * 1000),
            tenant=tenant,
            timezone=settings.site.timezone,
            slos=slos_of(settings.slos),
            hosted_model=_model(hosted_model),
            workers=min(4, os.cpu_count() or 1) if large else 1,
            meanwhile=_plotting,
        )


def _plotting() -> None:
    """Half a second of imports that the page will need."""
    importlib.import_module("matplotlib.backends.backend_svg")
    importlib.import_module("matplotlib.figure")


def _model(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    provider, slash, model = text.partition("/")
    if not slash or not provider or not model:
        raise ValueError(
            f"the hosted model is {text[:60]!r}; write PROVIDER/MODEL, as `appliance prices list` shows them"
        )
    return provider, model


def _write(found: Report, directory: Path) -> list[Path]:
    """HTML, CSV and JSON; whole files or none."""
    from appliance.ledger.report.page import render
    from appliance.ledger.report.tables import to_csv, to_json

    parts = ["simulated"] if found.simulated else []
    parts += ["report", found.month, *([found.tenant] if found.tenant else [])]
    name = "-".join(parts)
    contents = {
        f"{name}.html": render(found).encode(),
        f"{name}.csv": to_csv(found).encode("utf-8-sig"),  # a spreadsheet takes it for UTF-8 by the mark
        f"{name}.json": to_json(found),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        written = []
        for filename, data in contents.items():
            partial = directory / f".{filename}.partial"
            partial.write_bytes(data)
            written.append(partial.replace(directory / filename))
    except OSError as e:
        raise Failure(
            f"the report cannot be written to {directory}: {e.strerror}; name another place with --out"
        ) from None
    return written


def _summary(found: Report) -> None:
    from appliance.ledger.report.text import count, money, share

    c, even = found.counts, found.break_even
    if found.simulated:
        click.echo("SIMULATED DATA: nothing of this happened")
    click.echo(
        f"{found.month}: {count(c.conversations)} conversations, {count(c.confirmed)} confirmed resolved,"
        f" {count(c.presumed)} presumed"
    )
    standard = found.hosted.quote(False)
    for name, value in (
        ("marginal", found.cost.marginal.value),
        ("fully loaded", found.cost.loaded),
        ("all-hosted", None if standard is None else standard.per_confirmed_nusd),
    ):
        click.echo(f"  {name:13} {money(value, found) if value is not None else 'not known'}")
    click.echo(f"  utilisation   {share(found.utilisation.busy_share)}")
    if even is not None and even.standard is not None:
        click.echo(f"  break-even    {count(even.standard)} a month; this month {count(even.now)}")
    for gap in found.missing:
        click.echo(f"  missing: {gap.what}" + (f" {gap.command}" if gap.command else ""))
