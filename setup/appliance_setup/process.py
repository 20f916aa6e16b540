"""Children of the set-up: run to their end, watched by a person or kept quiet.

What it is: ``run`` shows a child's own progress where stderr is a terminal (through a pseudo
terminal, so that it draws bars) and keeps the last of what it said either way.
What it refuses to be: a shell. Commands are lists.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from appliance_setup.errors import SetupError
from appliance_setup.registry import explain, scrub

_KEPT = 16_384


def run(
    command: Sequence[str], *, cwd: Path, environ: Mapping[str, str], hold: Sequence[int] = (), quiet: bool = False
) -> None:
    """Run ``command``; raise SetupError with one sentence when it fails. ``quiet`` shows nothing at all.

    ``hold``: file descriptors the child inherits. The set-up passes its file lock on, so that a
    child which outlives a killed set-up still keeps the next one out.
    """
    watched = sys.stderr.isatty() and not quiet
    reader, writer = pty.openpty() if watched else os.pipe()
    try:
        child = subprocess.Popen(
            list(command),
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            pass_fds=tuple(hold),
        )
    finally:
        os.close(writer)
    said = _drain(reader, show=watched)
    if child.wait() != 0:
        if not watched and not quiet:
            sys.stderr.write(scrub(said))
        raise SetupError(explain(said))


def _drain(reader: int, *, show: bool) -> str:
    kept = b""
    try:
        while chunk := _read(reader):
            if show:
                os.write(sys.stderr.fileno(), chunk)
            kept = (kept + chunk)[-_KEPT:]
    finally:
        os.close(reader)
    return kept.decode(errors="replace")


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 65_536)
    except OSError:  # Linux answers EIO when the last holder of a pseudo terminal is gone.
        return b""
