"""``appliance live``."""

from __future__ import annotations

import os

import click

from appliance.cli.common import settings_or_exit


@click.command()
@click.option("--host", default=None, help="Where to listen; default: the gateway's host.")
@click.option("--port", type=int, default=None, help="Default: the gateway's port plus one.")
@click.option("--gateway", default=None, help="The gateway's base URL; default: what appliance.toml says.")
def live(host: str | None, port: int | None, gateway: str | None) -> None:
    """Hold live transcription sessions: WS /v1/realtime, in a process of its own in front of the gateway."""
    from appliance.hosts.live import serve_live
    from appliance.notify import Notifier

    settings = settings_or_exit()
    server = settings.server
    local = "127.0.0.1" if server.host in ("0.0.0.0", "::") else server.host
    url = gateway or f"http://{f'[{local}]' if ':' in local else local}:{server.port}"
    where, port = host or server.host, port or settings.live_port
    click.echo(f"live: ws://{where}:{port}/v1/realtime, through {url}")
    serve_live(settings, where, port, url, Notifier.take(os.environ))
