"""``appliance db upgrade | backup | restore | check``."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from appliance.cli.common import settings_or_exit
from appliance.cli.ledger import Open, as_json, print_json, sentences
from appliance.errors import ApplianceError
from appliance.settings import Settings


@click.group()
def db() -> None:
    """The ledger's database: upgrade, back up, restore, check."""


@db.command()
@as_json
def upgrade(as_json: bool) -> None:
    """Bring the ledger to the schema of this version, or make it. A newer one is refused and left alone."""
    from appliance.ledger.upgrade import HEAD, prepare, revision_of

    settings = settings_or_exit()
    with sentences():
        before = revision_of(settings.ledger_where)
        prepare(settings.ledger_where)
    if as_json:
        print_json({"before": before, "schema": HEAD})
    elif before == HEAD:
        click.echo(f"the ledger has schema {HEAD} already")
    else:
        click.echo(f"the ledger has schema {HEAD} now" + (f", before {before}" if before else ", made new"))


@db.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@as_json
def backup(file: Path | None, as_json: bool) -> None:
    """Write a backup to FILE (default: a new one in HOME/backups), while gateways run or not."""
    from appliance.ledger.backup import backup as write

    settings = settings_or_exit()
    with sentences():
        target = file or _new_file(settings)
        _make_directory(target.parent)
        manifest = write(settings.ledger_where, target)
    _note(settings, "ledger.backup", manifest)
    if as_json:
        print_json({"file": str(target), "manifest": manifest})
        return
    click.echo(target)
    rows = ", ".join(f"{count} {name}" for name, count in manifest.rows.items())
    click.echo(f"schema {manifest.schema}, {manifest.bytes} bytes, sha256 {manifest.sha256}\n{rows}", err=True)


@db.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace a ledger that holds something; it is kept aside.")
@as_json
def restore(file: Path, force: bool, as_json: bool) -> None:
    """Put the backup FILE in the ledger's place. Stop the gateways first."""
    from appliance.ledger.restore import restore as put

    settings = settings_or_exit()
    with sentences():
        done = put(settings.ledger_where, file.absolute(), force=force)
    _note(settings, "ledger.restore", done.backup)
    if as_json:
        print_json(done)
        return
    click.echo(f"restored {file} ({done.backup.rows.get('requests', 0)} requests)")
    if done.aside is not None:
        click.echo(f"what was there is kept as {done.aside}")


@db.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@as_json
def check(file: Path | None, as_json: bool) -> None:
    """Whether the ledger (or a backup FILE) is whole and its sums agree. Exit code 1 if not."""
    from appliance.ledger.backup import verified
    from appliance.ledger.check import check as look

    settings = settings_or_exit()
    with sentences():
        if file is not None:
            verified(file)
        verdict = look(settings.ledger_where if file is None else file.absolute())
    if as_json:
        print_json(verdict)
    else:
        for line in verdict.lines:
            click.echo(
                f"{'ok   ' if line.ok else 'WRONG'}  {line.question}" + (f": {line.detail}" if line.detail else "")
            )
        click.echo("the ledger is right" if verdict.ok else "the ledger is NOT right; keep it, and a backup, as it is")
    sys.exit(0 if verdict.ok else 1)


def _new_file(settings: Settings) -> Path:
    return settings.home / "backups" / f"ledger-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.db"


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as e:
        raise ValueError(f"{path} cannot be made ({e.strerror}); name a file elsewhere") from None
    if not os.access(path, os.W_OK):
        raise ValueError(f"{path} cannot be written; name a file elsewhere")


def _note(settings: Settings, action: str, manifest: Any) -> None:
    """In the audit, if the ledger takes it: a backup is worth having of one that cannot be written, too."""
    from appliance.ledger.core import engine
    from appliance.ledger.stores.changes import change
    from appliance.ledger.upgrade import HEAD

    if action == "ledger.backup" and manifest.schema != HEAD:
        return  # an older one has no audit, and a backup upgrades nothing
    made = engine(settings.ledger_where)
    try:
        with change(made, Open(settings, made).actor) as changing:
            about = {"made_ms": manifest.made_ms, "sha256": manifest.sha256, "rows": manifest.rows}
            changing.record(action, manifest.ledger_id, after=about)
    except ApplianceError as e:
        click.echo(f"warning: the audit has no line of this ({e.message})", err=True)
    finally:
        made.dispose()
