"""A running ``appliance serve`` as the tests of this folder see it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.supervisor import processes


@dataclass
class Appliance:
    """A running ``appliance serve``. ``base_url`` is what OpenAI clients take; ``log`` is what it printed."""

    process: subprocess.Popen[bytes]
    home: Path
    port: int

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def admin_key(self) -> str:
        return (self.home / "admin.key").read_text().strip()

    @property
    def log(self) -> str:
        return (self.home / "serve.out").read_text(errors="replace")

    def state(self, engine: str) -> dict[str, Any]:
        """What ``run/ENGINE.json`` says, ``{"phase": None}`` before there is one."""
        try:
            found: dict[str, Any] = json.loads((self.run / f"{engine}.json").read_text())
        except FileNotFoundError:
            return {"phase": None}
        return found

    def below(self) -> set[int]:
        """Every live process of it, without ``serve`` itself."""
        return processes.descendants(self.process.pid)

    def engine_log(self, engine: str) -> str:
        return (self.home / f"logs/{engine}.log").read_text(errors="replace")


def make_home(models_dir: Path) -> Path:
    """A home with a short path (Unix sockets end at 108 bytes) over the prepared models."""
    home = Path(tempfile.mkdtemp(prefix="ap-"))
    (home / "models").symlink_to(models_dir)
    return home
