"""``appliance engine …``."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import click

from appliance.cli.common import Failure, settings_or_exit
from appliance.cli.control import Refused, ask
from appliance.permit_keys import PermitKeyError, signing_key
from appliance.settings import Settings
from appliance.supervisor.exits import Exit


@click.group()
def engine() -> None:
    """One engine at a time."""


@engine.command("run")
@click.argument("name")
def run(name: str) -> None:
    """Supervise engine NAME to its end. The exit code says whether to run it again.

    \b
    0  stopped, as asked        70  crashed        (run it again)
    64 bad arguments            71  killed         (run it again)
    66 model missing            72  out of memory  (run it again: one memory profile down)
    69 socket or engine taken   73  never ready    (run it again)
                                74  hung           (run it again)
                                75  to be restarted, as asked
    """
    from appliance.notify import Notifier
    from appliance.supervisor.run import run_engine

    notifier = Notifier.take(os.environ)
    sys.exit(run_engine(settings_or_exit(), name, os.environ, notifier))


_ENDS_WITHIN_S = 120.0


@engine.command("stop")
@click.argument("name")
def stop(name: str) -> None:
    """Stop engine NAME: requests under way finish (server.drain_s), and it stays stopped."""
    settings = _with_engine(name)
    if _ask_engine(settings, name, "stop") is not None:
        _wait_until_gone(settings, name)
        click.echo(f"{name} is stopped; `appliance engine start {name}` starts it again")
    elif (answer := _ask_serve(settings, "stop", name)) is not None:
        click.echo(answer["detail"])
    else:
        click.echo(f"{name} does not run")


@engine.command("start")
@click.argument("name")
def start(name: str) -> None:
    """Start engine NAME again; a breaker that has opened is closed."""
    _start(_with_engine(name), name)


def _start(settings: Settings, name: str) -> None:
    answer = _ask_serve(settings, "start", name)
    if answer is None:
        raise Failure(
            f"no `appliance serve` runs in {settings.home}: start the engine with `systemctl start` of its unit,"
            f" or in a terminal with `appliance engine run {name}`"
        )
    click.echo(answer["detail"])


@engine.command("restart")
@click.argument("name")
def restart(name: str) -> None:
    """Restart engine NAME: requests under way finish, and settings are read again."""
    settings = _with_engine(name)
    if _ask_engine(settings, name, "restart") is not None:
        _wait_until_gone(settings, name)
        click.echo(f"{name} is starting again; `appliance status` shows it")
        return
    _start(settings, name)


@engine.command("permit-key")
def permit_key() -> None:
    """Print the public key that a hosted process checks permits by (its setting permit_key)."""
    try:
        click.echo(signing_key(settings_or_exit().home).public())
    except PermitKeyError as e:
        raise Failure(str(e)) from None


@engine.command("swap")
@click.argument("name")
@click.argument("model")
@click.option("--no-wait", is_flag=True, help="Return at once; `appliance status` shows how it goes.")
def swap(name: str, model: str, no_wait: bool) -> None:
    """Load MODEL into engine NAME's place while the old model serves, switch, and unload the old one.

    Where memory does not allow both, the old model is unloaded first and requests wait (server.swap_wait_s).
    """
    settings = _with_engine(name)
    limit_s = 1.0 if no_wait else settings.engines[name].ready_within_s * 2 + settings.server.drain_s + _ENDS_WITHIN_S
    try:
        answer = ask(
            settings.run / f"{name}.ctl", "swap", model=model, timeout_s=limit_s, who=f"engine {name}'s supervisor"
        )
    except Refused as e:
        if no_wait and isinstance(e.__context__, TimeoutError):
            click.echo(f"{name} is being swapped; `appliance status` shows how it goes")
            return
        raise Failure(str(e)) from None
    if answer is None:
        raise Failure(f"engine {name!r} does not run; start it first, or set its model in appliance.toml")
    click.echo(answer["detail"])


def _with_engine(name: str) -> Settings:
    settings = settings_or_exit()
    if name not in settings.engines:
        known = ", ".join(sorted(settings.engines)) or "none"
        raise Failure(f"no engine {name!r} in appliance.toml; configured: {known}", Exit.BAD_ARGUMENTS)
    if settings.engines[name].elsewhere:
        raise Failure(f"engine {name!r} runs elsewhere; this appliance only connects to it", Exit.BAD_ARGUMENTS)
    return settings


def _ask_engine(settings: Settings, name: str, op: str) -> dict[str, Any] | None:
    try:
        return ask(settings.run / f"{name}.ctl", op, who=f"engine {name}'s supervisor")
    except Refused as e:
        raise Failure(str(e)) from None


def _ask_serve(settings: Settings, op: str, name: str) -> dict[str, Any] | None:
    try:
        return ask(settings.run / "serve.ctl", op, name=name, who="appliance serve")
    except Refused as e:
        raise Failure(str(e)) from None


def _wait_until_gone(settings: Settings, name: str) -> None:
    """Until the supervisor that was asked has ended: its socket goes last."""
    give_up = time.monotonic() + settings.server.drain_s + _ENDS_WITHIN_S
    path = settings.run / f"{name}.ctl"
    while path.exists():
        if time.monotonic() > give_up:
            raise Failure(f"{name} has not stopped yet; `appliance status` shows what it is doing")
        time.sleep(0.1)
