"""What others took of the machine's cores while something was measured.

What it is: busy time of all cores (/proc/stat) less that of this process and of everything below another. A measurement
during which strangers took more than a tenth of a core says something about them, and is not judged.
What it refuses to be: exact. Ticks are 10 ms, and a process that ends in between takes its own time for a stranger's.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MOST = 0.1  # of a core


class Watch:
    """From when it is made. ``below``: the process whose descendants are no strangers."""

    def __init__(self, below: int, proc: Path = Path("/proc")) -> None:
        self._below, self._proc = below, proc
        self._began, self._busy, self._own = time.monotonic(), self._busy_s(), self._own_s()

    def cores(self) -> float:
        """Cores that strangers kept busy since then, on average."""
        passed_s = max(time.monotonic() - self._began, 1e-3)
        return max(0.0, (self._busy_s() - self._busy - (self._own_s() - self._own)) / passed_s)

    def _busy_s(self) -> float:
        fields = (self._proc / "stat").read_text().split("\n", 1)[0].split()
        user, nice, system, _, _, irq, softirq = (int(one) for one in fields[1:8])
        return (user + nice + system + irq + softirq) / _TICKS_PER_S

    def _own_s(self) -> float:
        parents: dict[int, int] = {}
        spent: dict[int, int] = {}
        for entry in self._proc.iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    parents[int(entry.name)] = int(fields[1])
                    spent[int(entry.name)] = int(fields[11]) + int(fields[12])
        return sum(ticks for pid, ticks in spent.items() if self._ours(pid, parents)) / _TICKS_PER_S

    def _ours(self, pid: int, parents: dict[int, int]) -> bool:
        if pid == os.getpid():
            return True
        while pid > 1:
            if pid == self._below:
                return True
            pid = parents.get(pid, 0)
        return False
