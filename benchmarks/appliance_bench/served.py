"""An appliance of the bench's own with one engine, through its gateway: started, waited for, ended.

What it is: ``appliance serve`` in a temporary home over the prepared models, one settings file, and its admin key.
What it refuses to be: the appliance that runs on this machine. That is never touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from appliance_bench.gateway_rig import environment, free_port, get
from appliance_bench.records import RecordError


class Served(Struct, frozen=True):
    """Where it listens, and as whom to ask."""

    port: int
    key: str
    home: Path
    pid: int = 0


def models_dir() -> Path:
    """The prepared models."""
    home = Path(os.environ.get("APPLIANCE_HOME") or "~/.appliance").expanduser().absolute()
    return home / "models"


@contextlib.contextmanager
def served(engines: str, names: tuple[str, ...], ready_s: float = 240.0) -> Iterator[Served]:
    """Running while the context lasts. ``engines``: TOML. Raises RecordError with what it said last."""
    home, port = Path(tempfile.mkdtemp(prefix="ab-")), free_port()
    (home / "models").symlink_to(models_dir())
    (home / "appliance.toml").write_text(f"[server]\nport = {port}\n\n{engines}")
    with (home / "serve.out").open("wb") as out:
        process = subprocess.Popen(
            (sys.executable, "-m", "appliance", "serve"),
            env=environment({"APPLIANCE_HOME": str(home)}),
            cwd=home, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        until = time.monotonic() + ready_s
        while not (all(_phase(home, name) == "ready" for name in names) and _answers(port)):
            if process.poll() is not None or time.monotonic() > until:
                said = (home / "serve.out").read_text(errors="replace")[-1500:]
                raise RecordError(f"the appliance that was to be measured did not start; it said: {said}")
            time.sleep(0.1)
        yield Served(port, (home / "admin.key").read_text().strip(), home, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _answers(port: int) -> bool:
    """The gateway knows too: it reads the engines' states four times a second."""
    try:
        get(f"http://127.0.0.1:{port}/health/ready")
    except OSError:
        return False
    return True


def _phase(home: Path, name: str) -> str | None:
    try:
        found = json.loads((home / "run" / f"{name}.json").read_text())
    except (OSError, ValueError):
        return None
    return str(found.get("phase"))
