"""The gateway on an empty home: it makes what it needs, and says what it lacks."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from contract.stack import ROOT, free_port
from support import wait_until


@pytest.fixture
def home() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="ap-"))
    yield directory / "home"
    shutil.rmtree(directory)


def _answers(base: str, gateway: subprocess.Popen[bytes]) -> bool:
    assert gateway.poll() is None, "the gateway ended"
    try:
        return httpx.get(f"{base}/health/live", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def test_the_gateway_alone_starts_on_an_empty_home(home: Path) -> None:
    port = free_port()
    ours = {k: v for k, v in os.environ.items() if not k.startswith("APPLIANCE_")}
    env = {**ours, "PYTHONPATH": str(ROOT), "APPLIANCE_HOME": str(home), "APPLIANCE_PORT": str(port)}
    base = f"http://127.0.0.1:{port}"
    gateway = subprocess.Popen([sys.executable, "-m", "appliance", "gateway"], cwd=home.parent, env=env)
    try:
        wait_until(lambda: _answers(base, gateway), 30, "the gateway answers")
        ready = httpx.get(f"{base}/health/ready", timeout=5)
        assert ready.status_code == 503
        assert all("detail" not in engine for engine in ready.json()["engines"].values())
        key = {"authorization": f"Bearer {(home / 'admin.key').read_text().strip()}"}
        ready = httpx.get(f"{base}/health/ready", headers=key, timeout=5)
        assert all(engine["detail"] for engine in ready.json()["engines"].values())
        assert httpx.get(f"{base}/metrics", timeout=5).status_code == 401
        assert "appliance_requests_total" in httpx.get(f"{base}/metrics", headers=key, timeout=5).text
        assert stat.S_IMODE((home / "run").stat().st_mode) == 0o700
        assert stat.S_IMODE((home / "admin.key").stat().st_mode) == 0o600
        assert stat.S_IMODE((home / "run" / "control.sock").stat().st_mode) == 0o600
    finally:
        gateway.terminate()
        assert gateway.wait(15) == 0
