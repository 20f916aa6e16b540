"""``appliance doctor``: green, yellow or red, with the fix in one line."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

import appliance
from appliance.cli.common import Failure, settings_or_exit
from appliance.cli.ledger import print_json
from appliance.doctor import Check
from appliance.settings import Settings

_EVERY_S = 2.0
_COLOURS = {"green": "green", "yellow": "yellow", "red": "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.option("--gate", is_flag=True, help="Only whether it serves: gateway, engines, ledger, models.")
@click.option("--wait", "wait_s", default=0.0, metavar="SECONDS", help="Ask again until nothing is red.")
@click.option("--certificate", default="/etc/appliance-edge/server.crt", show_default=True, help="The proxy's.")
@click.option("--try-egress", is_flag=True, help="Open connections to public addresses, to see that none opens.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Also write a redacted archive for support to FILE.")
def doctor(as_json: bool, gate: bool, wait_s: float, certificate: str, try_egress: bool, bundle: Path | None) -> None:
    """What support would ask for. Changes nothing.

    \b
    Exit code 0: nothing is red. 1: something is.
    """
    settings = settings_or_exit()
    give_up = time.monotonic() + wait_s
    while True:
        found = list(look(settings, gate, Path(certificate), try_egress))
        if not any(check.colour == "red" for check in found) or time.monotonic() >= give_up:
            break
        time.sleep(_EVERY_S)
    if as_json:
        print_json({"checks": found})
    else:
        show(found)
    if bundle is not None:
        _write(settings, found, bundle)
    sys.exit(1 if any(check.colour == "red" for check in found) else 0)


def look(settings: Settings, gate: bool, certificate: Path, try_egress: bool) -> Iterator[Check]:
    """Every check, in the order in which support would ask."""
    from appliance.cli.status import look as status
    from appliance.doctor import checks, machine
    from appliance.supervisor.vllm import on_cpu

    if not gate:
        yield machine.system(appliance.__version__)
        yield machine.gpu(on_cpu())
        yield machine.disk(settings.home)
        yield machine.clock()
        yield machine.private(settings)
        proxy = machine.certificate(certificate, datetime.now(UTC))
        if proxy is not None:
            yield proxy
    yield checks.models(settings)
    if not gate:
        yield checks.plan(settings, os.environ)
    yield checks.ledger(settings)
    seen = status(settings)
    yield checks.gateway(seen)
    yield from checks.engines(settings)
    if not gate:
        yield from checks.live(settings, seen)
        yield machine.egress(try_egress)


def show(found: list[Check]) -> None:
    """One line a check, its fix below it."""
    width = max(len(check.name) for check in found)
    for check in found:
        click.echo(
            f"{click.style(check.colour.ljust(6), fg=_COLOURS[check.colour])}  {check.name.ljust(width)}  {check.found}"
        )
        if check.fix:
            click.echo(f"{'':{width + 8}}  fix: {check.fix}")


def _write(settings: Settings, found: list[Check], target: Path) -> None:
    from appliance.doctor.archive import write

    try:
        names = write(settings, found, target, time.time())
    except FileExistsError:
        raise Failure(f"{target} exists already; name another file") from None
    except OSError as e:
        raise Failure(f"{target} cannot be written ({e.strerror}); name a file elsewhere") from None
    click.echo(
        f"{target}: {len(names)} files, without keys, prompts or addresses; look into it before you send it", err=True
    )
