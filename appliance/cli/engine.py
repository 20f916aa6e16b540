"""``appliance engine …``."""

from __future__ import annotations

import os
import sys

import click

from appliance.cli.common import settings_or_exit


@click.group()
def engine() -> None:
    """One engine at a time."""


@engine.command("run")
@click.argument("name")
def run(name: str) -> None:
    """Supervise engine NAME to its end. The exit code says whether to run it again.

    \b
    0  stopped, as asked        70  crashed      (run it again)
    64 bad arguments            71  killed       (run it again)
    66 model missing            73  never ready  (run it again)
    69 socket or engine taken
    """
    from appliance.supervisor.run import run_engine

    sys.exit(run_engine(settings_or_exit(), name, os.environ))
