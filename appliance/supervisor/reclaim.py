"""Memory after an engine has ended: did it give back what it held?

What it is: what the processes of an engine hold (RAM, or the GPU by nvidia-smi), and a wait until that is free again.
An engine whose processes are gone can still hold a GPU (a wedged driver; vllm #42017).
What it refuses to be: the memory plan, which shares a machine out; this looks at one engine's processes.
What it costs: a walk over ``/proc``, and 50 ms a call of nvidia-smi where there is one; only around a swap.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

MIB = 1024 * 1024
_GIVEN_BACK = 0.8
_SMI_TIMEOUT_S = 20.0


def _smi(query: str) -> list[list[str]]:
    """Rows of one nvidia-smi query; none on a machine without."""
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        done = subprocess.run(
            ("nvidia-smi", f"--query-{query}", "--format=csv,noheader,nounits"),
            capture_output=True, text=True, timeout=_SMI_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]


def _mib(cell: str) -> int:
    return int(cell) * MIB if cell.isdigit() else 0


def on_gpu() -> bool:
    """Whether engines of this machine live on a GPU."""
    return bool(_smi("gpu=index"))


def held_bytes(pids: set[int]) -> int:
    """RAM that ``pids`` hold, shared pages counted once each (PSS)."""
    total = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue
    return total


def gpu_bytes(pids: set[int]) -> int:
    """GPU memory that the driver says ``pids`` hold."""
    rows = _smi("compute-apps=pid,used_memory")
    return sum(_mib(row[1]) for row in rows if len(row) == 2 and row[0].isdigit() and int(row[0]) in pids)


class Holding:
    """What an engine holds now, to be asked for again once it is gone."""

    def __init__(self, pids: set[int]) -> None:
        self._pids = set(pids)
        self.gpu_bytes = gpu_bytes(pids)
        self.ram_bytes = 0 if self.gpu_bytes else held_bytes(pids)

    @property
    def bytes(self) -> int:
        """On the GPU where it lives there, else in RAM."""
        return self.gpu_bytes or self.ram_bytes

    def given_back(self, within_s: float, sleep: Callable[[float], None] = time.sleep) -> str:
        """Wait until the memory is free again; empty when it is, else half a sentence. Blocks."""
        give_up = time.monotonic() + within_s
        while True:
            left = gpu_bytes(self._pids) if self.gpu_bytes else held_bytes(self._alive())
            if left <= (1 - _GIVEN_BACK) * self.bytes:
                return ""
            if time.monotonic() >= give_up:
                where = "GPU" if self.gpu_bytes else "RAM"
                return f"{left / 1e9:.1f} GB of {where} were not given back within {within_s:g} s (GPU wedged?)"
            sleep(0.1)

    def _alive(self) -> set[int]:
        return {pid for pid in self._pids if os.path.exists(f"/proc/{pid}/smaps_rollup")}
