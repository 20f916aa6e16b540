"""A running ``appliance serve`` with fake engines, as the tests of this folder see it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from support import wait_until

from appliance.supervisor import processes
from appliance.supervisor.network import free_port

START_S = 40.0


class Served:
    """A running ``appliance serve`` and the lines it has printed."""

    def __init__(self, home: Path, environ: dict[str, str], env: dict[str, str]) -> None:
        self.home = home
        self.port = free_port("127.0.0.1")
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            (sys.executable, "-m", "appliance", "serve"),
            env={**environ, "APPLIANCE_PORT": str(self.port), **env},
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def close(self) -> None:
        """Stop it if it still runs. Its children hold the pipe too, so the reader ends with the last of them."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def said(self, pattern: str) -> bool:
        return any(re.search(pattern, line) for line in list(self.lines))

    def wait_for(self, pattern: str, within_s: float = START_S) -> None:
        wait_until(lambda: self.said(pattern) or self.process.poll() is not None, within_s, f"it said {pattern!r}")
        assert self.said(pattern), self.lines

    def everything_below(self) -> set[int]:
        return processes.descendants(self.process.pid)

    def state(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / f"run/{name}.json").read_text())
        return found

    def supervisor_of(self, name: str) -> int:
        return int(self.state(name)["supervisor_pid"])


def configure(home: Path, **faults: str) -> None:
    toml = ""
    for name in ("chat", "second"):
        arguments = ["--fault", faults[name]] if name in faults else []
        toml += f'[engines.{name}]\nkind = "fake"\nmodel = "{name}-model"\nextra_args = {json.dumps(arguments)}\n'
    (home / "appliance.toml").write_text(toml)
