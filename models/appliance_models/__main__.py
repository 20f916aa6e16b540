"""``python -m appliance_models ensure [--models-dir DIR] [NAME …]``: what ``make models`` calls.

What it refuses to be: the user's command line; that is ``appliance``, over the same store.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from appliance_models import catalogue
from appliance_models.errors import StoreError
from appliance_models.hub import Hub
from appliance_models.progress import Bars, Lines, Reporter
from appliance_models.store import Store


def main(arguments: Sequence[str]) -> int:
    """Install the named models, or every embedded one; 0 when all are there."""
    parser = argparse.ArgumentParser(prog="appliance_models", description="Install models from the catalogue.")
    commands = parser.add_subparsers(dest="command", required=True)
    ensuring = commands.add_parser("ensure", help="download, verify and convert what is not there")
    ensuring.add_argument("--models-dir", type=Path, default=None, help="default: APPLIANCE_HOME/models")
    ensuring.add_argument("names", nargs="*", metavar="NAME", help="default: every embedded model")
    options = parser.parse_args(arguments)
    try:
        _ensure(options.names, options.models_dir or _default_directory())
    except StoreError as e:
        print(f"models: {e}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("models: interrupted; the next run goes on from here.", file=sys.stderr)
        return 130
    return 0


def _ensure(names: Sequence[str], directory: Path) -> None:
    entries = [catalogue.load(name, own=directory) for name in names]
    if not names:
        entries = [model for model in catalogue.load_all().values() if model.embedded]
    absent = [model for model in entries if not Store(directory).sound(model)]
    if not absent:
        return
    with ExitStack() as stack:
        progress: Reporter = stack.enter_context(Bars()) if sys.stderr.isatty() else Lines()
        store = Store(directory, progress, hub=Hub.of(os.environ))
        for model in absent:
            store.ensure(model)
    for model in absent:
        print(f"models: {model.name} ({model.licence}) is in {store.path(model)}", flush=True)


def _default_directory() -> Path:
    home = Path(os.environ.get("APPLIANCE_HOME") or "~/.appliance").expanduser().absolute()
    return home / "models"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
