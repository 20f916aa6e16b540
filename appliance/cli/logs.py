"""``appliance logs ENGINE``."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import BinaryIO

import click

from appliance.cli.common import Failure, settings_or_exit
from appliance.settings import Settings
from appliance.supervisor import files
from appliance.supervisor.exits import Exit

_LOOK_S = 0.25


@click.command()
@click.argument("engine")
@click.option("-n", "--lines", default=50, show_default=True, type=click.IntRange(0), help="How many lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is added, through restarts, until Ctrl-C.")
@click.option("--supervisor", is_flag=True, help="What its supervisor said under `appliance serve`.")
def logs(engine: str, lines: int, follow: bool, supervisor: bool) -> None:
    """Print the end of ENGINE's log."""
    settings = settings_or_exit()
    if engine not in settings.engines:
        known = ", ".join(sorted(settings.engines)) or "none"
        raise Failure(f"no engine {engine!r} in appliance.toml; configured: {known}", Exit.BAD_ARGUMENTS)
    path = settings.logs_dir / f"{engine}.supervisor.log" if supervisor else _log_of(settings, engine)
    try:
        file = path.open("rb")
    except OSError:
        raise Failure(f"{path} is not there: {engine} has not been started yet") from None
    with file:
        sys.stdout.buffer.write(b"".join(deque(file, maxlen=lines)))
        sys.stdout.buffer.flush()
        if follow:
            try:
                _follow(file, path)
            except (KeyboardInterrupt, BrokenPipeError):
                return


def _log_of(settings: Settings, engine: str) -> Path:
    """The log of the slot that answers: a swapped engine may live in its second place."""
    state = files.read_state(settings.run / f"{engine}.json")
    slot = Path(state.address).stem if state is not None else engine
    return settings.logs_dir / f"{slot}.log"


def _follow(file: BinaryIO, path: Path) -> None:
    """What is added, and what is added to the file that takes this one's place when it is turned over."""
    while True:
        data = file.read()
        if data:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            continue
        try:
            now, then = path.stat(), os.fstat(file.fileno())
        except FileNotFoundError:
            time.sleep(_LOOK_S)
            continue
        if (now.st_ino, now.st_dev) != (then.st_ino, then.st_dev):
            file = path.open("rb")
        elif now.st_size < file.tell():  # cut in place
            file.seek(0)
        else:
            time.sleep(_LOOK_S)
