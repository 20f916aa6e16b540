"""What processes hold, and whether it came back; a driver that says it did not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.supervisor.reclaim import MIB, Holding

SMI = """#!/bin/sh
case "$1" in
  --query-gpu=*) printf '%s\\n' 1000 30000 ;;
  --query-compute-apps=*) cat {apps} ;;
esac
"""


@pytest.fixture
def apps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose nvidia-smi lists the processes in this file."""
    found = tmp_path / "apps"
    found.write_text("")
    smi = tmp_path / "nvidia-smi"
    smi.write_text(SMI.format(apps=found))
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return found


def test_ram_of_a_process_comes_back_when_it_is_gone() -> None:
    code = "import sys; b = bytearray(64 << 20); print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen((sys.executable, "-c", code), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        holding = Holding({child.pid})
        assert holding.bytes > 64 * MIB
        assert "were not given back within 0 s" in holding.given_back(0.0)
        child.kill()
    assert holding.given_back(1.0) == ""


def test_a_gpu_that_keeps_the_memory_of_a_dead_process_is_told(apps: Path) -> None:
    apps.write_text("4242, 20000\n77, 5\n")
    holding = Holding({4242})
    assert holding.bytes == 20_000 * MIB
    assert holding.given_back(0.0) == "21.0 GB of GPU were not given back within 0 s (GPU wedged?)"
    slept: list[float] = []

    def freed_meanwhile(seconds: float) -> None:
        slept.append(seconds)
        apps.write_text("77, 5\n")

    assert holding.given_back(30.0, freed_meanwhile) == ""
    assert len(slept) == 1
