"""What every host's process does alike: the arguments of those that hear, its socket, serving until SIGTERM.

What it is: the tail of ``whisper_serve``, ``conformer_serve`` and ``translate_serve``. A host loads its model, decodes
something real, and only then listens, so that a socket that answers is an engine that works.
What it refuses to be: a supervisor.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette

if TYPE_CHECKING:
    from appliance.hosts.whisper_app import AppLimits

MODEL_MISSING = 66
"""Exit code that tells the supervisor not to start this again; a test holds it to ``supervisor.exits``."""


def common_arguments(p: argparse.ArgumentParser) -> None:
    """Of speech hosts: where the model is, where to listen, and how much to hold."""
    from appliance.hosts.whisper_app import AppLimits  # with NumPy behind it, which hosts without sound do without

    p.add_argument("--socket", type=Path, required=True, help="Unix socket to listen on, at most 100 bytes long")
    p.add_argument("--model-dir", type=Path, required=True, help="directory of the model")
    p.add_argument("--model-name", required=True, help="name the model is known by")
    p.add_argument("--threads", type=int, default=0, help="CPU threads in all; 0 = every core this process may use")
    p.add_argument("--max-wait-ms", type=float, default=15.0, help="how long a window waits for company")
    p.add_argument("--max-audio-bytes", type=int, default=AppLimits.max_body_bytes, help="largest upload")
    p.add_argument("--max-audio-s", type=int, default=4 * 3600, help="longest upload")
    p.add_argument("--max-queued-audio-s", type=float, default=4 * 3600.0, help="audio held before refusing more")
    p.add_argument("--drain-s", type=float, default=20.0, help="how long running requests may finish after SIGTERM")


def bounds(args: argparse.Namespace) -> AppLimits:
    """What the command line says of sizes."""
    from appliance.hosts.whisper_app import AppLimits

    return AppLimits(max_body_bytes=args.max_audio_bytes, max_held_audio_s=args.max_queued_audio_s)


def check_socket(path: Path) -> None:
    """Exit where the kernel would refuse the address."""
    if len(os.fsencode(path)) > 100:
        sys.exit(f"the socket path {path} is longer than 100 bytes; choose a shorter directory")


def stoppable() -> None:
    """Before the server runs, a signal ends the process; uvicorn takes over, drains, and raises it once more."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)


def _stop(signum: int, frame: object) -> None:
    sys.exit(0)


def listen(path: Path, mode: int = 0o600) -> socket.socket:
    """A listening Unix socket that only this user can open (or by ``mode``); a stale one at ``path`` is replaced."""
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~mode)
    try:
        server.bind(str(path))
    finally:
        os.umask(before)
    server.listen(1024)
    return server


def serve(app: Starlette, args: argparse.Namespace, ready: str, mode: int = 0o600) -> None:
    """Listen and serve; ``ready`` is logged once the socket is there."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=max(1, round(args.drain_s)),
    )
    listener = listen(args.socket, mode)
    logging.getLogger(__name__).info(ready)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        args.socket.unlink(missing_ok=True)
