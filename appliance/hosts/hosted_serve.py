"""The hosted process: command line, key, serving, stopping.

What it is: what ``python -m appliance.hosts.hosted --engine NAME --socket PATH`` runs. Everything else is read from
``appliance.toml`` of its own ``APPLIANCE_HOME``, the key from its file: neither is ever on a command line.
What it refuses to be: started by somebody who may not decide where data goes: region, models and caps are this
process' own settings, and permits are held against them.
Cost: ready 2 s after its start (importing google-genai), 92 MB.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from appliance.hosts.hosted_app import Host, Shape, create_app
from appliance.hosts.hosted_client import CannotConnect, Endpoint, base_url, connected, read_secret
from appliance.hosts.hosted_permits import NUSD, Checks, Own
from appliance.hosts.serving import check_socket, serve, stoppable
from appliance.logs import set_up
from appliance.permit_keys import PermitKeyError, checking_key
from appliance.settings import EngineSettings, Settings, SettingsError, load_settings

REFUSED = 2
"""Exit code for arguments that cannot be used, as argparse has it: the supervisor does not start this again."""


def build(settings: Settings, engine: EngineSettings, environ: Mapping[str, str]) -> Host:
    """All parts of a host. Raises CannotConnect or PermitKeyError for a key that cannot be used."""
    hosted, server = engine.hosted, settings.server
    endpoint = Endpoint(
        base_url=base_url(hosted.region, hosted.vertex_project, engine.url),
        region=hosted.region,
        project=hosted.vertex_project,
        proxy=hosted.proxy,
        silence_s=server.engine_silence_s,
        whole_s=server.request_deadline_s,
    )
    secret = read_secret(str(engine.api_key_file), environ)
    own = Own(
        region=hosted.region,
        models=engine.models,
        tenants=hosted.tenants,
        redacted_only=hosted.redacted_only,
        call_cap_nusd=round(hosted.max_usd_per_call * NUSD),
        day_cap_nusd=round(hosted.max_usd_per_day * NUSD),
        started_ms=now_ms(),
    )
    shape = Shape(
        models=engine.models,
        region=hosted.region,
        max_output_tokens=hosted.max_output_tokens,
        max_at_once=hosted.max_at_once,
        deadline_s=server.request_deadline_s,
        check=hosted.check,
    )
    checks = Checks(checking_key(settings.home, hosted.permit_key), own, now_ms)
    return Host(partial(connected, endpoint, secret), checks, shape, time.time)


def now_ms() -> int:
    """Unix milliseconds, which permits are dated in."""
    return time.time_ns() // 1_000_000


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m appliance.hosts.hosted", description="Serve hosted Gemini models.")
    p.add_argument("--engine", required=True, help="its name in appliance.toml")
    p.add_argument("--socket", type=Path, required=True, help="Unix socket to listen on, at most 100 bytes long")
    p.add_argument("--drain-s", type=float, default=20.0, help="how long running requests may finish after SIGTERM")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Read the settings, listen, serve until SIGTERM."""
    args = parser().parse_args(argv)
    check_socket(args.socket)
    set_up("hosted", "text")
    for noisy in ("httpx2", "httpcore2", "google_genai", "google.auth"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    stoppable()
    try:
        settings = load_settings(os.environ)
        engine = settings.engines.get(args.engine)
        if engine is None or engine.kind != "hosted":
            raise SettingsError(f'appliance.toml has no engine {args.engine!r} of kind "hosted"; add it')
        host = build(settings, engine, os.environ)
    except (SettingsError, CannotConnect, PermitKeyError) as e:
        _unusable(str(e))
    where = f"{', '.join(engine.models)} in {engine.hosted.region} on {args.socket}"
    serve(create_app(host), args, f"hosted models {where}", mode=0o660)


def _unusable(why: str) -> NoReturn:
    print(f"hosted: error: {why}", file=sys.stderr)
    sys.exit(REFUSED)
