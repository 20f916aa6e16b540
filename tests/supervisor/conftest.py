"""Short homes (Unix sockets end at 108 bytes) and supervisors that are gone when a test ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty APPLIANCE_HOME with a short path."""
    path = Path(tempfile.mkdtemp(prefix="ap-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    """The environment of a process under test: this home, the source tree, no settings of the developer's."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("APPLIANCE_")}
    return {**kept, "APPLIANCE_HOME": str(home), "PYTHONPATH": f"{ROOT}:{ROOT / 'models'}"}


Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spawn(environ: dict[str, str], home: Path) -> Iterator[Spawn]:
    """``spawn("-m", "appliance", …)``: a Python process in a session of its own, ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            (sys.executable, *arguments),
            env={**environ, **env},
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in started:
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
