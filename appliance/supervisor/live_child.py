"""``appliance live`` under ``appliance serve``: started once the gateway listens, started again when it crashes.

What it is: one ``Child`` with reasons not to be there: no speech engine, ``[live] enabled = false``, its port taken.
What it refuses to be: needed. Where live sockets cannot be held, everything else is served all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from appliance.settings import Settings
from appliance.supervisor.child import Child
from appliance.supervisor.network import port_taken
from appliance.types import LiveState

Say = Callable[[str], None]


class LiveChild:
    """``port`` is the gateway's, as it really listens."""

    def __init__(self, settings: Settings, port: int, env: Mapping[str, str], say: Say) -> None:
        self._settings = settings
        self._say = say
        self._port = settings.live.port or port + 1
        self._looked = False
        log = settings.logs_dir / "live.log"
        self.child = Child("live", ("live", "--port", str(self._port)), env, log)

    @property
    def running(self) -> bool:
        """Whether it has a process."""
        return bool(self.child.pid) and self.child.exited() is None

    @property
    def phase(self) -> str:
        """As of an engine; ``off`` where it is not to be there."""
        return self.child.phase if self._looked and self.child.phase != "due" else "off"

    def tend(self, now: float) -> None:
        """One round, while the gateway listens."""
        if not self._looked:
            self._looked = True
            if self._may_start():
                self.child.start(now)
            return
        if (code := self.child.exited()) is not None:
            self.child.after_exit(code, now)
            again = (
                f"starting it again in {self.child.due_at - now:g} s" if self.child.phase == "waiting" else "given up"
            )
            log = self._settings.logs_dir / "live.log"
            self._say(f"live: ended with exit code {code}, see {log}; {again}")
        elif self.child.phase == "waiting" and now >= self.child.due_at:
            self.child.start(now)
        elif self.child.phase == "starting":
            state = read_live(self._settings.run)
            if state is not None and state.pid == self.child.pid:
                self.child.phase = "ready"
                self._say(f"live: ws://{state.address}/v1/realtime")

    def _may_start(self) -> bool:
        if not self._settings.live.enabled or all(e.task != "transcribe" for e in self._settings.engines.values()):
            return False
        host = self._settings.server.host
        why = port_taken(host, self._port) if self._port < 65536 else "there is no such port"
        if why:
            self._say(f"live: cannot listen on {host}:{self._port} ({why}), so no live audio; set [live] port")
        return not why


def read_live(run: Path) -> LiveState | None:
    """``run/live.json``; None where no live process has said where it is."""
    try:
        return msgspec.json.decode((run / "live.json").read_bytes(), type=LiveState)
    except (OSError, msgspec.DecodeError):
        return None
