"""``appliance gateway``."""

from __future__ import annotations

import sys

import click

from appliance.cli.common import settings_or_exit


@click.command()
def gateway() -> None:
    """Run the HTTP API alone. Engines are started separately (`appliance engine run NAME`)."""
    from appliance.app import serve_gateway

    sys.exit(serve_gateway(settings_or_exit()))
