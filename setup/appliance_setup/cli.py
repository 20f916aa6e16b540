"""The commands that make calls: ``install [--dev]``, ``lock [--upgrade]``.

What it refuses to be: chatty. One line a step, one sentence a failure, exit code 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from appliance_setup.compile import compile_locks
from appliance_setup.errors import SetupError
from appliance_setup.install import install

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(prog="setup", description="Set up the appliance's .venv from its locks.")
    commands = parser.add_subparsers(dest="command", required=True)
    installing = commands.add_parser("install", help="bring .venv to what the locks say")
    installing.add_argument("--dev", action="store_true", help="with the tools of tests and checks")
    locking = commands.add_parser("lock", help="compile the locks from pyproject.toml")
    locking.add_argument("--upgrade", action="store_true", help="move every package to its newest version")
    options = parser.parse_args(arguments)
    environ = dict(os.environ)
    try:
        if options.command == "install":
            install(ROOT, dev=options.dev, environ=environ, say=_say)
        else:
            compile_locks(ROOT, upgrade=options.upgrade, environ=environ, say=_say)
    except SetupError as e:
        print(f"setup: {e}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; the next run goes on from here.", file=sys.stderr)
        return 130
    return 0


def _say(text: str) -> None:
    print(f"setup: {text}", flush=True)
