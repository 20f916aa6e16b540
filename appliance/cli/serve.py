"""``appliance serve``."""

from __future__ import annotations

import os
import sys

import click

from appliance.cli.common import settings_or_exit


@click.command()
def serve() -> None:
    """Run the gateway and every engine on this machine, in the foreground."""
    from appliance.supervisor.serve import serve as run

    sys.exit(run(settings_or_exit(), os.environ))
