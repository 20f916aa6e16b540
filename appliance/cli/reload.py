"""``appliance reload``."""

from __future__ import annotations

import json

import click

from appliance.cli.common import Failure, settings_or_exit
from appliance.cli.control import Refused, ask


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def reload(as_json: bool) -> None:
    """Take on appliance.toml as it is now, as far as a running appliance can; the rest is named."""
    settings = settings_or_exit()  # a mistake in the file ends here, and nothing has changed
    try:
        gateway = ask(settings.run / "control.sock", "reload")
        serve = ask(settings.run / "serve.ctl", "reload", who="appliance serve")
    except Refused as e:
        raise Failure(str(e)) from None
    if gateway is None and serve is None:
        raise Failure(f"nothing runs in {settings.home}; the file is read when it starts")
    gateway, serve = gateway or {}, serve or {}
    waiting = {f"engines.{name}" for name in serve.get("needs_restart", [])}
    report = {
        "applied": [name for name in gateway.get("applied", []) if name not in waiting],
        "started": serve.get("started", []),
        "stopped": serve.get("stopped", []),
        "needs_engine_restart": serve.get("needs_restart", []),
        "needs_restart": gateway.get("needs_restart", []),
    }
    if as_json:
        click.echo(json.dumps(report))
        return
    if not any(report.values()):
        click.echo("nothing has changed")
    for word in ("applied", "started", "stopped"):
        if report[word]:
            click.echo(f"{word}: {', '.join(report[word])}")
    for name in report["needs_engine_restart"]:
        click.echo(f"engine {name} keeps its old settings until `appliance engine restart {name}`")
    for name in report["needs_restart"]:
        click.echo(f"{name} keeps its old value until the appliance is restarted")
